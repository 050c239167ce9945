#!/usr/bin/env bash
# Installs what is missing for a build (`scripts/setup.sh build`), for the tests too
# (`scripts/setup.sh test`), or for static musl binaries (`scripts/setup.sh musl`). It names the
# packages first, uses the system's package manager, and calls sudo only when there is something to install.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-build}
case $what in build | test | musl) ;; *) echo "usage: scripts/setup.sh build|test|musl" >&2; exit 2 ;; esac

say() { printf 'setup: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else say "not root and no sudo: run this as root: $*" >&2; exit 1; fi
}

command -v cargo >/dev/null || { say "cargo not found: install Rust from https://rustup.rs first" >&2; exit 1; }

manager=none
for candidate in apt-get dnf apk pacman; do
  if command -v "$candidate" >/dev/null; then manager=$candidate; break; fi
done

# One row a tool: a command that succeeds when it is installed | its package with apt | dnf | apk | pacman;
# `-` where there is none, and the tests that need it print that they did not run.
# The distribution's gRPC (libgrpc-dev) spares the long build of the C++ core.
build_rows='
command -v cc|gcc|gcc|gcc|gcc
command -v c++|g++|gcc-c++|g++|gcc
command -v make|make|make|make|make
command -v perl|perl|perl|perl|perl'
linked_rows='
command -v pkg-config|pkg-config|pkgconf-pkg-config|pkgconf|pkgconf
pkg-config --exists openssl|libssl-dev|openssl-devel|openssl-dev|openssl
pkg-config --exists grpc|libgrpc-dev|grpc-devel|grpc-dev|grpc'
musl_rows='
command -v cmake|cmake|cmake|cmake|cmake
command -v pkg-config|pkg-config|pkgconf-pkg-config|pkgconf|pkgconf
command -v python3|python3|python3|python3|python
python3 -c "import venv,ensurepip"|python3-venv|python3|python3|python'
test_rows='
command -v curl|curl|curl|curl|curl
command -v openssl|openssl|openssl|openssl|openssl
command -v sqlite3|sqlite3|sqlite|sqlite|sqlite
command -v jq|jq|jq|jq|jq
command -v python3|python3|python3|python3|python
python3 -c "import venv,ensurepip"|python3-venv|python3|python3|python
command -v strace|strace|strace|strace|strace
command -v systemd-analyze|systemd|systemd|-|systemd
command -v unshare|util-linux|util-linux|util-linux|util-linux
command -v file|file|file|file|file
command -v man|man-db|man-db|man-db|man-db
command -v dpkg-shlibdeps|dpkg-dev|-|-|-
command -v lintian|lintian|-|-|-
command -v free|procps|procps-ng|procps|procps-ng
command -v ss|iproute2|iproute|iproute2|iproute2
command -v iostat|sysstat|sysstat|sysstat|sysstat
command -v systemd-nspawn|systemd-container|systemd-container|-|systemd
command -v mmdebstrap|mmdebstrap|-|-|-
command -v apt-ftparchive|apt-utils|-|-|-
command -v gpg-agent|gnupg|gnupg2|gnupg|gnupg
command -v createrepo_c|createrepo-c|createrepo_c|-|-
command -v dnf|dnf|dnf|-|-
command -v podman|podman|podman|podman|podman
test -n "$(find /usr/lib/cni/bridge /usr/lib/podman/netavark 2>/dev/null)"|containernetworking-plugins|netavark|netavark|netavark
command -v iptables|iptables|iptables|iptables|iptables
command -v runc|runc|runc|runc|runc
command -v busybox|busybox-static|busybox|busybox-static|busybox
command -v sensors|lm-sensors|lm_sensors|lm-sensors|lm_sensors
command -v stress-ng|stress-ng|stress-ng|stress-ng|stress-ng
command -v rpmbuild|rpm|rpm-build|rpm|rpm-tools
command -v rpmlint|rpmlint|rpmlint|-|-
command -v zsh|zsh|zsh|zsh|zsh
command -v fish|fish|fish|fish|fish
command -v npm|npm|npm|npm|npm
command -v shellcheck|shellcheck|ShellCheck|shellcheck|shellcheck
test -x /usr/sbin/nginx|nginx-light|nginx|nginx|nginx
test -x /usr/bin/caddy|caddy|caddy|caddy|caddy
command -v promtool|prometheus|golang-github-prometheus|prometheus|prometheus
command -v vmagent|victoria-metrics|-|victoria-metrics|-'

# The dashboard is tested in a browser. Ubuntu has it as a snap alone, which apt can't install where
# no snapd runs: there the tests use what is installed, or say that they were skipped.
browser_rows='
command -v chromium|chromium|chromium|chromium|chromium
command -v chromedriver|chromium-driver|chromedriver|chromium-chromedriver|chromium'
if grep -qs '^ID=ubuntu' /etc/os-release; then
  browser_rows=
  test_rows=${test_rows/containernetworking-plugins/netavark}
fi

rows=$build_rows
case $what in
  build) rows+=$linked_rows ;;
  test) rows+=$linked_rows$test_rows$browser_rows ;;
  musl) rows+=$musl_rows ;;
esac

column() { case $manager in apt-get) echo 2 ;; dnf) echo 3 ;; apk) echo 4 ;; pacman) echo 5 ;; *) echo 2 ;; esac; }

missing=()
while IFS='|' read -r check packages; do
  [ -n "$check" ] || continue
  bash -c "$check" >/dev/null 2>&1 && continue
  package=$(printf '%s|%s' "$check" "$packages" | cut -d'|' -f"$(column)")
  [ "$package" = - ] || missing+=("$package")
done <<<"$rows"

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  say "installing with $manager: ${missing[*]}"
  case $manager in
    apt-get)
      as_root apt-get update -qq
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ;;
    dnf) as_root dnf install -y -q "${missing[@]}" ;;
    apk) as_root apk add --quiet "${missing[@]}" ;;
    pacman) as_root pacman -S --needed --noconfirm --quiet "${missing[@]}" ;;
    none) say "unknown package manager; install these by hand: ${missing[*]}" >&2; exit 1 ;;
  esac
else
  say "$what: everything is installed"
fi

# Without the distribution's gRPC the C++ core is built from source, which needs cmake.
if [ "$what" != musl ] && ! pkg-config --exists grpc; then
  command -v cmake >/dev/null || { say "installing with $manager: cmake"; case $manager in
    apt-get) as_root apt-get install -y -qq cmake >/dev/null ;;
    dnf) as_root dnf install -y -q cmake ;;
    apk) as_root apk add --quiet cmake ;;
    pacman) as_root pacman -S --needed --noconfirm --quiet cmake ;;
  esac; }
  say "no gRPC package on this system: its core is built from source once, which takes 10 to 20 minutes"
  say "plain cargo then needs: export GRPCIO_SYS_USE_PKG_CONFIG=0"
fi

venv=${OXMON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/oxmon/venv}
# Installs a file of Python packages, once: FILE, and the name that it is kept under to see a change.
python_packages() {
  [ -f "$1" ] && ! cmp -s "$1" "$venv/$2" || return 0
  say "installing into $venv: $(grep -v '^#' "$1" | tr '\n' ' ')"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement "$1"
  cp "$1" "$venv/$2"
}

if [ "$what" = musl ]; then python_packages packaging/musl/requirements.txt musl-requirements.txt; fi
if [ "$what" = test ]; then
  python_packages tests/requirements.txt requirements.txt
  # The install script's PM2 paths are tested with a real one, and the dashboard's pages by axe,
  # where npm is there to bring them.
  npm=$(dirname "$venv")/npm
  if command -v npm >/dev/null; then
    for package in pm2 axe-core; do
      [ -d "$npm/node_modules/$package" ] && continue
      say "installing into $npm: $package"
      npm install --silent --no-fund --no-audit --prefix "$npm" "$package" >/dev/null
    done
  fi
fi
