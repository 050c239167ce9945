#!/usr/bin/env bash
# Shows that static binaries are static and work: where this runs as root, in a folder with nothing else.
#   scripts/static-check.sh BIN_DIR [SERVER]
# SERVER is a built oxmon-server of any kind, for a folder with a static agent alone. They name no loader and no
# library; the agent finds its server by name, checks the server's certificate over TLS, reports, and refuses a
# server with another authority's certificate. OXMON_RUNNER is a static emulator for programs of another processor.
set -euo pipefail
case $# in 1 | 2) ;; *) echo "usage: scripts/static-check.sh BIN_DIR [SERVER]" >&2; exit 2 ;; esac
bin=$(realpath "$1") other_server=${2:+$(realpath "$2")}
fail() { echo "static-check: $*" >&2; exit 1; }
for tool in curl file jq openssl python3; do command -v "$tool" >/dev/null || fail "$tool is missing: scripts/setup.sh test"; done

programs=(oxmon-agent)
[ -n "$other_server" ] || programs+=(oxmon-server)
for program in "${programs[@]}"; do
  [ -x "$bin/$program" ] || fail "$bin/$program is not built: make musl"
  kind=$(file -b "$bin/$program")
  case $kind in *"statically linked"* | *"static-pie linked"*) ;; *) fail "$program: $kind" ;; esac
  # glibc's and musl's ldd say it in different words.
  needs=$(ldd "$bin/$program" 2>&1 || true)
  case $needs in
    *"statically linked"* | *"not a dynamic executable"* | *"Not a valid dynamic program"*) ;;
    *) fail "$program needs: $needs" ;;
  esac
  echo "static-check: $program: $(stat -c %s "$bin/$program") bytes, ${kind%%, BuildID*}"
done

root=$(mktemp -d)
server='' agent=''
finish() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
trap 'tail -n 5 "$root"/*.log >&2' ERR
mkdir "$root/dev" "$root/etc" "$root/data" "$root/tmp"
for program in "${programs[@]}"; do cp "$bin/$program" "$root"; done
echo "127.0.0.1 oxmon.test" >"$root/etc/hosts"
# Only a chroot has a hosts file and nothing else of its own; without it the system's names are used.
in_root=() at=$root name=localhost
[ -z "${OXMON_RUNNER:-}" ] || in_root=("$OXMON_RUNNER")
if [ "$(id -u)" -eq 0 ]; then
  in_root=(chroot "$root") at='' name=oxmon.test
  if [ -n "${OXMON_RUNNER:-}" ]; then
    cp "$OXMON_RUNNER" "$root/runner"
    in_root+=(/runner)
  fi
  # Every container has both, and a statically linked server takes random numbers from them.
  mknod -m 444 "$root/dev/random" c 1 8
  mknod -m 444 "$root/dev/urandom" c 1 9
fi

authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
    -keyout "$root/$1.key" -out "$root/$1.pem" 2>/dev/null
}
authority good
authority other
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
  -keyout "$root/server.key" -out "$root/server.csr" 2>/dev/null
openssl x509 -req -in "$root/server.csr" -CA "$root/good.pem" -CAkey "$root/good.key" -CAcreateserial -days 2 \
  -extfile <(echo "subjectAltName=DNS:$name") -out "$root/server.pem" 2>/dev/null

port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
grpc=$(port) http=$(port)
# A server that is not static can't run in the empty folder; it is given the same files from outside.
serve=(${in_root[@]+"${in_root[@]}"} "$at/oxmon-server") server_at=$at
if [ -n "$other_server" ]; then serve=("$other_server") server_at=$root; fi
cat >"$root/server.toml" <<TOML
grpc_port = $grpc
http_port = $http
bind = ["127.0.0.1"]
data_dir = "$server_at/data"
[tls]
cert_file = "$server_at/server.pem"
key_file = "$server_at/server.key"
TOML
agent_config() {
  printf 'agent_id = "%s"\nserver_endpoint = "%s:%s"\ncollection_interval_secs = 1\n[tls]\nenabled = true\nca_file = "%s/%s.pem"\n' \
    "$1" "$name" "$grpc" "$at" "$2" >"$root/$1.toml"
}
agent_config trusting good
agent_config doubting other

"${serve[@]}" "$server_at/server.toml" 2>"$root/server.log" & server=$!
base=https://$name:$http/v1
ask() { curl -fsS --max-time 5 --cacert "$root/good.pem" --resolve "$name:$http:127.0.0.1" "$@"; }
for _ in $(seq 100); do ask "$base/health" >/dev/null 2>&1 && break; sleep 0.1; done
"${serve[@]}" --health "$server_at/server.toml" >/dev/null

reports() { ask "$base/health" | jq -r .data.agent_count; }
${in_root[@]+"${in_root[@]}"} "$at/oxmon-agent" "$at/doubting.toml" 2>"$root/doubting.log" & agent=$!
for _ in $(seq 200); do grep -qi certificate "$root/doubting.log" && break; sleep 0.1; done
grep -qi certificate "$root/doubting.log" || fail "the agent does not say that it doubts the certificate"
[ "$(reports)" = 0 ] || fail "the agent reports to a server whose certificate it can't trust"
kill "$agent" && wait "$agent" || true
echo "static-check: a certificate of another authority is refused"

${in_root[@]+"${in_root[@]}"} "$at/oxmon-agent" "$at/trusting.toml" 2>"$root/trusting.log" & agent=$!
for _ in $(seq 200); do [ "$(reports)" = 1 ] && break; sleep 0.1; done
[ "$(reports)" = 1 ] || fail "no report arrived"
echo "static-check: $name was resolved, its certificate was good, and reports arrived"
