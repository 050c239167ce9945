#!/usr/bin/env bash
# Packs the release binaries of one target into tarballs, as install.sh takes them.
#   scripts/package.sh TARGET OUT_DIR [BIN_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: scripts/package.sh TARGET OUT_DIR [BIN_DIR]" >&2; exit 2; }
target=$1 out=$2 bin=${3:-${CARGO_TARGET_DIR:-target}/$1/release}
mkdir -p "$out"
for program in oxmon-agent oxmon-server; do
  [ -x "$bin/$program" ] || { echo "package: $bin/$program is not built: make $target" >&2; exit 1; }
  work=$(mktemp -d)
  cp "$bin/$program" LICENSE README.md CHANGELOG.md "$work"
  cp "config/${program#oxmon-}.example.toml" "$work"
  # Sorted names, fixed owner and times: the same binaries give the same archive.
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" \
    -C "$work" -cf - . 2>/dev/null | gzip -9n >"$out/$program-$target.tar.gz" ||
    tar -C "$work" -czf "$out/$program-$target.tar.gz" .
  rm -rf "$work"
  echo "package: $out/$program-$target.tar.gz"
done
(cd "$out" && { command -v sha256sum >/dev/null && sha256sum -- oxmon-* || shasum -a 256 -- oxmon-*; } >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
