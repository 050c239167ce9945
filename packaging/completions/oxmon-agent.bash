# bash completion for oxmon-agent
_oxmon_agent() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
    if [ "${COMP_WORDS[1]}" = enroll ] && [ "$COMP_CWORD" -gt 1 ]; then
        case $before in
            --server | --code | --agent-id) return ;;
            --config | --ca-file) ;;
            *) words="--server --code --agent-id --config --tls --ca-file --help" ;;
        esac
    elif [ "$COMP_CWORD" -eq 1 ]; then
        words="enroll --check-config --once --health --help --version"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; compgen -f -- "$word")
}
complete -o filenames -F _oxmon_agent oxmon-agent
