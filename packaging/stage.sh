#!/usr/bin/env bash
# Lays out one component's files as they stand on an installed system; every package is made from it.
#   packaging/stage.sh agent|server BIN_DIR DEST
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 3 ] || { echo "usage: packaging/stage.sh agent|server BIN_DIR DEST" >&2; exit 2; }
component=$1 bin=$2 dest=$3
case $component in agent | server) ;; *) echo "stage: no component \`$component\`" >&2; exit 2 ;; esac
program=oxmon-$component

put() { install -D -m "$1" "$2" "$dest/$3"; }
gz() { mkdir -p "$(dirname "$dest/$2")"; gzip -9nc "$1" >"$dest/$2"; chmod 644 "$dest/$2"; }

put 755 "$bin/$program" "usr/bin/$program"
put 644 "systemd/$program.service" "usr/lib/systemd/system/$program.service"
put 644 "packaging/sysusers.d/$program.conf" "usr/lib/sysusers.d/$program.conf"
put 644 "config/$component.example.toml" "etc/oxmon/$component.example.toml"
put 644 "packaging/completions/$program.bash" "usr/share/bash-completion/completions/$program"
put 644 "packaging/completions/_$program" "usr/share/zsh/vendor-completions/_$program"
put 644 "packaging/completions/$program.fish" "usr/share/fish/vendor_completions.d/$program.fish"
gz "packaging/man/$program.1" "usr/share/man/man1/$program.1.gz"
gz CHANGELOG.md "usr/share/doc/$program/changelog.gz"
put 644 LICENSE "usr/share/doc/$program/copyright"
if [ "$component" = server ]; then
  put 644 config/channels.seed.example.json usr/share/doc/oxmon-server/examples/channels.seed.json
  put 644 config/rules.seed.example.json usr/share/doc/oxmon-server/examples/rules.seed.json
fi
