#!/usr/bin/env bash
# Builds fully static binaries from source: gRPC's core and OpenSSL are compiled in, small.
#   scripts/static.sh [TARGET]      default: this machine's own target
# OXMON_STATIC_ONLY=oxmon-agent or oxmon-server builds just that one.
# A musl target is built the same way in packaging/docker/Dockerfile.static.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
command -v cmake >/dev/null || { echo "static: cmake is missing; install it" >&2; exit 1; }

# A monitoring agent never calls gRPC's service-mesh parts (xDS, RLS), nor unwinds through C++.
small="-Os -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables"
export CFLAGS="$small ${CFLAGS:-}"
export CXXFLAGS="$small -fno-exceptions -DGRPC_NO_XDS -DGRPC_NO_RLS ${CXXFLAGS:-}"
export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,--gc-sections ${RUSTFLAGS:-}"
# This build carries its own libraries; it must not pick up the system's.
unset GRPCIO_SYS_USE_PKG_CONFIG OPENSSL_NO_VENDOR
export GRPCIO_SYS_USE_PKG_CONFIG=0
: "${CARGO_TARGET_DIR:=target}"
export CARGO_TARGET_DIR

only=${OXMON_STATIC_ONLY:-}
if [ -z "$only" ] || [ "$only" = oxmon-agent ]; then
  # Without the server's features, so that nothing of them is even compiled in.
  cargo build --locked --release --target "$target" --no-default-features \
    --features agent,vendored --bin oxmon-agent
fi
if [ -z "$only" ] || [ "$only" = oxmon-server ]; then
  cargo build --locked --release --target "$target" --features vendored \
    --bin oxmon-server --bin oxmon-mock
fi
ls -l "$CARGO_TARGET_DIR/$target/release/"oxmon-*
