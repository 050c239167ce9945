# shellcheck shell=bash
# Sourced by the other scripts: where the build goes and which gRPC it links.

# The distribution's gRPC is linked where it is installed, which spares 10 to 20 minutes of C++. A 0 overrides
# the 1 of .cargo/config.toml.
if [ -z "${GRPCIO_SYS_USE_PKG_CONFIG:-}" ]; then
  if pkg-config --exists grpc 2>/dev/null; then GRPCIO_SYS_USE_PKG_CONFIG=1; else GRPCIO_SYS_USE_PKG_CONFIG=0; fi
fi
export GRPCIO_SYS_USE_PKG_CONFIG
: "${CARGO_TARGET_DIR:=target}"
export CARGO_TARGET_DIR
export OXMON_VENV=${OXMON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/oxmon/venv}
# Options of cargo for an agent: it has none of the server's hot paths, so that size counts.
# shellcheck disable=SC2034 # The scripts that build one use it.
AGENT_SIZE=(--config 'profile.release.package.oxmon.opt-level="s"')
