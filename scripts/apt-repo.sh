#!/usr/bin/env bash
# Lays out a signed APT repository of the .deb files in a folder, which any web server can serve.
#   scripts/apt-repo.sh DIST OUT KEY
# KEY is a secret key of gpg (its fingerprint or address). OUT keeps the versions of earlier runs; those that
# should not be offered any more are deleted from OUT/pool by hand before.
set -euo pipefail
fail() { echo "apt-repo: $*" >&2; exit 1; }
[ $# -eq 3 ] || { echo "usage: scripts/apt-repo.sh DIST OUT KEY" >&2; exit 2; }
dist=$1 out=$2 key=$3
for tool in apt-ftparchive dpkg-deb gpg; do
  command -v "$tool" >/dev/null || fail "$tool is missing: install apt-utils, dpkg and gnupg"
done
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || fail "gpg has no secret key \`$key\`: apt takes no repository without a signature"
shopt -s nullglob
packages=("$dist"/oxmon-*.deb)
[ ${#packages[@]} -gt 0 ] || fail "$dist holds no oxmon-*.deb: make deb"

mkdir -p "$out/pool/main"
for package in "${packages[@]}"; do
  target=$out/pool/main/$(basename "$package")
  # What was published does not change: a changed package has another version.
  if [ -e "$target" ] && ! cmp -s "$package" "$target"; then
    fail "$target is published with other content: raise the version"
  fi
  install -m 644 "$package" "$target"
done

cd "$out"
architectures=$(for package in pool/main/*.deb; do dpkg-deb --field "$package" Architecture; done | sort -u)
# Written beside the old lists and then put in their place, so that nobody reads half of them.
rm -rf dists.new && mkdir -p dists.new/stable
for architecture in $architectures; do
  folder=dists.new/stable/main/binary-$architecture
  mkdir -p "$folder"
  apt-ftparchive --arch "$architecture" packages pool/main >"$folder/Packages"
  gzip -9nk "$folder/Packages"
  xz -9k "$folder/Packages"
done
release=$(mktemp)
apt-ftparchive \
  -o APT::FTPArchive::Release::Origin=oxmon -o APT::FTPArchive::Release::Label=oxmon \
  -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
  -o APT::FTPArchive::Release::Components=main \
  -o "APT::FTPArchive::Release::Architectures=$(echo $architectures)" \
  release dists.new/stable >"$release"
install -m 644 "$release" dists.new/stable/Release
rm -f "$release"
gpg --batch --yes --local-user "$key" --digest-algo SHA256 --clearsign -o dists.new/stable/InRelease dists.new/stable/Release
gpg --batch --yes --local-user "$key" --digest-algo SHA256 --armor --detach-sign -o dists.new/stable/Release.gpg dists.new/stable/Release
gpg --batch --export "$key" >oxmon.gpg
rm -rf dists.old
[ ! -e dists ] || mv dists dists.old
mv dists.new dists
rm -rf dists.old
printf 'Types: deb\nURIs: @URL@\nSuites: stable\nComponents: main\nSigned-By: /usr/share/keyrings/oxmon.gpg\n' >oxmon.sources
echo "apt-repo: $out: $(find pool -name '*.deb' | wc -l) packages for" $architectures
