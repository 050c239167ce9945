#!/usr/bin/env bash
# Packs the release binaries of one target into tarballs, as install.sh takes them.
#   scripts/package.sh TARGET OUT_DIR [BIN_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: scripts/package.sh TARGET OUT_DIR [BIN_DIR]" >&2; exit 2; }
target=$1 out=$2 bin=${3:-${CARGO_TARGET_DIR:-target}/$1/release}
mkdir -p "$out"
programs=(oxmon-agent oxmon-server)
# Small processors have the agent alone.
case $target in armv7-* | riscv64gc-*) programs=(oxmon-agent) ;; esac
for program in "${programs[@]}"; do
  [ -x "$bin/$program" ] || { echo "package: $bin/$program is not built: make $target" >&2; exit 1; }
  work=$(mktemp -d)
  cp "$bin/$program" LICENSE README.md CHANGELOG.md "$work"
  cp "config/${program#oxmon-}.example.toml" "systemd/$program.service" "$work"
  files=(CHANGELOG.md LICENSE README.md "${program#oxmon-}.example.toml" "$program" "$program.service")
  # Fixed order, owner and times: the same binaries give the same archive. Only GNU tar knows how.
  exact=()
  if tar --version | grep -q GNU; then
    exact=(--owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}")
  fi
  tar ${exact[@]+"${exact[@]}"} -C "$work" -cf - "${files[@]}" |
    gzip "-$([ -n "${OXMON_FAST:-}" ] && echo 1 || echo 9)n" >"$out/$program-$target.tar.gz"
  rm -rf "$work"
  echo "package: $out/$program-$target.tar.gz"
done
cd "$out"
if command -v sha256sum >/dev/null; then sum=(sha256sum); else sum=(shasum -a 256); fi
"${sum[@]}" oxmon-*.tar.gz >SHA256SUMS
