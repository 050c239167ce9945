complete -c oxmon-agent -l check-config -d 'Check the configuration and exit' -r
complete -c oxmon-agent -l once -d 'Print what would be sent, send nothing' -r
complete -c oxmon-agent -l help -d 'Print a short help'
complete -c oxmon-agent -l version -d 'Print the version'
complete -c oxmon-agent -n __fish_use_subcommand -a enroll -d 'Exchange a one-time code for a token'
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l server -d 'HOST:PORT of the server' -x
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l code -d 'The one-time code' -x
