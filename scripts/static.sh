#!/usr/bin/env bash
# Builds a static agent of the development profile from the distribution's own archives, for the tests: there
# within a minute, and not what ships, which scripts/musl.sh builds. Prints the folder that it is in, and fails
# where the distribution has no archives to link.
#   scripts/static.sh --trial
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" = --trial ] || { echo "usage: scripts/static.sh --trial; what ships is built by scripts/musl.sh" >&2; exit 2; }
. scripts/env.sh
target=$(rustc -vV | sed -n 's/^host: //p')
[ "${GRPCIO_SYS_USE_PKG_CONFIG:-}" = 1 ] && [ -f "$(cc -print-file-name=libgrpc.a)" ] ||
  { echo "static: no static gRPC of the distribution here" >&2; exit 1; }
GRPC_STATIC=1 OPENSSL_STATIC=1 RUSTFLAGS="-C target-feature=+crt-static ${RUSTFLAGS:-}" \
  cargo build --locked --quiet --target "$target" --no-default-features --features agent --bin oxmon-agent
echo "$CARGO_TARGET_DIR/$target/debug"
