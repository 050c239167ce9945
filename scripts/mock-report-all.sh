#!/usr/bin/env bash
# Reports made-up metrics to a running server, so that dashboards and alert rules have something to show.
#
#   scripts/mock-report-all.sh [options]
#     --scenario NAME         all, baseline, threshold, rate, trend or cert   (default: all)
#     --agent-count N         agents of the baseline                          (default: 5)
#     --server HOST:PORT      the server's gRPC address                       (default: 127.0.0.1:9090)
#     --auth-token-file FILE  lines of agent=token, for a server that asks for tokens
#     --print-payload         print a summary of each batch
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
mock=${OXMON_MOCK:-}
if [ -z "$mock" ]; then
  for candidate in "$CARGO_TARGET_DIR/release/oxmon-mock" "$CARGO_TARGET_DIR/debug/oxmon-mock"; do
    [ -x "$candidate" ] && mock=$candidate && break
  done
fi
if [ -z "$mock" ]; then
  cargo build --locked --quiet --bin oxmon-mock
  mock=$CARGO_TARGET_DIR/debug/oxmon-mock
fi

arguments=(--scenario all --agent-count 5 --server 127.0.0.1:9090)
while [ $# -gt 0 ]; do
  case $1 in
    --scenario | --agent-count | --server | --auth-token-file)
      [ $# -ge 2 ] || { echo "mock-report-all: $1 takes a value" >&2; exit 2; }
      arguments+=("$1" "$2"); shift ;;
    --print-payload) arguments+=("$1") ;;
    --help | -h) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "mock-report-all: unknown option \`$1\`; see --help" >&2; exit 2 ;;
  esac
  shift
done
exec "$mock" report "${arguments[@]}"
