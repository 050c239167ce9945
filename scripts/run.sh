#!/usr/bin/env bash
# Builds both daemons, starts a server and an agent of this machine in ./data, and shows how to look.
# Ctrl-C stops both. OXMON_DATA, OXMON_HTTP_PORT and OXMON_GRPC_PORT move them elsewhere; OXMON_BIN_DIR
# names a folder with both programs, in place of building them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
. scripts/env.sh

data=${OXMON_DATA:-data}
http=${OXMON_HTTP_PORT:-8080}
grpc=${OXMON_GRPC_PORT:-9090}

bin=${OXMON_BIN_DIR:-$CARGO_TARGET_DIR/debug}
if [ -z "${OXMON_BIN_DIR:-}" ]; then
  echo "run: building (the first time takes a few minutes)"
  cargo build --locked --bin oxmon-server --bin oxmon-agent
fi
mkdir -p "$data"

if [ ! -f "$data/server.toml" ]; then
  cat >"$data/server.toml" <<TOML
# Made by \`make run\`. config/server.example.toml explains every key.
grpc_port = $grpc
http_port = $http
bind = ["127.0.0.1"]
data_dir = "$data"
TOML
fi
if [ ! -f "$data/agent.toml" ]; then
  cat >"$data/agent.toml" <<TOML
# Made by \`make run\`. config/agent.example.toml explains every key.
server_endpoint = "127.0.0.1:$grpc"
collection_interval_secs = 5
buffer_dir = "$data/agent-buffer"
TOML
fi
# A new server has the stock rules in force.
[ -f "$data/cert.db" ] || "$bin/oxmon-server" init-rules "$data/server.toml" config/rules.stock.json >/dev/null
http=$(sed -n 's/^http_port *= *//p' "$data/server.toml")

server='' agent=''
stop() {
  trap - EXIT INT TERM
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  [ -z "$agent" ] || wait "$agent" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  echo "run: stopped; the data stays in $data"
}
trap stop EXIT
trap 'exit 0' INT TERM

"$bin/oxmon-server" "$data/server.toml" 2>"$data/server.log" &
server=$!
"$bin/oxmon-agent" "$data/agent.toml" 2>"$data/agent.log" &
agent=$!

base=http://127.0.0.1:$http/v1
host=$(sed -n 's/^agent_id *= *"\(.*\)"/\1/p' "$data/agent.toml")
host=${host:-$(hostname)}
login() {
  curl -fsS -X POST "$base/auth/login" -H 'Content-Type: application/json' \
    -d '{"username":"admin","password":"changeme"}' | sed 's/.*"token":"\([^"]*\)".*/\1/'
}
ready=
for _ in $(seq 150); do
  for pid in "$server" "$agent"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      echo "run: a daemon ended; its last lines:" >&2
      tail -n 3 "$data/server.log" "$data/agent.log" >&2
      exit 1
    fi
  done
  if curl -fsS "$base/health" 2>/dev/null | grep -q '"agent_count":[1-9]'; then ready=yes; break; fi
  sleep 0.2
done
[ -n "$ready" ] || { echo "run: no value after 30 s; see $data/server.log and $data/agent.log" >&2; exit 1; }

cat <<TEXT

oxmon is running: agent "$host" reports every 5 s, and the stock rules are in force.

  http://127.0.0.1:$http/    admin / changeme (change it before others can reach the port)

Another host joins from the dashboard: "Add a host" shows the line to copy. The ports are bound to this machine
alone; for other hosts set bind = ["0.0.0.0"] in $data/server.toml.
Data:  $data/*.db, configuration: $data/server.toml and $data/agent.toml, logs beside them.

Copy this into another terminal for live values:

  TOKEN=\$(curl -s -X POST $base/auth/login -H 'Content-Type: application/json' -d '{"username":"admin","password":"changeme"}' | sed 's/.*"token":"\([^"]*\)".*/\1/'); watch -n 5 "curl -s -H 'Authorization: Bearer \$TOKEN' $base/agents/$host/latest | tr '{' '\n' | grep metric_name"

TEXT
if TOKEN=$(login 2>/dev/null) && [ -n "$TOKEN" ]; then
  echo "Now:"
  curl -fsS -H "Authorization: Bearer $TOKEN" "$base/agents/$host/latest" | tr '{' '\n' |
    sed -n 's/.*"metric_name":"\(cpu.usage\|memory.used_percent\|load.load_1\)".*"value":\([0-9.]*\).*/  \1 = \2/p'
fi
echo "Ctrl-C stops both."
while kill -0 "$server" 2>/dev/null && kill -0 "$agent" 2>/dev/null; do sleep 1; done
echo "run: a daemon ended; its last lines:" >&2
tail -n 3 "$data/server.log" "$data/agent.log" >&2
exit 1
