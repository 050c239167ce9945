#!/usr/bin/env bash
# Makes a release commit and its tag.
#   scripts/release.sh [--version X.Y.Z] [--push] [--skip-tests]
# Without --version the patch number goes up by one. A dirty tree or failing tests stop it; --skip-tests
# is for a tree that the CI has just passed.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "release: $*" >&2; exit 1; }
version='' push='' skip=''
while [ $# -gt 0 ]; do
  case $1 in
    --version) [ $# -ge 2 ] || fail "--version takes a value"; version=${2#v}; shift ;;
    --push) push=yes ;;
    --skip-tests) skip=yes ;;
    --help | -h) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option \`$1\`" ;;
  esac
  shift
done
[ -z "$(git status --porcelain)" ] || fail "the tree is not clean: commit or stash first"
current=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
if [ -z "$version" ]; then
  IFS=. read -r major minor patch <<<"$current"
  version=$major.$minor.$((patch + 1))
fi
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "\`$version\` is not a version such as 0.1.2"
git rev-parse -q --verify "refs/tags/v$version" >/dev/null && fail "the tag v$version is there already"
grep -q '^## \[Unreleased\]' CHANGELOG.md || fail "CHANGELOG.md has no [Unreleased] section"
if [ -z "$skip" ]; then make test || fail "the tests fail: nothing was released"; fi

sed -i.bak "0,/^version = \".*\"/s//version = \"$version\"/" Cargo.toml && rm Cargo.toml.bak
sed -i.bak "s/^## \[Unreleased\]/## [Unreleased]\n\n## [$version] - $(date -u +%F)/" CHANGELOG.md && rm CHANGELOG.md.bak
cargo update --quiet --offline --package oxmon --precise "$version" 2>/dev/null ||
  cargo metadata --quiet --offline --format-version 1 >/dev/null
git add Cargo.toml Cargo.lock CHANGELOG.md
git commit --quiet --message "Release $version"
git tag --annotate "v$version" --message "v$version"
echo "release: committed and tagged v$version"
if [ -n "$push" ]; then
  git push --quiet origin HEAD "v$version"
  echo "release: pushed; the release workflow builds and publishes it"
else
  echo "release: publish it with: git push origin HEAD v$version"
fi
