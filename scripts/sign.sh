#!/bin/sh
# Signs a release's SHA256SUMS with the private key in RELEASE_SIGNING_KEY, into SHA256SUMS.sig.
#
#   sign.sh SHA256SUMS [PUBLIC_KEY]
#
# The signature is checked with the public key that install.sh has, so that what is released can be
# installed. Where install.sh has none, nothing is signed. Make a pair with
# `ssh-keygen -t ed25519 -N '' -C '' -f release-key`.
set -eu

fail() { printf 'sign: %s\n' "$*" >&2; exit 1; }

[ $# -ge 1 ] || fail "name the file with the checksums"
sums=$1
public=${2-$(sed -n "s/^RELEASE_KEY='\(.*\)'$/\1/p" "$(dirname "$0")/install.sh")}
if [ -z "$public" ]; then
  echo "sign: scripts/install.sh has no RELEASE_KEY: $sums is not signed"
  exit 0
fi
[ -n "${RELEASE_SIGNING_KEY-}" ] || fail "RELEASE_SIGNING_KEY is empty, and install.sh asks for a signature"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(umask 077 && printf '%s\n' "$RELEASE_SIGNING_KEY" >"$work/key")
rm -f "$sums.sig"
ssh-keygen -q -Y sign -f "$work/key" -n oxmon-release "$sums"
printf 'release@oxmon namespaces="oxmon-release" %s\n' "$public" >"$work/signers"
ssh-keygen -q -Y verify -f "$work/signers" -I release@oxmon -n oxmon-release -s "$sums.sig" <"$sums" >/dev/null ||
  fail "the key in RELEASE_SIGNING_KEY is not the one that install.sh has"
echo "sign: wrote $sums.sig"
