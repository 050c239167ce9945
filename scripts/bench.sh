#!/usr/bin/env bash
# Prints what both daemons do and cost, on this machine, with the release profile that ships:
# ingest with 100 and 1,000 simulated agents, and the agent's footprint at 10 s and at 1 s.
#   BENCH_SECS=30 BENCH_RUNS=3 scripts/bench.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/env.sh
secs=${BENCH_SECS:-30} runs=${BENCH_RUNS:-3}
scripts/build.sh
bin=$CARGO_TARGET_DIR/release
echo "machine: $(nproc) cores, $(uname -sr), $(rustc --version)"

server=''
work=$(mktemp -d)
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# Each run has a server and a folder of its own; the generator shares the cores with it.
ingest() {
  local mode=$1 agents=$2 grpc http
  grpc=$(port) http=$(port)
  rm -rf "$work/data"
  printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\nlog_level = "warn"\n' "$grpc" "$http" "$work" >"$work/server.toml"
  "$bin/oxmon-server" "$work/server.toml" 2>"$work/server.log" & server=$!
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$http/v1/health" >/dev/null && break; sleep 0.1; done
  "$bin/oxmon-mock" bench --server "127.0.0.1:$grpc" --http "http://127.0.0.1:$http" --pid "$server" \
    --agents "$agents" --seconds "$secs" --mode "$mode" --points 60 --seed 1
  kill "$server" && wait "$server" || true
  server=''
}
for mode in unary packed; do
  for agents in 100 1000; do
    for run in $(seq "$runs"); do
      echo "ingest: $mode, $agents agents, run $run of $runs"
      ingest "$mode" "$agents"
    done
  done
done
for interval in 10 1; do
  echo "agent at $interval s:"
  scripts/footprint.sh "$bin/oxmon-agent" "$bin/oxmon-server" "$interval" 60 | sed 's/^/  /'
done
echo "storage:"
cargo bench --locked --bench storage
