#!/usr/bin/env bash
# Asks a running server's read endpoints, prints a summary table, and fails when something is missing.
#
#   scripts/mock-query-check.sh [options]
#     --base-url URL          default: http://127.0.0.1:8080
#     --username NAME         default: admin
#     --password PASSWORD     default: changeme
#     --summary-agent ID      agent of /v1/metrics/summary    (default: mock-normal-01)
#     --summary-metric NAME   metric of /v1/metrics/summary   (default: cpu.usage)
#     --expect-alerts         fail, too, when no alert has fired
#     --verbose               print every answer
set -euo pipefail
base=http://127.0.0.1:8080 username=admin password=changeme
agent=mock-normal-01 metric=cpu.usage verbose='' expect_alerts=''
while [ $# -gt 0 ]; do
  case $1 in
    --base-url | --username | --password | --summary-agent | --summary-metric)
      [ $# -ge 2 ] || { echo "mock-query-check: $1 takes a value" >&2; exit 2; }
      case $1 in
        --base-url) base=${2%/} ;;
        --username) username=$2 ;;
        --password) password=$2 ;;
        --summary-agent) agent=$2 ;;
        --summary-metric) metric=$2 ;;
      esac
      shift ;;
    --verbose) verbose=yes ;;
    --expect-alerts) expect_alerts=yes ;;
    --help | -h) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "mock-query-check: unknown option \`$1\`; see --help" >&2; exit 2 ;;
  esac
  shift
done
for tool in curl jq; do
  command -v "$tool" >/dev/null || { echo "mock-query-check: $tool is missing: install it" >&2; exit 1; }
done

login=$(jq -nc --arg u "$username" --arg p "$password" '{username: $u, password: $p}')
token=$(curl -sS --max-time 10 -X POST "$base/v1/auth/login" -H 'Content-Type: application/json' -d "$login" |
  jq -r '.data.token // empty') || true
[ -n "$token" ] || { echo "mock-query-check: cannot log in at $base as $username" >&2; exit 1; }

failed=0
printf '%-28s %-6s %-8s %s\n' endpoint http rows result
# check NAME PATH JQ: the filter gives the number of rows; 0 or an error is a failure.
check() {
  local name=$1 path=$2 filter=$3 need=${4:-1} answer status rows result=ok
  answer=$(curl -sS --max-time 20 -w '\n%{http_code}' -H "Authorization: Bearer $token" "$base$path") || answer=$'\n000'
  status=${answer##*$'\n'} answer=${answer%$'\n'*}
  rows=$(jq -r "$filter" <<<"$answer" 2>/dev/null || echo 0)
  case $rows in '' | *[!0-9]*) rows=0 ;; esac
  if [ "$status" != 200 ] || [ "$rows" -lt "$need" ]; then result=MISSING failed=$((failed + 1)); fi
  printf '%-28s %-6s %-8s %s\n' "$name" "$status" "$rows" "$result"
  [ -z "$verbose" ] || { jq . <<<"$answer" 2>/dev/null || echo "$answer"; } | sed 's/^/    /'
}
encoded() { jq -rn --arg text "$1" '$text | @uri'; }

alerts=0
[ -z "$expect_alerts" ] || alerts=1
check health /v1/health '.data | length'
check agents '/v1/agents?limit=1000' '.data | length'
check latest "/v1/agents/$(encoded "$agent")/latest" '.data | length'
check metrics '/v1/metrics?limit=10' '.data | length'
check names '/v1/metrics/names?limit=1000' '.data | length'
check summary "/v1/metrics/summary?agent_id=$(encoded "$agent")&metric_name=$(encoded "$metric")" '.data.count'
check alerts-active '/v1/alerts/active?limit=1000' '.data | length' 0
check alerts-history '/v1/alerts/history?limit=1000' '.data | length' "$alerts"
check alerts-summary /v1/alerts/summary '.data.total' "$alerts"
check dashboard /v1/dashboard/overview '.data.total_agents'
check storage /v1/system/storage '.data.total_partitions'
if [ "$failed" -gt 0 ]; then echo "mock-query-check: $failed missing" >&2; exit 1; fi
echo "mock-query-check: all there"
