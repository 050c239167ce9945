#!/usr/bin/env bash
# Runs every mock scenario against built programs, without and with agent tokens, on ports of its own; then
# the tests of hostile clients against the built server, within the memory of its unit; and, with static binaries,
# images and packages of them in containers and on booted systems.
#   scripts/release-check.sh BIN_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: scripts/release-check.sh BIN_DIR" >&2; exit 2; }
scripts/setup.sh test
bin=$(realpath "$1")
. scripts/env.sh
# Not one of another build, which may be older than the programs.
cargo build --locked --quiet --bin oxmon-mock
export OXMON_MOCK=$CARGO_TARGET_DIR/debug/oxmon-mock
work=$(mktemp -d)
server=''
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
for auth in false true; do
  grpc=$(port) http=$(port)
  printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data-%s"\nrequire_agent_auth = %s\n' \
    "$grpc" "$http" "$work" "$auth" "$auth" >"$work/server.toml"
  "$bin/oxmon-server" init-rules "$work/server.toml" config/rules.seed.example.json
  "$bin/oxmon-server" "$work/server.toml" 2>"$work/server.log" & server=$!
  for _ in $(seq 100); do "$bin/oxmon-server" --health "$work/server.toml" >/dev/null 2>&1 && break; sleep 0.1; done
  tokens=()
  [ "$auth" = false ] || tokens=(--auto-auth)
  scripts/mock-e2e.sh --server "127.0.0.1:$grpc" --base-url "http://127.0.0.1:$http" \
    --expect-alerts ${tokens[@]+"${tokens[@]}"} || { tail -n 5 "$work/server.log" >&2; exit 1; }
  kill "$server" && wait "$server"
  server=''
  echo "release-check: require_agent_auth = $auth: good"
done
OXMON_SERVER_BIN=$bin/oxmon-server cargo test --locked --quiet --test it -- grpc_gate:: bounds:: api::hostile::
echo "release-check: hostile clients: good"
# Containers and booted systems run what ships; the agent for aarch64 too, where it was built beside it.
case $(file -b "$bin/oxmon-agent") in
  *static*)
    OXMON_MUSL_DIR=$bin cargo test --locked --quiet --test it -- --nocapture ship::containers:: ship::booted:: ship::rpm::
    echo "release-check: containers and booted systems: good" ;;
esac
