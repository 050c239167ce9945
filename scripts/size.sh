#!/usr/bin/env bash
# Prints size and cost of both daemons, and fails when a figure exceeds its budget in packaging/budget.txt.
#   scripts/size.sh                   builds what ships and measures it running, for SIZE_SECS (default 300)
#   scripts/size.sh --crates          counts crates alone, which needs no build
#   scripts/size.sh --musl BIN_DIR    measures what scripts/musl.sh built, against the budget's musl_ rows
# With --lower, a budget that is more than 3 % over its figure is brought down to it. None is ever raised.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=all lower='' prefix='' bin=''
while [ $# -gt 0 ]; do
  case $1 in
    --crates) mode=crates ;;
    --musl) [ $# -ge 2 ] || { echo "size: --musl takes a folder" >&2; exit 2; }; mode=musl bin=$(realpath "$2"); shift ;;
    --lower) lower=yes ;;
    *) echo "size: unknown option \`$1\`" >&2; exit 2 ;;
  esac
  shift
done
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT

crates() { cargo tree --locked --prefix none --edges normal "$@" | awk '{ print $1 }' | sort -u | wc -l; }
case $mode in
  all)
    scripts/setup.sh test
    . scripts/env.sh
    scripts/build.sh
    scripts/footprint.sh "$CARGO_TARGET_DIR/release/oxmon-agent" "$CARGO_TARGET_DIR/release/oxmon-server" 10 "${SIZE_SECS:-300}" >"$figures" ;;
  musl)
    prefix=musl_
    scripts/footprint.sh "$bin/oxmon-agent" "$bin/oxmon-server" 10 "${SIZE_SECS:-300}" >"$figures" ;;
esac
if [ "$mode" != musl ]; then
  {
    echo "agent_crates $(crates --no-default-features --features agent)"
    echo "server_crates $(crates --no-default-features --features server)"
  } >>"$figures"
fi

failed=0
budgets=packaging/budget.txt
printf '%-36s %14s %14s\n' figure now budget
while read -r name now; do
  name=$prefix$name
  budget=$(awk -v name="$name" '$1 == name { print $2 }' "$budgets")
  result=
  if [ -n "$budget" ] && awk -v a="$now" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
    result=' OVER BUDGET'
    failed=1
  elif [ -n "$lower" ] && [ -n "$budget" ] && awk -v a="$now" -v b="$budget" 'BEGIN { exit !(a * 1.03 < b) }'; then
    sed -i.bak "s/^$name .*/$name $now/" "$budgets" && rm "$budgets.bak"
    result=' lowered'
  fi
  printf '%-36s %14s %14s%s\n' "$name" "$now" "${budget:--}" "$result"
done <"$figures"
exit "$failed"
