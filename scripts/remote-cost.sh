#!/usr/bin/env bash
# Prints what sending samples on to an engine costs the server: ingest without [remote], then with it and an
# nginx that takes every request and forgets it, then with a VictoriaMetrics, and the CPU seconds for a million
# points of each. The engine and the load generator share the cores, so that nginx shows the server's own part.
#   BENCH_SECS=30 BENCH_RUNS=3 BENCH_AGENTS=1000 BENCH_EVERY_MS=0 scripts/remote-cost.sh [BIN_DIR]
# BENCH_EVERY_MS=10000: each agent reports every 10 s, as real ones do, and not as fast as it is answered.
# BIN_DIR has oxmon-server and oxmon-mock; without it they are built with the release profile.
set -euo pipefail
cd "$(dirname "$0")/.."
secs=${BENCH_SECS:-30} runs=${BENCH_RUNS:-3} agents=${BENCH_AGENTS:-1000} every=${BENCH_EVERY_MS:-0}
if [ $# -gt 0 ]; then
  bin=$1
else
  scripts/setup.sh test
  # shellcheck disable=SC1091
  . scripts/env.sh
  scripts/build.sh
  bin=$CARGO_TARGET_DIR/release
fi
command -v victoria-metrics >/dev/null || { echo "victoria-metrics not found: scripts/setup.sh test" >&2; exit 1; }
echo "machine: $(nproc) cores, $(uname -sr); $(victoria-metrics -version 2>&1 | head -n 1)"

work=$(mktemp -d)
server='' engine=''
stop() { for pid in "$@"; do [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true; done; }
trap 'stop "$server" "$engine"; rm -rf "$work"' EXIT
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
# CPU seconds and peak memory (MB) of a process so far.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / hz }' "/proc/$1/stat"; }
peak() { awk '/VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$1/status"; }

run() {
  local remote=$1 grpc http vm token points used sent
  grpc=$(port) http=$(port) vm=$(port)
  rm -rf "$work/data" "$work/vm"
  printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\nlog_level = "warn"\n' "$grpc" "$http" "$work" >"$work/server.toml"
  if [ "$remote" = nginx ]; then
    cat >"$work/nginx.conf" <<EOF
daemon off; worker_processes 1; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 64; }
http { access_log off; client_max_body_size 64m; client_body_buffer_size 64m; client_body_temp_path $work/body;
  proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi; uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
  server { listen 127.0.0.1:$vm; location / { return 204; } } }
EOF
    /usr/sbin/nginx -e "$work/nginx.log" -c "$work/nginx.conf" & engine=$!
  elif [ "$remote" = victoria-metrics ]; then
    victoria-metrics -httpListenAddr="127.0.0.1:$vm" -storageDataPath="$work/vm" -dedup.minScrapeInterval=1ms >"$work/vm.log" 2>&1 & engine=$!
  fi
  if [ "$remote" != none ]; then
    for _ in $(seq 100); do curl -fs "http://127.0.0.1:$vm/health" >/dev/null && break; sleep 0.1; done
    printf '[remote]\nwrite_urls = ["http://127.0.0.1:%s/api/v1/write"]\n' "$vm" >>"$work/server.toml"
  fi
  "$bin/oxmon-server" "$work/server.toml" 2>"$work/server.log" & server=$!
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$http/v1/health" >/dev/null && break; sleep 0.1; done
  "$bin/oxmon-mock" bench --server "127.0.0.1:$grpc" --http "http://127.0.0.1:$http" --pid "$server" \
    --agents "$agents" --seconds "$secs" --mode packed --points 60 --seed 1 --every-ms "$every" | sed 's/^/  /'
  token=$(curl -fs -H 'Content-Type: application/json' -d '{"username":"admin","password":"changeme"}' \
    "http://127.0.0.1:$http/v1/auth/login" | python3 -c 'import json,sys; print(json.load(sys.stdin)["data"]["token"])')
  figure() { curl -fs -H "Authorization: Bearer $token" "http://127.0.0.1:$http/metrics" | awk -v name="$1" 'index($0, name) == 1 { print int($NF) }'; }
  points=$(figure oxmon_storage_points_total)
  if [ "$remote" != none ]; then
    echo "  lag at the end: $(figure 'oxmon_remote_lag_seconds') s, $(figure oxmon_remote_queued_samples) samples queued," \
      "$(figure 'oxmon_remote_overflowed_samples_total') overflowed"
    # What is under way is part of the cost.
    for _ in $(seq 600); do
      [ "$(figure oxmon_remote_queued_samples)" = 0 ] && [ "$(figure 'oxmon_remote_gaps{')" = 0 ] && break
      sleep 0.5
    done
    sent=$(figure 'oxmon_remote_sent_samples_total')
  fi
  used=$(cpu "$server")
  echo "  $points points stored${sent:+, $sent sent}, $used CPU s, $(peak "$server") MB peak"
  python3 -c "print('  CPU s per million points: %.2f' % ($used / $points * 1e6))"
  stop "$server" "$engine"
  server='' engine=''
}

for n in $(seq "$runs"); do
  for remote in none nginx victoria-metrics; do
    echo "engine: $remote, $agents agents, run $n of $runs"
    run "$remote"
  done
done
