#!/bin/sh
# Installs or removes oxmon from a release: binary, configuration, and on request a service.
#
#   install.sh server|agent [options]
#
#   --version TAG             release to install              (default: latest)
#   --install-dir DIR         where the binary goes            (default: /usr/local/bin)
#   --config-dir DIR          where the configuration goes     (default: /etc/oxmon)
#   --data-dir DIR            the server's data                (default: /var/lib/oxmon)
#   --agent-id ID             the agent's name                 (default: this host's name)
#   --server-endpoint H:P     the server that the agent reports to  (default: 127.0.0.1:9090)
#   --code CODE               a code from the dashboard ("Add a host"): fetches the agent's token
#   --tls                     with --code: the server's port speaks TLS
#   --setup-systemd           install a systemd unit, and start or restart it
#   --setup-pm2               write a PM2 file and start it with PM2
#   --pm2-only                only that, for a binary that is installed already
#   --base-url URL            a mirror, or a folder on this machine, with the release's files
#   --release-key KEY         the key that signed them, as "ssh-ed25519 AAAA..."  (default: the project's)
#   --unsigned                take files that are not signed; their checksums are checked all the same
#   --uninstall               remove what this script installed; configuration and data stay
#   --help                    this text
#
# The archive is checked against the release's SHA256SUMS, and those against their signature where
# ssh-keygen is installed, before anything is installed. An existing configuration is never changed. Needs a POSIX shell, tar, and curl or wget.
set -eu

RELEASES=https://github.com/skingford/oxmon/releases
# The public key of releases. Empty until the project has one (CONTRIBUTING.md, "Releases").
RELEASE_KEY=''

say() { printf 'install: %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p;}' "$0" 2>/dev/null || say "see the project's README"; }

component=
version=latest
install_dir=/usr/local/bin
config_dir=/etc/oxmon
data_dir=/var/lib/oxmon
agent_id=
server_endpoint=127.0.0.1:9090
code='' tls=''
base_url=
release_key=$RELEASE_KEY
unsigned=
unpacked=
setup_systemd='' setup_pm2='' pm2_only='' uninstall=''

parse() {
  [ $# -gt 0 ] || { usage; exit 2; }
  while [ $# -gt 0 ]; do
    case $1 in
      server | agent) component=$1 ;;
      --version | --install-dir | --config-dir | --data-dir | --agent-id | --server-endpoint | --code | --base-url | --release-key)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
          --version) version=$2 ;;
          --install-dir) install_dir=$2 ;;
          --config-dir) config_dir=$2 ;;
          --data-dir) data_dir=$2 ;;
          --agent-id) agent_id=$2 ;;
          --server-endpoint) server_endpoint=$2 ;;
          --code) code=$2 ;;
          --base-url) base_url=$2 ;;
          --release-key) release_key=$2 ;;
        esac
        shift ;;
      --tls) tls=yes ;;
      --unsigned) unsigned=yes ;;
      --setup-systemd) setup_systemd=yes ;;
      --setup-pm2) setup_pm2=yes ;;
      --pm2-only) pm2_only=yes ;;
      --uninstall) uninstall=yes ;;
      --help | -h) usage; exit 0 ;;
      *) fail "unknown option \`$1\`; see --help" ;;
    esac
    shift
  done
  [ -n "$component" ] || fail "name the component: server or agent"
  [ -z "$code$tls" ] || [ "$component" = agent ] || fail "--code and --tls are for an agent"
  [ -z "$tls" ] || [ -n "$code" ] || fail "--tls needs --code; without a code set [tls] in the configuration"
  [ -z "$setup_systemd" ] || [ -z "$setup_pm2$pm2_only" ] || fail "use --setup-systemd or PM2, not both"
  # What goes into a TOML string must not end it.
  case $agent_id$server_endpoint$data_dir$install_dir$config_dir in
    *[\"\\\|\&\%]* | *"
"*) fail "no quotes, backslashes, bars, ampersands, percent signs or line ends in --agent-id, --server-endpoint and folders" ;;
  esac
  # systemd splits ExecStart= and ReadWritePaths= at spaces.
  if [ -n "$setup_systemd" ]; then
    case $install_dir$config_dir$data_dir in *[[:space:]]*) fail "a systemd unit takes no folder with a space" ;; esac
    case $install_dir/:$config_dir/:$data_dir/ in
      /root/* | *:/root/* | /run/user/* | *:/run/user/*) fail "the service's user cannot read below /root and /run/user: choose other folders" ;;
      /*:/*:/*) ;;
      *) fail "a systemd unit takes absolute folders only" ;;
    esac
  fi
  program=oxmon-$component
  config=$config_dir/$component.toml
}

# Runs a command directly when the folder is writable, and with sudo otherwise.
with_rights() {
  target=$1 near=$1
  shift
  while [ ! -e "$near" ]; do near=$(dirname "$near"); done
  if [ -w "$near" ]; then "$@"
  elif command -v sudo >/dev/null; then say "using sudo for $target"; sudo "$@"
  else fail "cannot write $target: run this as root, or choose other folders (--install-dir, --config-dir, --data-dir)"; fi
}

triple() {
  machine=$(uname -m) system=$(uname -s) abi=musl
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    armv7l | armv8l) machine=armv7 abi=musleabihf ;;
    riscv64) machine=riscv64gc ;;
    *) fail "no release for the processor \`$machine\`: build from source" ;;
  esac
  case $component-$machine in
    server-armv7 | server-riscv64gc) fail "there is no server for the processor \`$machine\`, only an agent: install the server on x86_64 or aarch64" ;;
  esac
  case $system in
    # The static build runs on every Linux, whatever its C library.
    Linux) echo "$machine-unknown-linux-$abi" ;;
    Darwin) echo "$machine-apple-darwin" ;;
    *) fail "no release for \`$system\`: build from source" ;;
  esac
}

# HTTPS with TLS 1.2 or newer, redirects included; plain HTTP only from a mirror that is named so.
fetch() {
  case $1 in
    http://* | https://*)
      if command -v curl >/dev/null; then
        case $1 in https://*) set -- "$1" "$2" --proto =https --tlsv1.2 ;; *) set -- "$1" "$2" --proto =http,https ;; esac
        from_url=$1 to=$2
        shift 2
        curl -fsSL --retry 3 --max-time 300 "$@" -o "$to" "$from_url" || fail "cannot fetch $from_url"
      elif command -v wget >/dev/null; then
        # The wget of busybox knows neither option.
        if wget --help 2>&1 | grep -q -e --https-only && [ "${1#https://}" != "$1" ]; then
          wget -q --https-only --secure-protocol=TLSv1_2 -O "$2" "$1" || fail "cannot fetch $1"
        else wget -q -O "$2" "$1" || fail "cannot fetch $1"; fi
      else fail "neither curl nor wget is installed"; fi ;;
    *) cp "$1" "$2" || fail "cannot read $1" ;;
  esac
}

check_sum() {
  (
    cd "$1"
    awk -v file="$2" '$2 == file || $2 == "*" file' SHA256SUMS >wanted
    [ -s wanted ] || fail "SHA256SUMS does not name $2: nothing is installed"
    if command -v sha256sum >/dev/null; then sha256sum -c wanted >/dev/null 2>&1
    elif command -v shasum >/dev/null; then shasum -a 256 -c wanted >/dev/null 2>&1
    else fail "neither sha256sum nor shasum is installed to check the archive: nothing is installed"; fi
  ) || fail "$2 does not match SHA256SUMS: nothing is installed"
}

# Whether the release's key signed SHA256SUMS (ssh-keygen(1), -Y), as far as this system can tell.
check_signature() {
  if [ -n "$unsigned" ]; then say "the signature of SHA256SUMS is not checked: --unsigned"; return; fi
  if [ -z "$release_key" ]; then
    say "the signature of SHA256SUMS is not checked: this script has no release key (--release-key)"
    return
  fi
  if ! command -v ssh-keygen >/dev/null; then
    say "the signature of SHA256SUMS is not checked: ssh-keygen is not installed"
    return
  fi
  # Before OpenSSH 8.1 it signs and verifies nothing.
  case $(ssh-keygen -Y 2>&1) in
    *"requires an argument"*) ;;
    *) say "the signature of SHA256SUMS is not checked: this ssh-keygen is too old"; return ;;
  esac
  fetch "$1/SHA256SUMS.sig" "$2/SHA256SUMS.sig"
  printf 'release@oxmon namespaces="oxmon-release" %s\n' "$release_key" >"$2/signers"
  ssh-keygen -Y verify -f "$2/signers" -I release@oxmon -n oxmon-release -s "$2/SHA256SUMS.sig" \
    <"$2/SHA256SUMS" >/dev/null 2>&1 ||
    fail "SHA256SUMS is not signed with the release key: nothing is installed"
  say "the signature of SHA256SUMS is good"
}

install_binary() {
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  archive=$program-$(triple).tar.gz
  if [ -n "$base_url" ]; then from=${base_url%/}
  elif [ "$version" = latest ]; then from=$RELEASES/latest/download
  else from=$RELEASES/download/$version; fi
  say "fetching $archive ($version)"
  fetch "$from/SHA256SUMS" "$unpacked/SHA256SUMS"
  check_signature "$from" "$unpacked"
  fetch "$from/$archive" "$unpacked/$archive"
  check_sum "$unpacked" "$archive"
  tar -xzf "$unpacked/$archive" -C "$unpacked" "$program" "$program.service" || fail "$archive does not contain $program"
  chmod 755 "$unpacked/$program"
  # A file that this system cannot run replaces nothing.
  shown=$("$unpacked/$program" --version 2>&1) || {
    # /tmp may be mounted noexec: then the installed file is tried instead.
    shown=
    case $(mount 2>/dev/null | grep -F " on ${TMPDIR:-/tmp} ") in *noexec*) ;; *) fail "$program does not run on this system ($(uname -sm)): nothing is installed" ;; esac
  }
  with_rights "$install_dir" mkdir -p "$install_dir"
  # Under another name first, so that a running program is replaced and not written into.
  with_rights "$install_dir" install -m 755 "$unpacked/$program" "$install_dir/.$program.new"
  [ -n "$shown" ] || shown=$("$install_dir/.$program.new" --version 2>&1) ||
    { with_rights "$install_dir" rm -f "$install_dir/.$program.new"; fail "$program does not run on this system ($(uname -sm)): nothing is installed"; }
  with_rights "$install_dir" mv -f "$install_dir/.$program.new" "$install_dir/$program"
  say "installed $install_dir/$program ($shown)"
}

write_config() {
  if [ -e "$config" ]; then
    say "kept $config as it is"
    return
  fi
  text=$(mktemp)
  if [ "$component" = agent ]; then
    printf 'agent_id = "%s"\nserver_endpoint = "%s"\n# auth_token = "..."   # when the server has require_agent_auth\ncollection_interval_secs = 10\nbuffer_max_size = 1000\n' \
      "${agent_id:-$(hostname)}" "$server_endpoint" >"$text"
  else
    printf 'grpc_port = 9090\nhttp_port = 8080\ndata_dir = "%s"\nretention_days = 7\nrequire_agent_auth = false\n' \
      "$data_dir" >"$text"
  fi
  with_rights "$config_dir" mkdir -p "$config_dir"
  with_rights "$config" install -m 600 "$text" "$config"
  rm -f "$text"
  say "wrote $config"
  say_what_is_open
}

# Fetches the agent's token with the code, and writes it to the configuration.
enroll() {
  [ -n "$code" ] || return 0
  set -- --server "$server_endpoint" --code "$code" --config "$config"
  [ -z "$agent_id" ] || set -- "$@" --agent-id "$agent_id"
  [ -z "$tls" ] || set -- "$@" --tls
  with_rights "$config" "$install_dir/$program" enroll "$@" ||
    fail "$program is installed, but it has no token: get a new code, then run $install_dir/$program enroll --server $server_endpoint --code CODE --config $config"
}

# After a first install: what others can reach, and how to change it.
say_what_is_open() {
  if [ "$component" = server ]; then
    say "open to every address: 9090 (any agent may report), 8080 (dashboard and API, login admin / changeme)"
    say "first password: set auth.default_password_file in $config before the first start, or log in from this machine and change it"
    say "to close: change that password; require_agent_auth = true; bind = [\"127.0.0.1\"] or a firewall; [tls]"
  else
    say "the agent listens on no port; it reports to $server_endpoint without TLS: set [tls] outside a trusted network"
  fi
}

make_data_dir() {
  [ "$component" = server ] || return 0
  [ -d "$data_dir" ] || { with_rights "$data_dir" mkdir -p -m 700 "$data_dir"; say "created $data_dir"; }
}

setup_pm2() {
  command -v pm2 >/dev/null || fail "pm2 is not installed: npm install -g pm2, then run this again with --pm2-only"
  [ -x "$install_dir/$program" ] || fail "$install_dir/$program does not exist: install it first, without --pm2-only"
  [ -e "$config" ] || fail "$config does not exist: install first, without --pm2-only"
  file=$config_dir/$program.pm2.config.js
  text=$(mktemp)
  cat >"$text" <<JS
module.exports = {
  apps: [
    {
      name: "$program",
      script: "$install_dir/$program",
      args: ["$config"],
      interpreter: "none",
      autorestart: true,
      kill_timeout: 10000,
      log_date_format: "YYYY-MM-DD HH:mm:ss Z",
    },
  ],
};
JS
  with_rights "$file" install -m 644 "$text" "$file"
  rm -f "$text"
  pm2 start "$file" >/dev/null
  pm2 save >/dev/null
  say "started $program with PM2 ($file); \`pm2 startup\` starts it at boot"
}

# The unit of the packages, with this installation's folders and the same user.
setup_systemd() {
  [ -d /run/systemd/system ] || fail "systemd does not run this system: omit --setup-systemd"
  unit=/etc/systemd/system/$program.service user=oxmon state=/var/lib/oxmon
  if [ "$component" = agent ]; then user=oxmon-agent state=/var/lib/oxmon-agent; fi
  text=$(mktemp)
  sed -e "s|/usr/bin/$program|$install_dir/$program|" -e "s|/etc/oxmon/$component.toml|$config|" \
    "$unpacked/$program.service" >"$text"
  if [ "$component" = server ] && [ "$data_dir" != "$state" ]; then
    sed -e "s|^WorkingDirectory=.*|WorkingDirectory=$data_dir|" "$text" >"$text.new"
    sed -e "/^WorkingDirectory=/a\\
ReadWritePaths=$data_dir" "$text.new" >"$text"
    rm -f "$text.new"
  fi
  # ProtectHome=yes hides these folders from the service, program and configuration included.
  case $install_dir/:$config_dir/:$data_dir/ in
    /home/* | *:/home/*)
      sed -e 's|^ProtectHome=.*|ProtectHome=read-only|' "$text" >"$text.new" && mv "$text.new" "$text" ;;
  esac
  getent passwd "$user" >/dev/null ||
    with_rights "$unit" useradd --system --user-group --home-dir "$state" --shell /usr/sbin/nologin "$user"
  # The configuration may hold a token: it is for root and the service.
  with_rights "$config" chgrp "$user" "$config"
  with_rights "$config" chmod 640 "$config"
  if [ "$component" = server ]; then with_rights "$data_dir" chown "$user:$user" "$data_dir"; fi
  with_rights "$unit" install -m 644 "$text" "$unit"
  rm -f "$text"
  with_rights "$unit" systemctl daemon-reload
  running=''
  if systemctl is-active --quiet "$program.service"; then running=yes; fi
  with_rights "$unit" systemctl enable --now "$program.service"
  # `start` does nothing to a service that runs, which still has the old program.
  if [ -n "$running" ]; then
    with_rights "$unit" systemctl restart "$program.service"
    say "restarted $program with systemd ($unit), as the user $user"
  else
    say "started $program with systemd ($unit), as the user $user"
  fi
}

remove() {
  if command -v pm2 >/dev/null && [ -e "$config_dir/$program.pm2.config.js" ]; then
    pm2 delete "$program" >/dev/null 2>&1 || true
    pm2 save >/dev/null 2>&1 || true
    with_rights "$config_dir" rm -f "$config_dir/$program.pm2.config.js"
    say "removed the PM2 entry"
  fi
  if [ -e "/etc/systemd/system/$program.service" ]; then
    with_rights /etc/systemd/system systemctl disable --now "$program.service" || true
    with_rights /etc/systemd/system rm -f "/etc/systemd/system/$program.service"
    with_rights /etc/systemd/system systemctl daemon-reload || true
    say "removed the unit"
  fi
  if [ -e "$install_dir/$program" ]; then
    with_rights "$install_dir" rm -f "$install_dir/$program"
    say "removed $install_dir/$program"
  fi
  say "kept $config and the data; remove them by hand if you want"
}

main() {
  parse "$@"
  if [ -n "$uninstall" ]; then remove; return; fi
  if [ -n "$pm2_only" ]; then setup_pm2; return; fi
  install_binary
  write_config
  enroll
  make_data_dir
  if [ -n "$setup_pm2" ]; then setup_pm2; fi
  if [ -n "$setup_systemd" ]; then setup_systemd; fi
  [ -n "$setup_pm2$setup_systemd" ] || say "start it with: $install_dir/$program $config"
}

main "$@"
