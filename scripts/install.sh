#!/usr/bin/env bash
# Installs or removes oxmon from a release: binary, configuration, and on request a service.
#
#   install.sh server|agent [options]
#
#   --version TAG             release to install              (default: latest)
#   --install-dir DIR         where the binary goes            (default: /usr/local/bin)
#   --config-dir DIR          where the configuration goes     (default: /etc/oxmon)
#   --data-dir DIR            the server's data                (default: /var/lib/oxmon)
#   --agent-id ID             the agent's name                 (default: this host's name)
#   --server-endpoint H:P     the server that the agent tells  (default: 127.0.0.1:9090)
#   --setup-systemd           install and start a systemd unit
#   --setup-pm2               write a PM2 file and start it with PM2
#   --pm2-only                only that, for a binary that is there already
#   --base-url URL            a mirror, or a folder on this machine, with the release's files
#   --uninstall               remove what this script put there; configuration and data stay
#   --help                    this text
#
# The archive is held against the release's SHA256SUMS before anything is installed. A configuration
# that is there already is never touched.
set -euo pipefail

RELEASES=https://github.com/skingford/oxmon/releases

say() { printf 'install: %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]:-$0}" 2>/dev/null || say "see the project's README"; }

component=
version=latest
install_dir=/usr/local/bin
config_dir=/etc/oxmon
data_dir=/var/lib/oxmon
agent_id=
server_endpoint=127.0.0.1:9090
base_url=
unpacked=''
setup_systemd='' setup_pm2='' pm2_only='' uninstall=''

parse() {
  [ $# -gt 0 ] || { usage; exit 2; }
  while [ $# -gt 0 ]; do
    case $1 in
      server | agent) component=$1 ;;
      --version | --install-dir | --config-dir | --data-dir | --agent-id | --server-endpoint | --base-url)
        [ $# -ge 2 ] || fail "$1 takes a value"
        local name=${1#--}
        printf -v "${name//-/_}" '%s' "$2"
        shift ;;
      --setup-systemd) setup_systemd=yes ;;
      --setup-pm2) setup_pm2=yes ;;
      --pm2-only) pm2_only=yes ;;
      --uninstall) uninstall=yes ;;
      --help | -h) usage; exit 0 ;;
      *) fail "unknown option \`$1\`; see --help" ;;
    esac
    shift
  done
  [ -n "$component" ] || fail "say which component: server or agent"
  [ -z "$setup_systemd" ] || [ -z "$setup_pm2$pm2_only" ] || fail "take --setup-systemd or PM2, not both"
  # What goes into a TOML string must not end it.
  case $agent_id$server_endpoint$data_dir$install_dir$config_dir in
    *[\"\\\|\&]* | *$'\n'*) fail "no quotes, backslashes, bars, ampersands or line ends in --agent-id, --server-endpoint and folders" ;;
  esac
  program=oxmon-$component
  config=$config_dir/$component.toml
}

# Runs a command as it is when the folder is ours to write, and with sudo otherwise.
with_rights() {
  local target=$1 near=$1
  shift
  while [ ! -e "$near" ]; do near=$(dirname "$near"); done
  if [ -w "$near" ]; then "$@"
  elif command -v sudo >/dev/null; then say "using sudo for $target"; sudo "$@"
  else fail "cannot write $target: run this as root, or choose folders of your own (--install-dir, --config-dir, --data-dir)"; fi
}

triple() {
  local machine system
  machine=$(uname -m) system=$(uname -s)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "no release for the processor \`$machine\`: build from source" ;;
  esac
  case $system in
    # The static build runs on every Linux, whatever its C library.
    Linux) echo "$machine-unknown-linux-musl" ;;
    Darwin) echo "$machine-apple-darwin" ;;
    *) fail "no release for \`$system\`: build from source" ;;
  esac
}

fetch() {
  local from=$1 to=$2
  case $from in
    http://* | https://*) curl -fsSL --retry 3 --max-time 300 -o "$to" "$from" || fail "cannot fetch $from" ;;
    *) cp "$from" "$to" || fail "cannot read $from" ;;
  esac
}

check_sum() {
  local folder=$1 file=$2
  (
    cd "$folder"
    awk -v file="$file" '$2 == file || $2 == "*" file' SHA256SUMS >wanted
    [ -s wanted ] || fail "SHA256SUMS does not name $file: nothing is installed"
    if command -v sha256sum >/dev/null; then sha256sum -c wanted >/dev/null 2>&1
    elif command -v shasum >/dev/null; then shasum -a 256 -c wanted >/dev/null 2>&1
    else fail "neither sha256sum nor shasum is here to check the archive with: nothing is installed"; fi
  ) || fail "$file is not what SHA256SUMS says: nothing is installed"
}

install_binary() {
  local work archive from
  command -v curl >/dev/null || [ -d "$base_url" ] || fail "curl is missing: install it first"
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # The folder's name is known now.
  trap "rm -rf '$work'" EXIT
  archive=$program-$(triple).tar.gz
  if [ -n "$base_url" ]; then from=${base_url%/}
  elif [ "$version" = latest ]; then from=$RELEASES/latest/download
  else from=$RELEASES/download/$version; fi
  say "fetching $archive ($version)"
  fetch "$from/SHA256SUMS" "$work/SHA256SUMS"
  fetch "$from/$archive" "$work/$archive"
  check_sum "$work" "$archive"
  tar -xzf "$work/$archive" -C "$work" "$program" "$program.service" || fail "$archive does not hold $program"
  unpacked=$work
  with_rights "$install_dir" mkdir -p "$install_dir"
  with_rights "$install_dir" install -m 755 "$work/$program" "$install_dir/$program"
  say "installed $install_dir/$program ($("$install_dir/$program" --version))"
}

write_config() {
  if [ -e "$config" ]; then
    say "kept $config as it is"
    return
  fi
  local text
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
}

make_data_dir() {
  [ "$component" = server ] || return 0
  [ -d "$data_dir" ] || { with_rights "$data_dir" mkdir -p "$data_dir"; say "made $data_dir"; }
}

setup_pm2() {
  command -v pm2 >/dev/null || fail "pm2 is missing: npm install -g pm2, then run this again with --pm2-only"
  [ -x "$install_dir/$program" ] || fail "$install_dir/$program is not there: install it first, without --pm2-only"
  [ -e "$config" ] || fail "$config is not there: install first, without --pm2-only"
  local file=$config_dir/$program.pm2.config.js text
  text=$(mktemp)
  cat >"$text" <<JS
module.exports = {
  apps: [
    {
      name: "$program",
      script: "$install_dir/$program",
      args: "$config",
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

# The unit of the packages, with this installation's folders; its user is made as theirs is.
setup_systemd() {
  [ -d /run/systemd/system ] || fail "systemd does not run this system: leave --setup-systemd out"
  local unit=/etc/systemd/system/$program.service text user=oxmon state=/var/lib/oxmon
  if [ "$component" = agent ]; then user=oxmon-agent state=/var/lib/oxmon-agent; fi
  text=$(mktemp)
  sed -e "s|/usr/bin/$program|$install_dir/$program|" -e "s|/etc/oxmon/$component.toml|$config|" \
    "$unpacked/$program.service" >"$text"
  if [ "$component" = server ] && [ "$data_dir" != "$state" ]; then
    sed -i.bak "s|^WorkingDirectory=.*|WorkingDirectory=$data_dir\nReadWritePaths=$data_dir|" "$text"
    rm -f "$text.bak"
  fi
  getent passwd "$user" >/dev/null ||
    with_rights "$unit" useradd --system --user-group --home-dir "$state" --shell /usr/sbin/nologin "$user"
  # The configuration may hold a token: it is for root and the service.
  with_rights "$config" chgrp "$user" "$config"
  with_rights "$config" chmod 640 "$config"
  if [ "$component" = server ]; then with_rights "$data_dir" chown "$user:$user" "$data_dir"; fi
  with_rights "$unit" install -m 644 "$text" "$unit"
  rm -f "$text"
  with_rights "$unit" systemctl daemon-reload
  with_rights "$unit" systemctl enable --now "$program.service"
  say "started $program with systemd ($unit), as the user $user"
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
  make_data_dir
  if [ -n "$setup_pm2" ]; then setup_pm2; fi
  if [ -n "$setup_systemd" ]; then setup_systemd; fi
  [ -n "$setup_pm2$setup_systemd" ] || say "start it with: $install_dir/$program $config"
}

main "$@"
