# shellcheck shell=bash
# Sourced by the package scripts: which processor a program is for, by its ELF header (elf(5), e_machine).
#   machine_of FILE deb|rpm      prints the architecture's name with dpkg or with rpm
machine_of() {
  local names
  case $(od -An -j18 -N2 -tu2 "$1" | tr -d ' ') in
    62) names='amd64 x86_64' ;;
    183) names='arm64 aarch64' ;;
    40) names='armhf armv7hl' ;;
    243) names='riscv64 riscv64' ;;
    *) echo "packaging: no processor of packages: $1" >&2; return 1 ;;
  esac
  case $2 in deb) echo "${names% *}" ;; rpm) echo "${names#* }" ;; esac
}

# The components of a folder of programs: small processors have the agent alone.
components_of() {
  [ ! -x "$1/oxmon-agent" ] || echo agent
  [ ! -x "$1/oxmon-server" ] || echo server
}
