#!/usr/bin/env bash
# Runs an agent at 1 s and fails when its resident memory has a slope: the mean of the last quarter may be
# at most 2 % over that of the second quarter.
#   SOAK_SECS=3600 scripts/soak.sh [BIN_DIR]      BIN_DIR: built programs; without it they are built
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
secs=${SOAK_SECS:-3600}
bin=${1:-}
if [ -z "$bin" ]; then
  scripts/build.sh
  bin=$CARGO_TARGET_DIR/release
fi
work=$(mktemp -d)
server='' agent=''
trap 'kill $server $agent 2>/dev/null || true; rm -rf "$work"' EXIT
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
grpc=$(port) http=$(port)
printf 'grpc_port = %s\nhttp_port = %s\nbind = ["127.0.0.1"]\ndata_dir = "%s/data"\n' "$grpc" "$http" "$work" >"$work/server.toml"
printf 'agent_id = "soak"\nserver_endpoint = "127.0.0.1:%s"\ncollection_interval_secs = 1\n' "$grpc" >"$work/agent.toml"
"$bin/oxmon-server" "$work/server.toml" 2>"$work/server.log" & server=$!
sleep 2
"$bin/oxmon-agent" "$work/agent.toml" 2>"$work/agent.log" & agent=$!
end=$((SECONDS + secs))
while [ "$SECONDS" -lt "$end" ]; do
  sleep 5
  awk -v t="$SECONDS" '/^VmRSS/ { print t, $2 }' "/proc/$agent/status" >>"$work/rss"
  [ ! -t 1 ] || printf '\rsoak: %4d s of %d, %s KiB ' "$SECONDS" "$secs" "$(tail -n 1 "$work/rss" | cut -d' ' -f2)"
done
[ ! -t 1 ] || echo
awk '{ rss[NR] = $2 } END {
  for (i = int(NR / 4) + 1; i <= int(NR / 2); i++) { a += rss[i]; n++ }
  for (i = int(3 * NR / 4) + 1; i <= NR; i++) { b += rss[i]; m++ }
  a /= n; b /= m
  printf "soak: second quarter %.0f KiB, last quarter %.0f KiB: %+.2f %%\n", a, b, (b / a - 1) * 100
  exit (b > a * 1.02)
}' "$work/rss"
