#!/usr/bin/env bash
# Writes the same samples by remote write to a release build of oxmon-server, and to the Prometheus and the VictoriaMetrics
# that are installed (scripts/setup.sh test), asks each the same queries, and prints times and memory. One run, one table.
# `scripts/promql-bench.sh [HOSTS]`; OXMON_SERVER names another program, and OXMON_OTHER one that is measured beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${OXMON_SERVER:-}" ]; then
  cargo build --release --locked --quiet --bin oxmon-server
  OXMON_SERVER=${CARGO_TARGET_DIR:-target}/release/oxmon-server
fi
exec python3 scripts/promql-bench.py "$OXMON_SERVER" "${1:-1000}"
