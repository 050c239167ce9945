#!/usr/bin/env bash
# Makes oxmon-agent and oxmon-server .rpm packages from built binaries, with rpmbuild, for the processor that
# these are for.
#   packaging/rpm/build.sh BIN_DIR OUT_DIR [VERSION]
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { echo "usage: packaging/rpm/build.sh BIN_DIR OUT_DIR [VERSION]" >&2; exit 2; }
bin=$(realpath "$1") out=$2
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
command -v rpmbuild >/dev/null || { echo "rpm: rpmbuild is missing: install rpm (apt) or rpm-build (dnf)" >&2; exit 1; }
# The times inside the package are those of the last commit: the same tree gives the same package.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$epoch
mkdir -p "$out"
out=$(realpath "$out")
. packaging/machine.sh
architecture=$(machine_of "$bin/oxmon-agent" rpm)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT

for component in $(components_of "$bin"); do
  name=oxmon-$component
  stage=$top/stage-$component
  packaging/stage.sh "$component" "$bin" "$stage"
  # Fedora keeps zsh's completions elsewhere than Debian.
  mkdir -p "$stage/usr/share/zsh/site-functions"
  mv "$stage/usr/share/zsh/vendor-completions/"* "$stage/usr/share/zsh/site-functions/"
  rmdir "$stage/usr/share/zsh/vendor-completions"
  summary=$(sed -n "s/^$component: //p" packaging/summaries.txt)
  rpmbuild -bb --quiet --target "$architecture-linux" ${OXMON_FAST:+--define "_binary_payload w1.gzdio"} \
    --define "_topdir $top" --define "_rpmdir $out" --define "stage $stage" \
    --define "name_ $name" --define "component $component" --define "version_ $version" \
    --define "user $([ "$component" = agent ] && echo oxmon-agent || echo oxmon)" \
    --define "state /var/lib/$([ "$component" = agent ] && echo oxmon-agent || echo oxmon)" \
    --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
    --define "summary_ ${summary^}" \
    --define "epoch_ $epoch" \
    packaging/rpm/oxmon.spec
done
find "$out" -name "oxmon-*-$version-*.rpm" -exec echo "rpm: {}" \;
