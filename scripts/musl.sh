#!/usr/bin/env bash
# Builds static binaries for musl, which run on every Linux of their processor: what releases ship.
#   scripts/musl.sh [--agent] [TARGET...]            default: all four targets below
#   scripts/musl.sh --twice [--agent] [TARGET...]    builds the commit a second time elsewhere and compares bytes
# The programs are then in $CARGO_TARGET_DIR/TARGET/release. --agent leaves the server out. Everything comes from
# package registries: zig (PyPI) compiles C and C++, rustup's lld links, the sources of OpenSSL, gRPC and zlib are
# those of crates, and the standard library is built from rustup's rust-src or, where rustup can't bring it, with
# Debian's rustc-web and rust-web-src (OXMON_MUSL_RUST=distribution asks for these).
# Built libraries are kept in ~/.cache/oxmon/musl (OXMON_MUSL), so that a second run is short.
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
  zig=$("$OXMON_VENV/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/zig
  write_linker
  for target in "${targets[@]}"; do
    describe "$target"
    build
    [ -z "$twice" ] || build_elsewhere
  done
}

# What differs from target to target. zig_flags are those of zig's clang.
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
    x86_64-* | aarch64-*) [ -n "$agent_only" ] || programs+=(oxmon-server) ;;
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
c_flags="$small -D_LARGEFILE64_SOURCE"
cxx_flags='-fno-exceptions -DGRPC_NO_XDS -DGRPC_NO_RLS -Wno-missing-template-arg-list-after-template-kw'

build() {
  local out=$work/target/$target/release program args
  build_libraries
  write_wrapper
  # cargo-zigbuild keeps its scripts as they were when it first wrote them.
  rm -rf "$work/zigbuild-$target"
  (
    environment
    for program in "${programs[@]}"; do
      # What LLVM's defaults inline across crates is 0.7 MB of the server, and made nothing faster.
      args=() link=(-C 'link-arg=-Wl,--gc-sections' -C llvm-args=-inline-threshold=25)
      case $program in
        # Without the server's features, so that nothing of them is even compiled in, and for size. At a fixed
        # address: pointers that are relocated at the start would be half as much memory again. zig's own
        # libraries, musl's memcpy among them, are small with -Os; with them a packed report took 1.3 to 1.9 times the CPU.
        oxmon-agent) args=(--no-default-features --features agent "${AGENT_SIZE[@]}") link+=(-C link-arg=-Os) ;;
        oxmon-server) link+=(-C link-arg=-O3 -C link-arg=-pie) ;;
      esac
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

# Options that keep every path of this machine out of what is compiled: its bytes are the same everywhere.
# Sets c_maps for C and C++, and rust_maps.
path_maps() {
  local registry=${CARGO_HOME:-$HOME/.cargo}/registry/src folder
  c_maps="-ffile-prefix-map=$work=build" rust_maps="--remap-path-prefix=$library=std --remap-path-prefix=$work=build"
  for folder in "$registry"/*; do
    c_maps+=" -ffile-prefix-map=$folder/=" rust_maps+=" --remap-path-prefix=$folder/="
  done
  rust_maps+=" --remap-path-prefix=$PWD/="
}

# Exported for cargo alone.
environment() {
  path_maps
  export CFLAGS="$c_flags $c_maps" CXXFLAGS="$c_flags $cxx_flags $c_maps"
  export RUSTFLAGS="-C target-feature=+crt-static -C link-self-contained=no -C force-unwind-tables=no $rust_maps"
  export OPENSSL_DIR=$work/openssl-$target OPENSSL_STATIC=1 OPENSSL_NO_VENDOR=1
  export GRPCIO_SYS_USE_PKG_CONFIG=1 GRPC_STATIC=1 PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=$work/grpc-$target
  # -Zbuild-std on a compiler that is not a nightly.
  export RUSTC_BOOTSTRAP=1 SOURCE_DATE_EPOCH=0
  # musl's 64-bit time_t, which libc leaves out on 32 bits until this is set.
  export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
  export RUSTC_WRAPPER=$cache/bin/wrapper-$target
  export CARGO_TARGET_DIR=$work/target PATH=$OXMON_VENV/bin:$PATH
  # Without a Python it takes the zig of that path, and not the one of the Python package.
  export CARGO_ZIGBUILD_ZIG_PATH=$cache/bin/zig CARGO_ZIGBUILD_PYTHON_PATH=false CARGO_ZIGBUILD_CACHE_DIR=$work/zigbuild-$target
  export ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$cache/zig
}

# zig as cargo calls it. A program that it has linked is linked once more by LLVM's own lld with the same command,
# since zig passes on neither the folding of identical functions nor packed relative relocations.
write_linker() {
  local lld
  lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
  [ -x "$lld" ] || lld=$(command -v ld.lld) || fail "no lld: rustup's toolchains bring it (rust-lld); else install lld 15 or newer"
  cat >"$cache/bin/zig" <<SH
#!/usr/bin/env bash
messages=\$(mktemp)
trap 'rm -f "\$messages"' EXIT
status=0
ZIG_VERBOSE_LINK=1 "$zig" "\$@" 2>"\$messages" || status=\$?
grep -v '^ld.lld ' "\$messages" >&2
[ "\$status" = 0 ] || exit "\$status"
# Objects and zig's own libraries are linked with -r.
command=\$(grep '^ld.lld ' "\$messages" | grep -v '^ld.lld -r ' | tail -n 1)
[ -z "\$command" ] || "$lld" -flavor gnu \${command#ld.lld } --icf=safe -z pack-relative-relocs
SH
  chmod +x "$cache/bin/zig"
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

# Builds what is not of Rust, once: a library stays until its source, its flags or zig change.
build_libraries() {
  local library_source made_from zlib
  library_source=$(crate openssl-src)/openssl
  [ -f "$library_source/Configure" ] || fail "no OpenSSL source in the openssl-src crate"
  made_from=$(made_from "$library_source" build_openssl)
  built "$work/openssl-$target" "$made_from" || build_openssl
  library_source=$(crate grpcio-sys)/grpc
  zlib=$(crate libz-sys)/src/zlib
  made_from+=$(made_from "$library_source $zlib" build_grpc)
  if ! built "$work/grpc-$target" "$made_from"; then
    build_grpc
    # Cargo does not see that a library has changed behind its path.
    cargo clean --quiet --locked --release --target "$target" --target-dir "$work/target" -p grpcio-sys -p openssl-sys
  fi
}

# SOURCES FUNCTION: all that decides what FUNCTION makes of SOURCES.
made_from() { echo "$1 $("$zig" version) $zig_flags $c_flags $cxx_flags $(declare -f "$2" | sha256sum)"; }
built() { [ -f "$1/made-from" ] && [ "$(cat "$1/made-from")" = "$2" ]; }

# Starts a library's build: sets build to a new folder with zig's tools in it, and the environment for them.
open_build() {
  local tool options
  build=$(mktemp -d)
  mkdir "$build/tools"
  for tool in cc c++ ar ranlib; do
    case $tool in cc | c++) options=" $zig_flags" ;; *) options='' ;; esac
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$zig" "$tool$options" >"$build/tools/musl-$tool"
    chmod +x "$build/tools/musl-$tool"
  done
  path_maps
  export PATH=$build/tools:$PATH SOURCE_DATE_EPOCH=0
  export ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$cache/zig
}

# NAME COMMAND...: runs it with its output in a file, whose end is shown when it fails.
quietly() {
  local log=$build/$1.log
  shift
  "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "$target: $* failed"; }
}

# A built library takes its place. FOLDER PREFIX
close_build() {
  rm -rf "$2"
  mv "$1" "$2"
  printf '%s\n' "$made_from" >"$2/made-from"
  rm -rf "$build"
}

# The assembler variants of OpenSSL's ciphers are 1.2 MB of tables and unrolled loops, for a few kilobytes of traffic
# a minute; old and exotic algorithms go too. Its folders and flags are in the library, so they name no machine.
build_openssl() (
  echo "musl: building a small OpenSSL for $target"
  open_build
  cp -r "$library_source" "$build/source"
  cd "$build/source"
  export CC=musl-cc AR=musl-ar RANLIB=musl-ranlib
  # shellcheck disable=SC2086 # The flags are words.
  quietly configure ./Configure "$openssl" --prefix=/usr --libdir=lib --openssldir=/etc/ssl \
    no-asm no-shared no-module no-dso no-tests no-apps no-docs no-legacy no-engine no-comp no-zlib no-quic \
    no-dtls no-srp no-psk no-cms no-cmp no-ts no-ct no-gost no-sm2 no-sm3 no-sm4 no-aria no-camellia \
    no-idea no-seed no-bf no-cast no-rc2 no-rc4 no-rc5 no-rmd160 no-whirlpool no-md2 no-md4 no-mdc2 \
    no-siphash no-siv no-scrypt no-argon2 no-ec2m no-ml-kem no-ml-dsa no-slh-dsa no-ssl3 no-ssl3-method \
    no-ssl-trace no-srtp no-rfc3779 no-fips no-afalgeng no-ktls no-ui-console \
    -Os $small
  quietly make make -s -j"$(nproc)" build_libs
  quietly install make -s DESTDIR="$build/out" install_dev
  close_build "$build/out/usr" "$work/openssl-$target"
)

# gRPC's core with its own CMake, and not by the build script of grpcio-sys: that keeps it in a folder of cargo's,
# where a changed option costs 20 minutes of CPU again. The crate then finds it by pkg-config.
build_grpc() (
  echo "musl: building gRPC for $target: 10 minutes on two cores, once"
  open_build
  # Nothing of this machine's libraries, systemd's for one.
  export PKG_CONFIG_LIBDIR=$build
  mkdir -p "$build/out/lib"
  cp -r "$library_source" "$build/source"
  # Nothing calls the service mesh's sources without xDS and RLS: a third of the core. What is called after all
  # fails to link.
  find "$build/source/src/core" -name '*.c*' -type f | grep -E '/ext/xds/|/upbdefs-generated/|/lb_policy/(xds|rls)/|/resolver/xds/|/upb-generated/envoy/' | while read -r file; do : >"$file"; done
  # shellcheck disable=SC2086 # The flags are words.
  (
    mkdir "$build/zlib" && cd "$build/zlib"
    quietly zlib musl-cc -c -Os -fPIC -DHAVE_UNISTD_H $c_flags $c_maps "$zlib"/*.c
    quietly zlib musl-ar crs "$build/out/lib/libz.a" ./*.o
  )
  # abseil's flags for processors that it knows by name are not zig's. CMake 4 refuses the policies that gRPC asks for.
  quietly configure cmake -S "$build/source" -B "$build/cmake" -G "Unix Makefiles" -DCMAKE_POLICY_VERSION_MINIMUM=3.5 \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=generic -DCMAKE_BUILD_TYPE=MinSizeRel \
    -DCMAKE_C_COMPILER=musl-cc -DCMAKE_CXX_COMPILER=musl-c++ \
    -DCMAKE_AR="$build/tools/musl-ar" -DCMAKE_RANLIB="$build/tools/musl-ranlib" \
    -DCMAKE_C_FLAGS="$c_flags -fPIC -w $c_maps -ffile-prefix-map=$build=build" \
    -DCMAKE_CXX_FLAGS="$c_flags $cxx_flags -fPIC -w $c_maps -ffile-prefix-map=$build=build" \
    -DgRPC_INSTALL=OFF -DgRPC_BUILD_CODEGEN=OFF -DgRPC_BUILD_CSHARP_EXT=OFF -DABSL_ENABLE_INSTALL=ON \
    -DgRPC_SSL_PROVIDER=package -DOPENSSL_ROOT_DIR="$work/openssl-$target" -DOPENSSL_USE_STATIC_LIBS=ON \
    -DgRPC_ZLIB_PROVIDER=package -DZLIB_INCLUDE_DIR="$zlib" -DZLIB_LIBRARY="$build/out/lib/libz.a"
  quietly make make -C "$build/cmake" -j"$(nproc)" grpc
  find "$build/cmake" -name '*.a' -exec cp {} "$build/out/lib" \;
  mv "$build/source/include" "$build/out/include"
  {
    # The version is what the crate asks for; no path of the temporary folder is in the file.
    printf 'prefix=${pcfiledir}\nName: grpc\nDescription: gRPC core\nVersion: %s\n' "$(expr "$library_source" : '.*+\([0-9.]*\)')"
    printf 'Cflags: -I${prefix}/include\nLibs: -L${prefix}/lib -L${prefix}/../openssl-%s/lib -lgrpc' "$target"
    find "$build/out/lib" -name 'lib*.a' ! -name libgrpc.a -exec basename {} .a \; | LC_ALL=C sort | sed 's/^lib/ -l/' | tr -d '\n'
    printf ' -lssl -lcrypto\n'
  } >"$build/out/grpc.pc"
  close_build "$build/out" "$work/grpc-$target"
)

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
