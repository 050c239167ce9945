#!/usr/bin/env bash
# Makes oxmon-agent and oxmon-server .deb packages from built binaries, for the processor that these are for.
#   packaging/deb/build.sh BIN_DIR OUT_DIR [VERSION]
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { echo "usage: packaging/deb/build.sh BIN_DIR OUT_DIR [VERSION]" >&2; exit 2; }
bin=$(realpath "$1") out=$2
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
command -v dpkg-deb >/dev/null || { echo "deb: dpkg-deb is missing: install dpkg" >&2; exit 1; }
mkdir -p "$out"
. packaging/machine.sh
architecture=$(machine_of "$bin/oxmon-agent" deb)
maintainer="oxmon maintainers <maintainers@oxmon.invalid>"
# The packaging's first revision of this version.
version=$version-1
# The times inside the package are those of the last commit: the same tree gives the same package.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$epoch

for component in $(components_of "$bin"); do
  name=oxmon-$component
  root=$(mktemp -d)
  chmod 755 "$root"
  trap 'rm -rf "$root"' EXIT
  packaging/stage.sh "$component" "$bin" "$root"
  # Debian keeps a changelog of the packaging beside the project's own, in a format of its own.
  {
    printf '%s (%s) stable; urgency=medium\n\n' "$name" "$version"
    printf '  * Version %s; changelog.gz beside this says what is new.\n\n' "${version%-*}"
    printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "@$epoch")"
  } | gzip -9nc >"$root/usr/share/doc/$name/changelog.Debian.gz"
  chmod 644 "$root/usr/share/doc/$name/changelog.Debian.gz"
  install -d "$root/usr/share/lintian/overrides" "$root/DEBIAN"
  sed "s/@NAME@/$name/g" packaging/deb/lintian-overrides >"$root/usr/share/lintian/overrides/$name"
  chmod 644 "$root/usr/share/lintian/overrides/$name"
  echo "/etc/oxmon/$component.example.toml" >"$root/DEBIAN/conffiles"
  for script in preinst postinst prerm postrm; do
    sed -e "s/@NAME@/$name/g" -e "s/@COMPONENT@/$component/g" \
      -e "s/@USER@/$([ "$component" = agent ] && echo oxmon-agent || echo oxmon)/g" \
      -e "s|@STATE@|/var/lib/$([ "$component" = agent ] && echo oxmon-agent || echo oxmon)|g" \
      "packaging/deb/$script" >"$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
  done
  # Which libraries it needs is read from the binary; a static one needs none.
  depends=
  if command -v dpkg-shlibdeps >/dev/null && ldd "$bin/$name" >/dev/null 2>&1; then
    control=$(mktemp -d) && mkdir "$control/debian" && : >"$control/debian/control"
    depends=$(cd "$control" && dpkg-shlibdeps -O "$bin/$name" 2>/dev/null | sed 's/^shlibs:Depends=//')
    rm -rf "$control"
  fi
  summary=$(sed -n "s/^$component: //p" packaging/summaries.txt)
  {
    echo "Package: $name"
    echo "Version: $version"
    echo "Architecture: $architecture"
    echo "Maintainer: $maintainer"
    echo "Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)"
    [ -z "$depends" ] || echo "Depends: $depends"
    echo "Section: admin"
    echo "Priority: optional"
    echo "Description: $summary"
    sed -n "s/^$component+ / /p" packaging/summaries.txt
  } >"$root/DEBIAN/control"
  (cd "$root" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  find "$root" -newermt "@$epoch" -exec touch -hd "@$epoch" {} +
  # xz, because a dpkg that is not Debian's or Ubuntu's newest reads no zstd.
  compression=(-Zxz)
  [ -z "${OXMON_FAST:-}" ] || compression=(-Zgzip -z1)
  dpkg-deb "${compression[@]}" --root-owner-group --build "$root" "$out/${name}_${version}_$architecture.deb" >/dev/null
  rm -rf "$root"
  trap - EXIT
  echo "deb: $out/${name}_${version}_$architecture.deb"
done
