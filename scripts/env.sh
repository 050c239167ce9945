# shellcheck shell=bash
# Sourced by the other scripts: where the build goes and which gRPC it links.

# The distribution's gRPC is linked when it is there, which spares minutes of C++.
if [ -z "${GRPCIO_SYS_USE_PKG_CONFIG:-}" ] && pkg-config --exists grpc 2>/dev/null; then
  export GRPCIO_SYS_USE_PKG_CONFIG=1
fi
: "${CARGO_TARGET_DIR:=target}"
export CARGO_TARGET_DIR
export OXMON_VENV=${OXMON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/oxmon/venv}
