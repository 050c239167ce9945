#!/usr/bin/env bash
# Prints what the agent costs, with its default set and with everything on, on this machine and on a host of files
# with 8 cores, 12 mounts, 40 interfaces and 30 containers (scripts/agent-cost-host.py): system calls a collection,
# CPU time a minute, resident memory, bytes on the wire and stored a minute, at one collection every 10 s. Beside it, where
# apt has them, node_exporter with one scrape every 10 s, and collectd. Needs strace, curl, ss and python3.
#   COST_SECS=60 scripts/agent-cost.sh [AGENT SERVER]     built programs; without them they are built
set -euo pipefail
cd "$(dirname "$0")/.."
# In a namespace of its own, whose mounts go with it.
if [ -z "${COST_INSIDE:-}" ] && unshare -m true 2>/dev/null; then
  export COST_INSIDE=1
  exec unshare -m "scripts/${0##*/}" "$@"
fi
secs=${COST_SECS:-60}
if [ $# -eq 2 ]; then
  agent_bin=$(realpath "$1") server_bin=$(realpath "$2")
else
  . scripts/env.sh
  scripts/build.sh
  agent_bin=$CARGO_TARGET_DIR/release/oxmon-agent server_bin=$CARGO_TARGET_DIR/release/oxmon-server
fi
work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  umount "$work"/host/root/mnt* 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
calls() { # PID SECONDS: all system calls of all threads
  timeout --signal=INT "$2" strace -f -c -o "$work/strace" -p "$1" 2>/dev/null || true
  [ -z "${COST_CALLS:-}" ] || cat "$work/strace" >&2
  awk '$NF == "total" { print $4 }' "$work/strace"
}
row() { printf '%-34s %12s %12s %10s %12s %12s\n' "$@"; }

# Stored bytes of so many collections: the day's file grows by pages, so it takes a run at 1 s.
stored() { # CONFIG: bytes a collection
  local grpc http server agent
  grpc=$(port) http=$(port)
  printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/stored"\n' "$grpc" "$http" "$work" >"$work/stored.toml"
  "$server_bin" "$work/stored.toml" 2>/dev/null & server=$!
  sleep 2
  sed -e "s/^server_endpoint.*/server_endpoint = \"127.0.0.1:$grpc\"/" -e 's/^collection_interval_secs.*/collection_interval_secs = 1/' "$1" >"$work/fast.toml"
  "$agent_bin" "$work/fast.toml" 2>/dev/null & agent=$!
  sleep "$secs"
  kill "$agent"; wait "$agent" 2>/dev/null || true
  kill "$server"; wait "$server" 2>/dev/null || true
  cat "$work"/stored/20*.db | wc -c | awk -v n="$secs" '{ printf "%.0f", $1 / n }'
  rm -rf "$work/stored"
}

measure() { # NAME CONFIG
  "$agent_bin" "$2" 2>"$work/agent.log" & local agent=$!
  pids+=("$agent")
  sleep 23
  local sent cpu n
  wire() { ss -tinp 2>/dev/null | grep -A1 "pid=$agent," | grep -o 'bytes_sent:[0-9]*' | head -n 1 | cut -d: -f2; }
  cpu=$(cpu_ns "$agent") sent=$(wire)
  sleep "$secs"
  cpu=$(($(cpu_ns "$agent") - cpu)) sent=$(($(wire) - sent))
  n=$(calls "$agent" 60)
  row "$1" "$(awk -v n="$n" 'BEGIN { printf "%.0f", n / 6 }')" \
    "$(awk -v c="$cpu" -v s="$secs" 'BEGIN { printf "%.1f", c / 1e6 / s * 60 }')" "$(rss_kib "$agent")" \
    "$(awk -v b="$sent" -v s="$secs" 'BEGIN { printf "%.0f", b / s * 60 }')" \
    "$(awk -v b="$(stored "$2")" 'BEGIN { printf "%.0f", b * 6 }')"
  kill "$agent"; wait "$agent" 2>/dev/null || true
}

grpc=$(port) http=$(port)
printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\n' "$grpc" "$http" "$work" >"$work/server.toml"
"$server_bin" "$work/server.toml" 2>"$work/server.log" & pids+=($!)
python3 scripts/agent-cost-host.py "$work/host" run & pids+=($!)
sleep 3
config() { # NAME, what is added
  printf 'agent_id = "%s"\nserver_endpoint = "127.0.0.1:%s"\ncollection_interval_secs = 10\n%s\n' "$1" "$grpc" "$2" >"$work/$1.toml"
}
# The names of this source tree, as far as the agent knows them.
all=$(sed -n '/pub const COLLECTORS/,/];/s/^ *\("[a-z]*"\),$/\1/p' src/agent/config.rs | paste -sd,)
mkdir -p "$work/text"
printf 'backup_bytes 4096\n' >"$work/text/a.prom"
files="proc_root = \"$work/host/proc\"
sys_root = \"$work/host/sys\"
root = \"$work/host/root\""
more="units = [\"nginx.service\", \"ssh.service\"]
processes = [\"postgres\", \"nginx\"]
textfile_dir = \"$work/text\""
enable="[collectors]
enable = [$all]"
config default ""
config everything "$more
$enable"
config files-default "$files"
config files-everything "$files
$more
$enable"
row program calls CPU-ms/min RSS-KiB wire-B/min stored-B/min
measure "agent, this machine, default" "$work/default.toml"
measure "agent, this machine, everything" "$work/everything.toml"
measure "agent, host of files, default" "$work/files-default.toml"
measure "agent, host of files, everything" "$work/files-everything.toml"

# Others, unpacked into a folder: nothing is installed.
fetch() { (cd "$work" && apt-get download "$1" >/dev/null 2>&1 && dpkg -x "$1"_*.deb "$work/$1"); }
if fetch prometheus-node-exporter; then
  at=$(port)
  "$work/prometheus-node-exporter/usr/bin/prometheus-node-exporter" --web.listen-address="127.0.0.1:$at" 2>/dev/null & other=$!
  pids+=("$other")
  scrape() { while sleep 10; do curl -fs "http://127.0.0.1:$at/metrics" >/dev/null || true; done; }
  scrape & pids+=($!)
  sleep 23
  cpu=$(cpu_ns "$other")
  sleep "$secs"
  cpu=$(($(cpu_ns "$other") - cpu))
  size=$(curl -fs "http://127.0.0.1:$at/metrics" | wc -c)
  n=$(calls "$other" 60)
  row "node_exporter, this machine" "$((n / 6))" "$(awk -v c="$cpu" -v s="$secs" 'BEGIN { printf "%.1f", c / 1e6 / s * 60 }')" \
    "$(rss_kib "$other")" "$((size * 6))" -
else
  echo "node_exporter: not in apt here"
fi
if fetch collectd-core; then
  at=$work/collectd-core
  printf 'Interval 10\nPluginDir "%s/usr/lib/collectd"\nTypesDB "%s/usr/share/collectd/types.db"\nPIDFile "%s/collectd.pid"\nBaseDir "%s"\n' "$at" "$at" "$work" "$work" >"$work/collectd.conf"
  for plugin in cpu memory df interface load disk swap processes tcpconns uptime csv; do echo "LoadPlugin $plugin"; done >>"$work/collectd.conf"
  "$at/usr/sbin/collectd" -f -C "$work/collectd.conf" >"$work/collectd.log" 2>&1 & other=$!
  pids+=("$other")
  sleep 23
  if [ -d "/proc/$other" ]; then
    cpu=$(cpu_ns "$other")
    sleep "$secs"
    cpu=$(($(cpu_ns "$other") - cpu))
    n=$(calls "$other" 60)
    row "collectd, this machine" "$((n / 6))" "$(awk -v c="$cpu" -v s="$secs" 'BEGIN { printf "%.1f", c / 1e6 / s * 60 }')" "$(rss_kib "$other")" - -
  else
    echo "collectd does not start here: $(tail -n 1 "$work/collectd.log")"
  fi
else
  echo "collectd: not in apt here"
fi
fetch telegraf || echo "Telegraf: not in apt here"
