#!/usr/bin/env bash
# Asks the queries of tests/it/promql/queries.txt of a built oxmon-server and of a Prometheus beside it, which have the
# same samples, and prints what differs. Needs what `scripts/setup.sh test` installs.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked --test it promql::every_query -- --nocapture
