#!/usr/bin/env bash
# Builds fully static binaries from source, small: gRPC's core and OpenSSL are compiled in.
#   scripts/static.sh [TARGET]      default: this machine's own target
#   scripts/static.sh --trial       a static agent of the development profile, from the distribution's own
#                                   archives: not what ships, but there within a minute, for the tests
# OXMON_STATIC_ONLY=oxmon-agent or oxmon-server builds just that one. A musl target is built the same way
# in packaging/docker/Dockerfile.static.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
  if [ "${1:-}" = --trial ]; then trial; return; fi
  scripts/setup.sh static
  . scripts/env.sh
  local target=${1:-} only=${OXMON_STATIC_ONLY:-}
  [ -n "$target" ] || target=$(rustc -vV | sed -n 's/^host: //p')
  : "${CARGO_TARGET_DIR:=target}"
  mkdir -p "$CARGO_TARGET_DIR"
  CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
  export CARGO_TARGET_DIR

  # A monitoring agent never calls gRPC's service-mesh parts (xDS, RLS), nor unwinds through C++.
  local small="-Os -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables"
  export CFLAGS="$small ${CFLAGS:-}"
  export CXXFLAGS="$small -fno-exceptions -DGRPC_NO_XDS -DGRPC_NO_RLS ${CXXFLAGS:-}"
  local ssl=$CARGO_TARGET_DIR/openssl-small-$target
  [ -f "$ssl/lib/libssl.a" ] || build_openssl "$target" "$ssl"
  export OPENSSL_DIR=$ssl OPENSSL_ROOT_DIR=$ssl OPENSSL_STATIC=1 OPENSSL_NO_VENDOR=1
  export GRPCIO_SYS_USE_PKG_CONFIG=0
  export RUSTFLAGS="-C target-feature=+crt-static ${RUSTFLAGS:-}"

  # Arguments of the last link alone: identical code once, relative relocations packed (0.9 MB).
  local link=(-C "link-arg=-Wl,--gc-sections")
  if command -v ld.lld >/dev/null; then
    link+=(-C "link-arg=-fuse-ld=lld" -C "link-arg=-Wl,--icf=all" -C "link-arg=-Wl,--pack-dyn-relocs=relr")
    link+=(-C "link-arg=-Wl,--no-eh-frame-hdr" -C "link-arg=-Wl,-T,$PWD/packaging/no-unwind.ld")
  fi
  if [ -z "$only" ] || [ "$only" = oxmon-agent ]; then
    # Without the server's features, so that nothing of them is even compiled in.
    cargo rustc --locked --release --target "$target" --no-default-features --features agent \
      --bin oxmon-agent "${AGENT_SIZE[@]}" -- "${link[@]}"
  fi
  if [ -z "$only" ] || [ "$only" = oxmon-server ]; then
    cargo rustc --locked --release --target "$target" --bin oxmon-server -- "${link[@]}"
    cargo rustc --locked --release --target "$target" --bin oxmon-mock -- "${link[@]}"
  fi
  ls -l "$CARGO_TARGET_DIR/$target/release/"oxmon-*
}

# Says where the agent is, and fails where the distribution has no archives to link.
trial() {
  local target
  . scripts/env.sh
  target=$(rustc -vV | sed -n 's/^host: //p')
  [ "${GRPCIO_SYS_USE_PKG_CONFIG:-}" = 1 ] && [ -f "$(cc -print-file-name=libgrpc.a)" ] ||
    { echo "static: no static gRPC of the distribution here" >&2; exit 1; }
  GRPC_STATIC=1 OPENSSL_STATIC=1 RUSTFLAGS="-C target-feature=+crt-static ${RUSTFLAGS:-}" \
    cargo build --locked --quiet --target "$target" --no-default-features --features agent --bin oxmon-agent
  echo "$CARGO_TARGET_DIR/$target/debug"
}

# OpenSSL's source comes with the openssl-src crate. The assembler variants of its ciphers are 1.2 MB of
# tables and unrolled loops, for a few kilobytes of traffic a minute; old and exotic algorithms go too.
build_openssl() {
  local target=$1 prefix=$2 source build name
  cargo fetch --locked --quiet
  source=$(cargo metadata --locked --format-version 1 --all-features |
    grep -o '"manifest_path":"[^"]*openssl-src-[^"]*/Cargo.toml"' | head -n 1 | cut -d'"' -f4)
  source=$(dirname "$source")/openssl
  [ -f "$source/Configure" ] || { echo "static: no OpenSSL source in the openssl-src crate" >&2; exit 1; }
  build=$(mktemp -d)
  cp -r "$source/." "$build"
  case $target in
    x86_64-*) name=linux-x86_64 ;;
    aarch64-*) name=linux-aarch64 ;;
    *) echo "static: no OpenSSL configuration for $target" >&2; exit 1 ;;
  esac
  echo "static: building a small OpenSSL into $prefix"
  (
    cd "$build"
    # shellcheck disable=SC2086 # The flags are words.
    ./Configure "$name" --prefix="$prefix" --libdir=lib --openssldir=/etc/ssl \
      no-asm no-shared no-module no-dso no-tests no-apps no-docs no-legacy no-engine no-comp no-zlib no-quic \
      no-dtls no-srp no-psk no-cms no-cmp no-ts no-ct no-gost no-sm2 no-sm3 no-sm4 no-aria no-camellia \
      no-idea no-seed no-bf no-cast no-rc2 no-rc4 no-rc5 no-rmd160 no-whirlpool no-md2 no-md4 no-mdc2 \
      no-siphash no-siv no-scrypt no-argon2 no-ec2m no-ml-kem no-ml-dsa no-slh-dsa no-ssl3 no-ssl3-method \
      no-ssl-trace no-srtp no-rfc3779 no-fips no-afalgeng no-ktls no-ui-console \
      $CFLAGS >configure.log 2>&1 || { tail -n 20 configure.log >&2; exit 1; }
    make -s -j"$(nproc)" build_libs >make.log 2>&1 || { tail -n 20 make.log >&2; exit 1; }
    make -s install_dev >install.log 2>&1 || { tail -n 20 install.log >&2; exit 1; }
  )
  rm -rf "$build"
}

main "$@"
