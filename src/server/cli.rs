//! The server's command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

use crate::base::cli::{VERSION, print, say, usage};
use crate::base::exit::Fatal;
use crate::base::private;
use crate::server::alert::load_config;
use crate::server::config::ServerConfig;
use crate::server::peers::promote;
use crate::server::remote::{check, history};
use crate::server::storage::keep::backup;
use crate::server::storage::sql;
use crate::server::{alive, import, passwd, run, seed};

const PROGRAM: &str = "oxmon-server";

const HEAD: &str = "\
oxmon-server: stores metrics of oxmon agents, evaluates alert rules, sends notifications

Usage: oxmon-server CONFIG                         run until SIGTERM; SIGHUP reloads CONFIG
       oxmon-server --check-config CONFIG          say whether CONFIG is good
       oxmon-server --health CONFIG                say whether the server of CONFIG answers
";

const TAIL: &str = "
  -h, --help       this text
  -V, --version    the version

An empty CONFIG is a good one: every key has a default.

Exit status: 0 stopped by a signal, 1 failed, 2 wrong command line, 3 wrong configuration,
             4 a port is in use, 5 data_dir can't be used, 6 data_dir is in use,
             7 a worker thread panicked: start the server again
";

/// A subcommand, and what it does with the arguments after it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&mut Parser) -> Result<(), Fatal>,
}

/// A check of a configuration, and what is said where it holds.
type Check = fn(&Path) -> Result<&'static str, Fatal>;

const COMMANDS: &[Command] = &[
    Command {
        name: "init-channels",
        arguments: "CONFIG SEED",
        help: "write notification channels of a JSON file",
        run: |args| two_paths(args, ["init-channels", "CONFIG", "SEED"], seed::channels::run),
    },
    Command {
        name: "init-rules",
        arguments: "CONFIG SEED",
        help: "write alert rules of a JSON file",
        run: |args| two_paths(args, ["init-rules", "CONFIG", "SEED"], seed::rules::run),
    },
    Command {
        name: "import-rules",
        arguments: "CONFIG RULES.yml [--dry-run]",
        help: "make promql rules of a rule file of Prometheus",
        run: import_rules,
    },
    Command {
        name: "import",
        arguments: "OLD_DATA CONFIG",
        help: "bring over a data_dir of the first oxmon",
        run: |args| two_paths(args, ["import", "OLD_DATA", "CONFIG"], import::run),
    },
    Command {
        name: "passwd",
        arguments: "CONFIG USER",
        help: "set the password of a user who lost it",
        run: |args| two_paths(args, ["passwd", "CONFIG", "USER"], passwd::run),
    },
    Command {
        name: "sql",
        arguments: sql::ARGUMENTS,
        help: "read-only SQL over every day, server on or off",
        run: |args| sql::main(args, &help()),
    },
    Command {
        name: "backup",
        arguments: "CONFIG DEST",
        help: "copy every database while the server runs",
        run: |args| two_paths(args, ["backup", "CONFIG", "DEST"], backup::backup),
    },
    Command {
        name: "check-remote",
        arguments: "CONFIG",
        help: "try the engine of [remote]",
        run: check_remote,
    },
    Command {
        name: "forward",
        arguments: history::ARGUMENTS,
        help: "send stored samples to the engine of [remote]",
        run: |args| history::main(args, &help()),
    },
    Command {
        name: "promote",
        arguments: "CONFIG",
        help: "make this server the home of [peers]",
        run: promote,
    },
    Command {
        name: "restore",
        arguments: "CONFIG SOURCE",
        help: "check such a copy and put it back, server off",
        run: |args| two_paths(args, ["restore", "CONFIG", "SOURCE"], backup::restore),
    },
];

/// Does what the command line asks for.
///
/// # Errors
///
/// With the exit status that [`crate::base::exit::Exit`] has for what failed.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    private::for_owner_alone();
    let mut args = Parser::from_args(args);
    let mut check: Option<Check> = None;
    let mut config: Option<PathBuf> = None;
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                print(&help());
                return Ok(());
            }
            Arg::Short('V') | Arg::Long("version") => {
                print(&format!("{PROGRAM} {VERSION}\n"));
                return Ok(());
            }
            Arg::Long("check-config") => {
                check = Some(|config| {
                    let warnings = load_config(config)?.warnings;
                    warnings
                        .iter()
                        .for_each(|warning| say(&format!("{PROGRAM}: warning: {warning}\n")));
                    Ok("is good")
                });
            }
            Arg::Long("health") => {
                check = Some(|config| {
                    alive::check(&ServerConfig::load(config)?)?;
                    Ok("is good, and its server answers")
                });
            }
            Arg::Value(word) if config.is_none() && check.is_none() && word == "help" => {
                print(&help());
                return Ok(());
            }
            Arg::Value(word) if config.is_none() => {
                let command = COMMANDS.iter().find(|command| word == command.name);
                match command.filter(|_| check.is_none()) {
                    Some(command) => return (command.run)(&mut args),
                    None => config = Some(word.into()),
                }
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    let config = config.ok_or_else(|| usage(PROGRAM, "CONFIG is missing"))?;
    let Some(check) = check else { return run::run(&config) };
    let found = check(&config)?;
    print(&format!("{} {found}\n", config.display()));
    Ok(())
}

fn wrong(error: lexopt::Error) -> Fatal {
    usage(PROGRAM, error)
}

fn help() -> String {
    let mut text = HEAD.to_owned();
    for Command { name, arguments, help, .. } in COMMANDS {
        // A call that is longer than its column has its help on a line of its own.
        let call = format!("{PROGRAM} {name} {arguments}");
        // Writing to a String does not fail.
        let _ = if call.len() > 43 {
            writeln!(text, "       {call}\n       {:<43} {help}", "")
        } else {
            writeln!(text, "       {call:<43} {help}")
        };
    }
    text + TAIL
}

/// A command that takes two arguments. `names` are its own name and those of the arguments.
fn two_paths(
    args: &mut Parser,
    names: [&str; 3],
    run: fn(&Path, &Path) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                print(&help());
                return Ok(());
            }
            Arg::Value(path) if paths.len() < 2 => paths.push(path.into()),
            other => return Err(wrong(other.unexpected())),
        }
    }
    match paths.as_slice() {
        [first, second] => run(first, second),
        [_] => Err(usage(PROGRAM, format!("{} needs {} after {}", names[0], names[2], names[1]))),
        _ => Err(usage(PROGRAM, format!("{} needs {} and {}", names[0], names[1], names[2]))),
    }
}

/// `check-remote CONFIG`
fn check_remote(args: &mut Parser) -> Result<(), Fatal> {
    one_path(args, "check-remote", check::run)
}

/// A command whose one argument is CONFIG.
fn one_path(
    args: &mut Parser,
    name: &str,
    run: fn(&Path) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut config: Option<PathBuf> = None;
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                print(&help());
                return Ok(());
            }
            Arg::Value(path) if config.is_none() => config = Some(path.into()),
            other => return Err(wrong(other.unexpected())),
        }
    }
    run(&config.ok_or_else(|| usage(PROGRAM, format!("{name} needs CONFIG")))?)
}

/// `promote CONFIG`
fn promote(args: &mut Parser) -> Result<(), Fatal> {
    one_path(args, "promote", promote::run)
}

/// `import-rules CONFIG RULES.yml [--dry-run]`
fn import_rules(args: &mut Parser) -> Result<(), Fatal> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut dry_run = false;
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                print(&help());
                return Ok(());
            }
            Arg::Long("dry-run") => dry_run = true,
            Arg::Value(path) if paths.len() < 2 => paths.push(path.into()),
            other => return Err(wrong(other.unexpected())),
        }
    }
    match paths.as_slice() {
        [config, rules] => seed::prometheus::run(config, rules, dry_run),
        _ => Err(usage(PROGRAM, "import-rules needs CONFIG and RULES.yml")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::exit::Exit;

    fn said(line: &str) -> Result<(), Fatal> {
        main(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("", "CONFIG is missing"),
            ("a.toml b.toml", "b.toml"),
            ("--daemon a.toml", "--daemon"),
            ("init-channels a.toml", "init-channels needs SEED after CONFIG"),
            ("backup a.toml", "backup needs DEST after CONFIG"),
            ("restore", "restore needs CONFIG and SOURCE"),
            ("check-remote", "check-remote needs CONFIG"),
            ("promote", "promote needs CONFIG"),
            ("forward --from 2026-02-30 a.toml", "must be a day or a time"),
            ("import-rules a.toml", "import-rules needs CONFIG and RULES.yml"),
            ("sql a.toml", "sql needs a query after CONFIG"),
            ("init-channels a b c", "\"c\""),
        ] {
            let fatal = said(line).unwrap_err();
            assert_eq!(fatal.exit, Exit::Usage, "{line}");
            assert!(fatal.message.contains(word), "{line}: {}", fatal.message);
        }
    }

    #[test]
    fn help_is_a_word_and_an_option_of_each_command() {
        for line in ["help", "help sql", "--help", "sql --help", "backup -h", "init-rules --help"] {
            assert!(said(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_configuration_is_checked_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        assert!(said(&format!("--check-config {path}")).is_ok());
        std::fs::write(file.path(), "http_port = 0").unwrap();
        let fatal = said(&format!("--check-config {path}")).unwrap_err();
        assert_eq!(fatal.exit, Exit::Config);
        assert!(fatal.message.contains("http_port"), "{}", fatal.message);
    }

    #[test]
    fn the_help_names_every_command_and_every_exit_status() {
        let help = help();
        for command in COMMANDS {
            assert!(help.contains(command.name), "{help}");
        }
        for status in 0..=7 {
            assert!(help.contains(&format!(" {status} ")), "{status}: {help}");
        }
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    }
}
