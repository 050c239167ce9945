complete -c oxmon-agent -n __fish_use_subcommand -l check-config -d 'Check the configuration and exit'
complete -c oxmon-agent -n __fish_use_subcommand -l once -d 'Print what would be sent, send nothing'
complete -c oxmon-agent -n __fish_use_subcommand -l health -d 'Say whether the running agent does its work'
complete -c oxmon-agent -s h -l help -d 'Print a short help'
complete -c oxmon-agent -n __fish_use_subcommand -s V -l version -d 'Print the version'
complete -c oxmon-agent -n __fish_use_subcommand -a enroll -d 'Exchange a one-time code for a token'
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l server -d 'HOST:PORT of the server' -x
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l code -d 'The one-time code' -x
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l agent-id -d 'Id of this host' -x
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l config -d 'Configuration to write' -r -F
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l tls -d 'Use TLS, with the authorities of the system'
complete -c oxmon-agent -n '__fish_seen_subcommand_from enroll' -l ca-file -d 'Use TLS, with the authorities in a PEM file' -r -F
