#!/usr/bin/env bash
# Lays out a signed RPM repository (dnf, zypper) of the .rpm files in a folder, which any web server can serve.
#   scripts/rpm-repo.sh DIST OUT KEY
# KEY is a secret key of gpg (its fingerprint or address): it signs the packages and the list of them. OUT
# keeps the versions of earlier runs.
set -euo pipefail
fail() { echo "rpm-repo: $*" >&2; exit 1; }
[ $# -eq 3 ] || { echo "usage: scripts/rpm-repo.sh DIST OUT KEY" >&2; exit 2; }
dist=$1 out=$2 key=$3
for tool in createrepo_c rpmsign rpm gpg; do
  command -v "$tool" >/dev/null || fail "$tool is missing: install createrepo-c (createrepo_c), rpm (rpm-sign) and gnupg"
done
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || fail "gpg has no secret key \`$key\`"
shopt -s nullglob
packages=("$dist"/oxmon-*.rpm)
[ ${#packages[@]} -gt 0 ] || fail "$dist holds no oxmon-*.rpm: make rpm"

mkdir -p "$out/packages"
for package in "${packages[@]}"; do
  target=$out/packages/$(basename "$package")
  # What was published does not change; this digest leaves the signature out.
  if [ -e "$target" ]; then
    digest() { rpm -qp --nosignature --queryformat '%{SHA256HEADER}' "$1" 2>/dev/null; }
    [ "$(digest "$package")" = "$(digest "$target")" ] || fail "$target is published with other content: raise the version"
    continue
  fi
  install -m 644 "$package" "$target.new"
  rpmsign --define "_gpg_name $key" --define "__gpg $(command -v gpg)" --addsign "$target.new" >/dev/null
  mv "$target.new" "$target"
done
cd "$out"
createrepo_c --quiet --general-compress-type gz --compatibility .
gpg --batch --yes --local-user "$key" --armor --detach-sign -o repodata/repomd.xml.asc repodata/repomd.xml
gpg --batch --armor --export "$key" >RPM-GPG-KEY-oxmon
printf '[oxmon]\nname=oxmon\nbaseurl=@URL@\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=@URL@/RPM-GPG-KEY-oxmon\nenabled=1\n' >oxmon.repo
echo "rpm-repo: $out: $(find packages -name '*.rpm' | wc -l) packages"
