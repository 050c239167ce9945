#!/usr/bin/env bash
# Prints what the gate before the gRPC port costs: points a second, CPU, and memory of idle connections,
# through the port and at the C core's own Unix socket behind it, in turns on this machine.
#   scripts/gate-cost.sh BIN_DIR [OTHER_BIN_DIR]
# BIN_DIR has oxmon-server and oxmon-mock of a release build. With OTHER_BIN_DIR, a server of another
# build is measured in the same turns, through its port. GATE_SECS=10 GATE_RUNS=3 AGENTS=100 CONNECTIONS=2000
set -euo pipefail
cd "$(dirname "$0")/.."
case $# in 1 | 2) ;; *) echo "usage: scripts/gate-cost.sh BIN_DIR [OTHER_BIN_DIR]" >&2; exit 2 ;; esac
bin=$(realpath "$1") other=${2:+$(realpath "$2")}
secs=${GATE_SECS:-10} runs=${GATE_RUNS:-3} agents=${AGENTS:-100} connections=${CONNECTIONS:-2000}
server=''
work=$(mktemp -d)
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
ulimit -n "$(ulimit -Hn)"
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# Its sockets are in a folder of its own, so that the core's can be found.
start() {
  grpc=$(port) http=$(port)
  rm -rf "$work/data" "$work/tmp" && mkdir "$work/tmp"
  printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\nlog_level = "warn"\n' \
    "$grpc" "$http" "$work" >"$work/server.toml"
  TMPDIR=$work/tmp "$1/oxmon-server" "$work/server.toml" 2>"$work/server.log" & server=$!
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$http/v1/health" >/dev/null && break; sleep 0.1; done
}
stop() { kill "$server" && wait "$server" || true; server=''; }

# One run against a server's port, or against its core: LABEL BIN MODE port|core
ingest() {
  local target
  start "$2"
  target=127.0.0.1:$grpc
  [ "$4" = port ] || target=unix:$(echo "$work"/tmp/oxmon-*/grpc)
  echo "$3, $1: $("$bin/oxmon-mock" bench --server "$target" --http "http://127.0.0.1:$http" --pid "$server" \
    --agents "$agents" --seconds "$secs" --mode "$3" --points 60 --seed 1 | tr '\n' ' ')"
  stop
}

# Resident memory that idle connections add, bytes each: they have sent preface and SETTINGS.
idle() {
  start "$2"
  python3 - "$grpc" "$server" "$connections" "$1" <<'PY'
import re, socket, sys, time
port, pid, count, label = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
def rss():
    return int(re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{pid}/status').read())[1]) * 1024
greeting = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\0\0\0\4\0\0\0\0\0' + b'\0\0\0\4\1\0\0\0\0'
def connect(count):
    made = []
    for _ in range(count):
        one = socket.create_connection(('127.0.0.1', port))
        one.sendall(greeting)
        made.append(one)
    for one in made:
        one.settimeout(10)
        one.recv(4096)
    time.sleep(1)
    return made
warm = connect(50)
before = rss()
more = connect(count)
print(f'idle connections, {label}: {(rss() - before) / count / 1024:.1f} KB each ({count} of them)')
PY
  stop
}

for _ in $(seq "$runs"); do
  for mode in unary packed; do
    [ -z "$other" ] || ingest "other build" "$other" "$mode" port
    ingest "core alone" "$bin" "$mode" core
    ingest "gate" "$bin" "$mode" port
  done
done
[ -z "$other" ] || idle "other build" "$other"
idle "gate" "$bin"
