#!/usr/bin/env bash
# Release build of both daemons and oxmon-mock, linked with the system's libraries: the server for speed, the
# agent by itself, without anything of the server, for size.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
cargo build --locked --release --bin oxmon-server --bin oxmon-mock
cargo build --locked --release --no-default-features --features agent --bin oxmon-agent "${AGENT_SIZE[@]}"
