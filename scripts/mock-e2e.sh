#!/usr/bin/env bash
# Reports every made-up scenario to a running server, then checks that its read endpoints show them.
#
#   scripts/mock-e2e.sh [options of mock-report-all.sh and mock-query-check.sh]
#     --auto-auth             put the scenarios' agents on the whitelist and report with their tokens
set -euo pipefail
cd "$(dirname "$0")"
base=http://127.0.0.1:8080 username=admin password=changeme auto='' count=5
report=() check=()
while [ $# -gt 0 ]; do
  case $1 in
    --auto-auth) auto=yes ;;
    --scenario | --server | --auth-token-file | --agent-count)
      [ "$1" != --agent-count ] || count=$2
      report+=("$1" "$2"); shift ;;
    --print-payload) report+=("$1") ;;
    --base-url | --username | --password | --summary-agent | --summary-metric)
      case $1 in --base-url) base=${2%/} ;; --username) username=$2 ;; --password) password=$2 ;; esac
      check+=("$1" "$2"); shift ;;
    --verbose | --expect-alerts) check+=("$1") ;;
    --help | -h) sed -n '2,5s/^# \{0,1\}//p' "$0"; ./mock-report-all.sh --help; ./mock-query-check.sh --help; exit 0 ;;
    *) echo "mock-e2e: unknown option \`$1\`; see --help" >&2; exit 2 ;;
  esac
  shift
done

if [ -n "$auto" ]; then
  login=$(jq -nc --arg u "$username" --arg p "$password" '{username: $u, password: $p}')
  token=$(curl -fsS -X POST "$base/v1/auth/login" -H 'Content-Type: application/json' -d "$login" | jq -r .data.token)
  tokens=$(mktemp)
  trap 'rm -f "$tokens"' EXIT
  names=(mock-threshold mock-rate mock-trend cert-checker)
  for number in $(seq -f %02g "$count"); do names+=("mock-normal-$number"); done
  for name in "${names[@]}"; do
    body=$(jq -nc --arg id "$name" '{agent_id: $id, description: "mock"}')
    made=$(curl -sS -X POST "$base/v1/agents/whitelist" -H "Authorization: Bearer $token" \
      -H 'Content-Type: application/json' -d "$body" | jq -r '.data.token // empty')
    if [ -z "$made" ]; then
      # It is on the whitelist already: a new token takes the place of the old one.
      made=$(curl -fsS -X POST "$base/v1/agents/whitelist/$name/token" -H "Authorization: Bearer $token" \
        -H 'Content-Type: application/json' -d '{}' | jq -r .data.token)
    fi
    echo "$name=$made" >>"$tokens"
  done
  echo "mock-e2e: ${#names[@]} agents have tokens"
  report+=(--auth-token-file "$tokens")
fi
./mock-report-all.sh "${report[@]}"
./mock-query-check.sh "${check[@]}"
