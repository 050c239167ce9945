#!/usr/bin/env bash
# Prints what both daemons weigh, and fails when a figure is over its budget in packaging/budget.txt.
# A budget only goes down: mend the cause, or say in the commit why it must not.
#   SIZE_SECS=300 scripts/size.sh     measures the running agent for that long (default 60)
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/env.sh
cargo build --locked --release --bins
bin=$CARGO_TARGET_DIR/release
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
# The agent that ships is built without the server's features.
agent_dir=$CARGO_TARGET_DIR/agent-only
CARGO_TARGET_DIR=$agent_dir cargo build --locked --release --no-default-features --features agent --bin oxmon-agent
scripts/footprint.sh "$agent_dir/release/oxmon-agent" "$bin/oxmon-server" 10 "${SIZE_SECS:-60}" >"$figures"
crates() { cargo tree --locked --prefix none --edges normal "$@" | awk '{ print $1 }' | sort -u | wc -l; }
{
  echo "agent_crates $(crates --no-default-features --features agent)"
  echo "server_crates $(crates --no-default-features --features server)"
} >>"$figures"

failed=0
printf '%-32s %14s %14s\n' figure now budget
while read -r name now; do
  budget=$(awk -v name="$name" '$1 == name { print $2 }' packaging/budget.txt)
  verdict=
  if [ -n "$budget" ] && awk -v a="$now" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
    verdict=' OVER BUDGET'
    failed=1
  fi
  printf '%-32s %14s %14s%s\n' "$name" "$now" "${budget:--}" "$verdict"
done <"$figures"
exit "$failed"
