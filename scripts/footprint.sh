#!/usr/bin/env bash
# Measures a running agent: size, memory, CPU and system calls, at one interval.
#   scripts/footprint.sh AGENT SERVER INTERVAL_SECS MEASURE_SECS
# Prints `name value` lines. AGENT and SERVER are built binaries, as they ship.
set -euo pipefail
[ $# -eq 4 ] || { echo "usage: scripts/footprint.sh AGENT SERVER INTERVAL_SECS MEASURE_SECS" >&2; exit 2; }
agent_bin=$1 server_bin=$2 interval=$3 seconds=$4

work=$(mktemp -d)
server='' agent=''
cleanup() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
grpc=$(port) http=$(port)
printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\n' "$grpc" "$http" "$work" >"$work/server.toml"
printf 'agent_id = "footprint"\nserver_endpoint = "127.0.0.1:%s"\ncollection_interval_secs = %s\n' "$grpc" "$interval" >"$work/agent.toml"
"$server_bin" "$work/server.toml" 2>"$work/server.log" & server=$!
for _ in $(seq 100); do curl -fs "http://127.0.0.1:$http/v1/health" >/dev/null && break; sleep 0.1; done
"$agent_bin" "$work/agent.toml" 2>"$work/agent.log" & agent=$!

# The first ticks connect and warm up; they are not what a day looks like.
sleep $((interval * 2 + 3))
hertz=$(getconf CLK_TCK)
cpu() { awk -v hz="$hertz" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"; }
# Run time in nanoseconds from the scheduler, summed over threads: finer than clock ticks.
cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
before=$(cpu_ns "$agent")
sleep "$seconds"
after=$(cpu_ns "$agent")
awk -v a="$before" -v b="$after" -v s="$seconds" 'BEGIN { printf "agent_cpu_ms_per_min %.1f\n", (b - a) / 1e6 / s * 60 }'
awk '/^VmRSS/ { print "agent_rss_kib", $2 } /^RssAnon/ { print "agent_rss_anon_kib", $2 } /^Threads/ { print "agent_threads", $2 }' "/proc/$agent/status"
awk '/^Pss:/ { print "agent_pss_kib", $2 }' "/proc/$agent/smaps_rollup"
awk '/^VmRSS/ { print "server_rss_kib", $2 }' "/proc/$server/status"
echo "agent_size_bytes $(stat -c %s "$agent_bin")"
echo "server_size_bytes $(stat -c %s "$server_bin")"

# A tick's system calls: all calls of all threads over a minute of whole intervals, with what runs once a minute.
ticks=$(((60 + interval - 1) / interval))
timeout --signal=INT $((ticks * interval)) strace -f -c -o "$work/strace" -p "$agent" 2>/dev/null || true
awk -v ticks="$ticks" '$NF == "total" { printf "agent_syscalls_per_collection %.1f\n", $4 / ticks }' "$work/strace"
[ -z "${FOOTPRINT_CALLS:-}" ] || cat "$work/strace" >&2
echo "server_cpu_secs $(cpu "$server")"
