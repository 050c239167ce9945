#!/usr/bin/env bash
# Sets up what the tests need and runs them all: format, lints, unit tests, and the built daemons
# against real servers and programs. The closing lines come from the test runner.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/env.sh
export PATH="$OXMON_VENV/bin:$PATH"

echo "test: format"
cargo fmt --check
echo "test: lints"
cargo clippy --locked --all-targets --quiet -- -D warnings
echo "test: shell scripts"
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
echo "test: a static agent"
if static=$(scripts/static.sh --trial); then export OXMON_STATIC_DIR=$static; fi
# In CI each fuzz target has a minute.
if [ -n "${CI:-}" ]; then export OXMON_FUZZ_SECS=${OXMON_FUZZ_SECS:-60}; fi
echo "test: unit tests and the built daemons"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --locked "$@"
else
  cargo test --locked "$@"
fi
