#!/usr/bin/env bash
# Lays out the folder that both Dockerfiles copy from.
#   scripts/images.sh CONTEXT ARCH=BIN_DIR...        ARCH as containers call it: amd64, arm64
#   ENGINE=docker scripts/images.sh CONTEXT ARCH=BIN_DIR...        and builds the images for the first ARCH
# BIN_DIR holds static binaries: those of `make musl` or of a release's archives. A daemon
# that it does not hold is left out. Certificates and time zones are this system's.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "images: $*" >&2; exit 1; }
[ $# -ge 2 ] || { echo "usage: scripts/images.sh CONTEXT ARCH=BIN_DIR..." >&2; exit 2; }
context=$1
shift
# The folders inside are this script's, from an earlier run.
rm -rf "$context/rootfs" "$context/volume"
mkdir -p "$context/rootfs/etc/ssl/certs" "$context/rootfs/usr/share"
# The volume's first content; a file in it, because engines leave out a folder without one.
mkdir -p "$context/volume"
mkdir -m 700 "$context/volume/data"
: >"$context/volume/data/.keep"
certificates=''
for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
  /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
  if [ -n "$file" ] && [ -s "$file" ]; then certificates=$file; break; fi
done
[ -n "$certificates" ] || fail "no certificates of authorities on this system: install ca-certificates"
install -m 644 "$certificates" "$context/rootfs/etc/ssl/certs/ca-certificates.crt"
[ -d /usr/share/zoneinfo ] || fail "no time zones on this system: install tzdata"
# Without the copies that count leap seconds and those that do not, which nothing reads.
cp -a /usr/share/zoneinfo "$context/rootfs/usr/share/"
rm -rf "$context/rootfs/usr/share/zoneinfo/right" "$context/rootfs/usr/share/zoneinfo/posix"
printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:oxmon:/data:/sbin/nologin\n' >"$context/rootfs/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$context/rootfs/etc/group"

programs=()
for pair in "$@"; do
  arch=${pair%%=*} bin=${pair#*=}
  case $arch in amd64 | arm64) ;; *) fail "no architecture \`$arch\`: amd64 or arm64" ;; esac
  rm -rf "${context:?}/$arch"
  mkdir "$context/$arch"
  for program in oxmon-agent oxmon-server; do
    [ -x "$bin/$program" ] || continue
    install -m 755 "$bin/$program" "$context/$arch/$program"
    case " ${programs[*]-} " in *" $program "*) ;; *) programs+=("$program") ;; esac
  done
  [ -n "$(ls "$context/$arch")" ] || fail "$bin holds neither oxmon-agent nor oxmon-server: make musl"
done
echo "images: laid out $context: ${programs[*]}"
if [ -n "${ENGINE:-}" ]; then
  for program in "${programs[@]}"; do
    # Without the format podman drops the health check.
    format=()
    case $ENGINE in *podman*) format=(--format docker) ;; esac
    "$ENGINE" build ${format[@]+"${format[@]}"} --platform "linux/${1%%=*}" \
      -f "Dockerfile.${program#oxmon-}" -t "$program" "$context"
  done
fi
