# bash completion for oxmon-server
_oxmon_server() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="init-channels init-rules import-rules import passwd sql backup check-remote forward promote restore --check-config --health --help --version"
    elif [ "$before" = --format ]; then
        mapfile -t COMPREPLY < <(compgen -W "table csv json" -- "$word")
        return
    elif [ "${COMP_WORDS[1]}" = sql ]; then
        words=--format
    elif [ "${COMP_WORDS[1]}" = import-rules ]; then
        words=--dry-run
    elif [ "${COMP_WORDS[1]}" = forward ]; then
        words="--from --to"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; compgen -f -- "$word")
}
complete -o filenames -F _oxmon_server oxmon-server
