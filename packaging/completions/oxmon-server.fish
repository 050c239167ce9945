complete -c oxmon-server -l check-config -d 'Check the configuration and exit' -r
complete -c oxmon-server -l help -d 'Print a short help'
complete -c oxmon-server -l version -d 'Print the version'
complete -c oxmon-server -n __fish_use_subcommand -a init-channels -d 'Add channels from a seed file'
complete -c oxmon-server -n __fish_use_subcommand -a init-rules -d 'Add alert rules from a seed file'
complete -c oxmon-server -n __fish_use_subcommand -a sql -d 'Read-only SQL over every day'
complete -c oxmon-server -n __fish_use_subcommand -a backup -d 'Copy all files while the server runs'
complete -c oxmon-server -n __fish_use_subcommand -a restore -d 'Put a checked copy back'
