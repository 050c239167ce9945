#!/usr/bin/env bash
# What somebody new does, step by step, from an empty folder: a server, its stock rules, a webhook and a
# mail channel, a second agent that joins by the line that the dashboard shows, a third one that the install script
# brings, an alert that fires and recovers and is received. Prints each step with its time. OXMON_BIN_DIR names the
# folder with the built programs; without it they are built first, which is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${OXMON_BIN_DIR:-}" ]; then
  . scripts/env.sh
  cargo build --locked --quiet --bin oxmon-server --bin oxmon-agent
  OXMON_BIN_DIR=$CARGO_TARGET_DIR/debug
fi
root=$PWD
bin=$(cd "$OXMON_BIN_DIR" && pwd)
folder=$(mktemp -d)
started=$SECONDS
pids=()
stop() {
  trap - EXIT
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM
step() { printf '%3d s  %s\n' "$((SECONDS - started))" "$*"; }
fail() { echo "newcomer: $*" >&2; tail -n 5 "$folder"/*.log >&2 || true; exit 1; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { # what, command...
  local what=$1; shift
  for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.2; done
  fail "waited 2 min for $what"
}

http=$(free_port) grpc=$(free_port) hook=$(free_port) mail=$(free_port)
cd "$folder"
step "an empty folder: $folder"

cat >server.toml <<TOML
grpc_port = $grpc
http_port = $http
bind = ["127.0.0.1"]
data_dir = "data"
aggregation_window_secs = 0
TOML
"$bin/oxmon-server" init-rules server.toml "$root/config/rules.stock.json" | sed 's/^/       /'
"$bin/oxmon-server" server.toml 2>server.log & pids+=($!)
base=http://127.0.0.1:$http/v1
wait_for "the server" curl -fsS "$base/health"
step "the server answers on http://127.0.0.1:$http/, with the stock rules"

token=$(curl -fsS "$base/auth/login" -H 'Content-Type: application/json' \
  -d '{"username":"admin","password":"changeme"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
api() { # method path [body]
  curl -fsS -X "$1" "$base$2" -H "Authorization: Bearer $token" ${3:+-H 'Content-Type: application/json' -d "$3"}
}

python3 "$root/tests/fixtures/receivers.py" "$hook" "$mail" received & pids+=($!)
wait_for "the receivers" test -e received/ready
api POST /notifications/channels/config "{\"name\":\"chat\",\"channel_type\":\"webhook\",\"config_json\":{},
  \"recipients\":[\"http://127.0.0.1:$hook/\"]}" >/dev/null
api POST /notifications/channels/config "{\"name\":\"mail\",\"channel_type\":\"email\",\"config_json\":{
  \"smtp_host\":\"127.0.0.1\",\"smtp_port\":$mail,\"from_name\":\"oxmon\",\"from_email\":\"oxmon@example.org\",
  \"tls\":\"none\"},\"recipients\":[\"ops@example.org\"]}" >/dev/null
for channel in chat mail; do api POST "/notifications/channels/$channel/test" >/dev/null; done
step "a webhook and a mail channel, each tested"

code=$(api POST /agents/enroll-codes '{"agent_id":"web-02"}' | sed 's/.*"code":"\([^"]*\)".*/\1/')
line="oxmon-agent enroll --server 127.0.0.1:$grpc --code $code --agent-id web-02 --config agent.toml"
step "the dashboard shows: $line"
PATH="$bin:$PATH" sh -c "$line" >/dev/null
printf 'collection_interval_secs = 1\nbuffer_dir = "buffer"\n' | cat - agent.toml >agent.new && mv agent.new agent.toml
"$bin/oxmon-agent" agent.toml 2>agent.log & agent=$!; pids+=("$agent")
wait_for "the second host" api GET /agents/web-02/latest
step "web-02 joined with that line and reports"

# The line for the install script, with folders of its own and a release from a folder instead of the project's.
OXMON_FAST=1 "$root/scripts/package.sh" "$(uname -m)-unknown-linux-musl" "$folder/release" "$bin" >/dev/null
code=$(api POST /agents/enroll-codes '{"agent_id":"web-03"}' | sed 's/.*"code":"\([^"]*\)".*/\1/')
line="sh install.sh agent --server-endpoint 127.0.0.1:$grpc --code $code --agent-id web-03"
step "the dashboard shows: $line"
cp "$root/scripts/install.sh" .
sh -c "$line --base-url $folder/release --unsigned --install-dir $folder/bin --config-dir $folder/etc" |
  sed 's/^/       /'
bin/oxmon-agent etc/agent.toml 2>third.log & pids+=($!)
wait_for "the third host" api GET /agents/web-03/latest
step "web-03 was installed by the script and reports"

# A rule that fires within seconds: a newcomer lowers one to see it work.
api POST /alerts/rules '{"name":"try-me","rule_type":"no_data","metric":"*","agent_pattern":"web-02",
  "severity":"critical","config_json":{"duration_secs":5}}' >/dev/null
kill "$agent"; wait "$agent" 2>/dev/null || true
step "the agent is stopped; the rule try-me allows 5 s without a report"
wait_for "the alert at the webhook" grep -q '"firing"' received/hook
wait_for "the alert by mail" grep -q 'web-02' received/mail
step "received: $(grep -o '"message":"[^"]*"' received/hook | tail -n 1)"
"$bin/oxmon-agent" agent.toml 2>>agent.log & pids+=($!)
wait_for "the recovery at the webhook" grep -q '"resolved"' received/hook
wait_for "the recovery by mail" grep -q 'RESOLVED' received/mail
step "received: $(grep -o '"message":"[^"]*"' received/hook | tail -n 1)"
took=$((SECONDS - started))
echo "newcomer: from nothing to the first alert and its recovery in $took s"
[ "$took" -lt 300 ] || fail "that took more than 5 minutes"
