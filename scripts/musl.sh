#!/usr/bin/env bash
# Builds static binaries for musl, which run on every Linux of their processor: what releases ship.
#   scripts/musl.sh [--agent] [TARGET...]            default: all four targets below
#   scripts/musl.sh --twice [--agent] [TARGET...]    builds the commit a second time elsewhere and compares bytes
# The programs are then in $CARGO_TARGET_DIR/TARGET/release. --agent leaves the server out. Everything comes from
# package registries: zig (PyPI) compiles and links C and C++, OpenSSL's source is the openssl-src crate, and the
# standard library is built from rustup's rust-src or, where rustup can't bring it, with Debian's rustc-web and
# rust-web-src (OXMON_MUSL_RUST=distribution asks for these).
# Sources and objects are kept in ~/.cache/oxmon/musl (OXMON_MUSL), so that a second run is short.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "musl: $*" >&2; exit 1; }
targets_all=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf riscv64gc-unknown-linux-musl)

main() {
  local twice='' agent_only='' targets=() target
  while [ $# -gt 0 ]; do
    case $1 in
      --twice) twice=yes ;;
      --agent) agent_only=yes ;;
      -*) fail "unknown option \`$1\`" ;;
      *) targets+=("$1") ;;
    esac
    shift
  done
  [ ${#targets[@]} -gt 0 ] || targets=("${targets_all[@]}")
  scripts/setup.sh musl
  . scripts/env.sh
  cache=${OXMON_MUSL:-${XDG_CACHE_HOME:-$HOME/.cache}/oxmon/musl}
  # What is made from sources: --twice has a second folder for it.
  work=${OXMON_MUSL_WORK:-$cache/work}
  mkdir -p "$cache/bin" "$work"
  rust_tools
  write_zig
  for target in "${targets[@]}"; do
    describe "$target"
    build
    [ -z "$twice" ] || build_elsewhere
  done
}

# What differs from target to target. zig_flags are those of zig's clang; `model` is how the programs are linked.
describe() {
  target=$1 programs=(oxmon-agent) bindings=''
  case $target in
    x86_64-unknown-linux-musl) zig_flags='-target x86_64-linux-musl' openssl=linux-x86_64 ;;
    aarch64-unknown-linux-musl) zig_flags='-target aarch64-linux-musl' openssl=linux-aarch64 ;;
    armv7-unknown-linux-musleabihf)
      zig_flags='-target arm-linux-musleabihf -mcpu=generic+v7a+vfp3-d32+thumb2-neon' openssl=linux-armv4 bindings=32 ;;
    riscv64gc-unknown-linux-musl)
      zig_flags='-target riscv64-linux-musl -mcpu=generic_rv64+m+a+f+d+c' openssl=linux64-riscv64 bindings=64 ;;
    *) fail "no target \`$target\`: ${targets_all[*]}" ;;
  esac
  case $target in
    x86_64-* | aarch64-*) [ -n "$agent_only" ] || programs+=(oxmon-server oxmon-mock) ;;
  esac
}

# Sets RUSTC and the folder of the standard library's sources.
rust_tools() {
  local sysroot
  sysroot=$(rustc --print sysroot)
  if [ ! -d "$sysroot/lib/rustlib/src/rust/library" ] && [ -z "${OXMON_MUSL_RUST:-}" ]; then
    echo "musl: rustup component add rust-src"
    rustup component add rust-src >/dev/null 2>&1 || true
  fi
  if [ ! -d "$sysroot/lib/rustlib/src/rust/library" ] || [ "${OXMON_MUSL_RUST:-}" = distribution ]; then
    distribution_rust
    sysroot=$cache/rust/usr
    export RUSTC=$cache/bin/rustc RUSTDOC=$cache/bin/rustdoc
  fi
  library=$(realpath "$sysroot/lib/rustlib/src/rust/library")
}

# Debian's compiler with the sources of its standard library, unpacked and not installed.
distribution_rust() {
  local rust=$cache/rust program version
  if [ ! -f "$rust/complete" ]; then
    command -v apt-get >/dev/null || fail "no sources of the standard library: rustup component add rust-src"
    version=$(apt-cache show rustc-web 2>/dev/null | sed -n 's/^Version: \([0-9]*\.[0-9]*\)\..*/\1/p' | head -n 1)
    [ -n "$version" ] || fail "neither rustup's rust-src nor the package rustc-web can be had here"
    echo "musl: unpacking Debian's Rust $version into $rust"
    rm -rf "$rust" && mkdir -p "$rust/debs"
    (
      cd "$rust/debs"
      llvm=$(apt-cache depends "libstd-rust-web-$version" | sed -n 's/.*Depends: \(libllvm[0-9]*\).*/\1/p' | head -n 1)
      apt-get -qq download rustc-web rust-web-src libstd-rust-web-dev "libstd-rust-web-$version" "${llvm:-libllvm22}" 2>/dev/null
      for deb in *.deb; do dpkg -x "$deb" "$rust"; done
    )
    # The package's link to its sources is absolute.
    ln -sfn "$(find "$rust/usr/src" -maxdepth 1 -name 'rustc-*')" "$rust/usr/lib/rustlib/src/rust"
    rm -rf "$rust/debs"
    touch "$rust/complete"
  fi
  for program in rustc rustdoc; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$rust/usr/lib/x86_64-linux-gnu" "$rust/usr/bin/$program" >"$cache/bin/$program"
    chmod +x "$cache/bin/$program"
  done
}

# Compiler flags for small code without unwinding. A monitoring agent never calls gRPC's service-mesh parts (xDS,
# RLS). musl gives abseil its off64_t only with _LARGEFILE64_SOURCE.
small='-g0 -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables'

build() {
  local out=$work/target/$target/release program args
  [ -f "$work/openssl-$target/lib/libssl.a" ] || build_openssl
  write_wrapper
  (
    environment
    for program in "${programs[@]}"; do
      args=()
      # Without the server's features, so that nothing of them is even compiled in, and for size.
      [ "$program" != oxmon-agent ] || args=(--no-default-features --features agent "${AGENT_SIZE[@]}")
      cargo-zigbuild rustc --locked --release -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size \
        --target "$target" ${args[@]+"${args[@]}"} --bin "$program" -- "${link[@]}"
    done
  )
  mkdir -p "$CARGO_TARGET_DIR/$target/release"
  for program in "${programs[@]}"; do
    cp -f "$out/$program" "$CARGO_TARGET_DIR/$target/release/$program"
    echo "musl: $CARGO_TARGET_DIR/$target/release/$program: $(stat -c %s "$out/$program") bytes"
  done
}

# Exported for cargo alone: no path of this machine may reach the programs, whose bytes are the same everywhere.
environment() {
  local registry=${CARGO_HOME:-$HOME/.cargo}/registry/src folder maps='' c_maps=''
  for folder in "$registry"/*; do
    maps+=" --remap-path-prefix=$folder/=" c_maps+=" -ffile-prefix-map=$folder/="
  done
  maps+=" --remap-path-prefix=$library=std --remap-path-prefix=$work=build --remap-path-prefix=$PWD/="
  c_maps+=" -ffile-prefix-map=$work=build"
  export CFLAGS="$small -D_LARGEFILE64_SOURCE$c_maps"
  export CXXFLAGS="$CFLAGS -fno-exceptions -DGRPC_NO_XDS -DGRPC_NO_RLS -Wno-missing-template-arg-list-after-template-kw"
  export RUSTFLAGS="-C target-feature=+crt-static -C link-self-contained=no -C force-unwind-tables=no$maps"
  export OPENSSL_DIR=$work/openssl-$target OPENSSL_STATIC=1 OPENSSL_NO_VENDOR=1
  export OPENSSL_ROOT_DIR=$OPENSSL_DIR GRPCIO_SYS_USE_PKG_CONFIG=0
  # CMake 4 refuses the policies that gRPC asks for.
  export CMAKE_POLICY_VERSION_MINIMUM=3.5
  # -Zbuild-std on a compiler that is not a nightly.
  export RUSTC_BOOTSTRAP=1 SOURCE_DATE_EPOCH=0
  # musl's 64-bit time_t, which libc leaves out on 32 bits until this is set.
  export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
  export RUSTC_WRAPPER=$cache/bin/wrapper-$target
  export CARGO_TARGET_DIR=$work/target PATH=$OXMON_VENV/bin:$PATH
  export CARGO_ZIGBUILD_ZIG_PATH=$cache/bin/zig CARGO_ZIGBUILD_CACHE_DIR=$cache/zigbuild
  export ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$cache/zig
  link=(-C "link-arg=-Wl,--gc-sections")
}

# zig, but for gRPC's service-mesh sources, which nothing calls without xDS and RLS: for these, a third of the core,
# it compiles an empty file. What is called after all fails to link.
write_zig() {
  local zig
  zig=$("$OXMON_VENV/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/zig
  : >"$cache/empty.c"
  : >"$cache/empty.cc"
  cat >"$cache/bin/zig" <<SH
#!/usr/bin/env bash
source=\${*: -1}
case \$source in
  */src/core/ext/xds/* | */src/core/ext/upbdefs-generated/* | */lb_policy/xds/* | */lb_policy/rls/* | */resolver/xds/* | \\
    */src/core/ext/upb-generated/envoy/*)
    set -- "\${@:1:\$#-1}" "$cache/empty.\${source##*.}" ;;
esac
exec $zig "\$@"
SH
  chmod +x "$cache/bin/zig"
  # cargo-zigbuild keeps its scripts as they were when it first wrote them.
  rm -rf "$cache/zigbuild"
}

# grpcio-sys carries bindings for x86_64 and aarch64. They name no processor, and on 32 bits a single number in
# them is another: GRPC_SLICE_INLINED_SIZE.
write_wrapper() {
  local file=$cache/bin/wrapper-$target source
  printf '#!/bin/sh\n' >"$file"
  if [ -n "$bindings" ]; then
    source=$(crate grpcio-sys)/bindings/bindings.rs
    [ "$(grep -c 'pub bytes: \[u8; 23usize\]' "$source")" = 1 ] || fail "the bindings of grpcio-sys are not those that this script knows"
    case $bindings in
      32) sed 's/pub bytes: \[u8; 23usize\]/pub bytes: [u8; 11usize]/' "$source" >"$cache/bindings-$bindings.rs" ;;
      64) cp "$source" "$cache/bindings-$bindings.rs" ;;
    esac
    # shellcheck disable=SC2016 # Not expanded here.
    printf 'case " $* " in *" --crate-name grpcio_sys "*) export BINDING_PATH=%s ;; esac\n' "$cache/bindings-$bindings.rs" >>"$file"
  fi
  # shellcheck disable=SC2016
  printf 'exec "$@"\n' >>"$file"
  chmod +x "$file"
}

# The folder of a crate that Cargo.lock names.
crate() {
  cargo metadata --locked --format-version 1 --all-features |
    grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"]*/Cargo.toml\"" | head -n 1 | cut -d'"' -f4 | xargs dirname
}

# The assembler variants of OpenSSL's ciphers are 1.2 MB of tables and unrolled loops, for a few kilobytes of traffic
# a minute; old and exotic algorithms go too. Its folders and flags are in the library, so they name no machine.
build_openssl() {
  local source build prefix=$work/openssl-$target tool
  source=$(crate openssl-src)/openssl
  [ -f "$source/Configure" ] || fail "no OpenSSL source in the openssl-src crate"
  build=$(mktemp -d)
  cp -r "$source/." "$build"
  mkdir "$build/musl-tools"
  for tool in cc ar ranlib; do
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$cache/bin/zig" \
      "$tool$([ "$tool" != cc ] || echo " $zig_flags")" >"$build/musl-tools/musl-$tool"
    chmod +x "$build/musl-tools/musl-$tool"
  done
  echo "musl: building a small OpenSSL for $target"
  (
    cd "$build"
    export PATH=$build/musl-tools:$PATH SOURCE_DATE_EPOCH=0 CC=musl-cc AR=musl-ar RANLIB=musl-ranlib
    export ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$cache/zig
    # shellcheck disable=SC2086 # The flags are words.
    ./Configure "$openssl" --prefix=/usr --libdir=lib --openssldir=/etc/ssl \
      no-asm no-shared no-module no-dso no-tests no-apps no-docs no-legacy no-engine no-comp no-zlib no-quic \
      no-dtls no-srp no-psk no-cms no-cmp no-ts no-ct no-gost no-sm2 no-sm3 no-sm4 no-aria no-camellia \
      no-idea no-seed no-bf no-cast no-rc2 no-rc4 no-rc5 no-rmd160 no-whirlpool no-md2 no-md4 no-mdc2 \
      no-siphash no-siv no-scrypt no-argon2 no-ec2m no-ml-kem no-ml-dsa no-slh-dsa no-ssl3 no-ssl3-method \
      no-ssl-trace no-srtp no-rfc3779 no-fips no-afalgeng no-ktls no-ui-console \
      -Os $small >configure.log 2>&1 || { tail -n 20 configure.log >&2; exit 1; }
    make -s -j"$(nproc)" build_libs >make.log 2>&1 || { tail -n 20 make.log >&2; exit 1; }
    make -s DESTDIR="$build/out" install_dev >install.log 2>&1 || { tail -n 20 install.log >&2; exit 1; }
  )
  rm -rf "$prefix"
  mv "$build/out/usr" "$prefix"
  rm -rf "$build"
}

# The last commit again, from another folder into another.
build_elsewhere() {
  local other program again
  git diff --quiet HEAD || fail "--twice compares what is committed: commit first"
  other=$(mktemp -d)
  mkdir "$other/source"
  git archive HEAD | tar -x -C "$other/source"
  again=$other/programs
  OXMON_MUSL=$cache OXMON_MUSL_WORK=$other/work CARGO_TARGET_DIR=$again \
    "$other/source/scripts/musl.sh" ${agent_only:+--agent} "$target"
  for program in "${programs[@]}"; do
    cmp "$CARGO_TARGET_DIR/$target/release/$program" "$again/$target/release/$program" ||
      fail "$program of $target is not the same twice: $other"
  done
  rm -rf "$other"
  echo "musl: $target: ${programs[*]}: the same bytes twice"
}

# In one line, so that the script may change while it runs.
main "$@"; exit
