#!/usr/bin/env bash
# Runs what scripts/musl.sh built: static, in a folder with nothing else, and against the tests of the suite.
#   scripts/musl-check.sh [TARGET...]       default: every target that is built
# On this machine's processor the suite's tests of both daemons run against the musl programs; programs of other
# processors run under qemu-user, against the tests of what differs there: a report, TLS with a private authority,
# a name resolved, the buffer after SIGKILL, --once, counters and times of 64 bits, and the server where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "musl-check: $*" >&2; exit 1; }
scripts/setup.sh test
. scripts/env.sh
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
cache=${OXMON_MUSL:-${XDG_CACHE_HOME:-$HOME/.cache}/oxmon/musl}
# What the tests start is here.
place=$CARGO_TARGET_DIR/musl-check
export OXMON_AGENT_BIN=$place/oxmon-agent OXMON_SERVER_BIN=$place/oxmon-server
export PATH="$OXMON_VENV/bin:$PATH"

# Substrings of tests' names, as cargo test and cargo nextest both take them.
agent_tests='agents:: enroll:: wide:: measured:: modes::an_agents_buffer tls::a_private_authority tls::agents_refuse
  faults::outage::an_agent_that_is_killed'
server_tests='tls:: certs:: ingest:: sqlite:: backup:: rules::'
native_tests="$agent_tests $server_tests alerts:: api:: bounds:: channels:: config:: faults:: first_start:: grpc_gate::
  hosts:: lifecycle:: notify:: outgoing:: promql::import reload:: secrets:: service:: sql:: stock:: upgrade::"

# A static qemu-user, from the system or unpacked from its package: PROCESSOR
emulator() {
  command -v "qemu-$1-static" && return
  if [ ! -x "$cache/qemu/usr/bin/qemu-$1-static" ]; then
    command -v apt-get >/dev/null || fail "qemu-$1-static is missing: install qemu-user-static"
    mkdir -p "$cache/qemu"
    (cd "$cache/qemu" && apt-get -qq download qemu-user-static 2>/dev/null && dpkg -x qemu-user-static_*.deb . && rm qemu-user-static_*.deb)
  fi
  echo "$cache/qemu/usr/bin/qemu-$1-static"
}

# What tests start: the program itself, or a script that runs it under the emulator and keeps its process id.
install_at_place() {
  local name=$1 program=$2 runner=${3:-}
  rm -f "$place/$name"
  if [ -z "$runner" ]; then cp "$program" "$place/$name"; return; fi
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$runner" "$program" >"$place/$name"
  chmod +x "$place/$name"
}

check() {
  local target=$1 bin=$CARGO_TARGET_DIR/$1/release runner='' tests server
  [ -x "$bin/oxmon-agent" ] || fail "$bin/oxmon-agent is not built: scripts/musl.sh $target"
  [ "${target%%-*}" = "$(uname -m)" ] || case $target in
    x86_64-*) runner=$(emulator x86_64) ;;
    aarch64-*) runner=$(emulator aarch64) ;;
    armv7-*) runner=$(emulator arm) ;;
    riscv64gc-*) runner=$(emulator riscv64) ;;
  esac
  echo "musl-check: $target${runner:+ under ${runner##*/}}"
  mkdir -p "$place"
  install_at_place oxmon-agent "$bin/oxmon-agent" "$runner"
  server=$bin/oxmon-server
  if [ -x "$server" ]; then
    OXMON_RUNNER=$runner scripts/static-check.sh "$bin"
    install_at_place oxmon-server "$server" "$runner"
  else
    # Another processor's agent reports to a server of this one.
    cargo build --locked --quiet --bin oxmon-server
    server=$CARGO_TARGET_DIR/debug/oxmon-server
    OXMON_RUNNER=$runner scripts/static-check.sh "$bin" "$server"
    install_at_place oxmon-server "$server"
  fi
  tests=$native_tests
  # A booted system has no emulator, and an emulated agent's memory is mostly the emulator's.
  [ -z "$runner" ] || tests="$agent_tests --skip measured::units --skip agents::an_answer_that_unpacks"
  [ -z "$runner" ] || [ ! -x "$bin/oxmon-server" ] || tests="$tests $server_tests"
  # shellcheck disable=SC2086 # The names are words.
  if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --no-fail-fast --test it -- $tests
  else cargo test --locked --test it -- $tests; fi
  echo "musl-check: $target: good"
}

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for folder in "$CARGO_TARGET_DIR"/*-unknown-linux-musl*/release; do targets+=("$(basename "$(dirname "$folder")")"); done
fi
for target in "${targets[@]}"; do check "$target"; done
