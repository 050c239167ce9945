//! The agent's command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::agent::config::AgentConfig;
use crate::agent::{alive, enroll, once, run};
use crate::base::cli::{VERSION, print, say, usage};
use crate::base::exit::Fatal;
use crate::base::private;

const PROGRAM: &str = "oxmon-agent";
/// Where packages put the configuration.
const CONFIG_DEFAULT: &str = "/etc/oxmon/agent.toml";

const HELP: &str = "\
oxmon-agent: reads this host's metrics and reports them to an oxmon server

Usage: oxmon-agent CONFIG                  run until SIGTERM; SIGHUP reloads CONFIG
       oxmon-agent --check-config CONFIG   say whether CONFIG is good
       oxmon-agent --once CONFIG           print what would be sent, and send nothing
       oxmon-agent --health                say whether the agent that writes the file which
                                           OXMON_HEALTH_FILE names works and reports
       oxmon-agent enroll --server HOST:PORT --code CODE [OPTIONS]
                                           fetch this host's token with a code that is good once,
                                           and write it to the configuration

Options of enroll:
  --config PATH    the configuration to write [/etc/oxmon/agent.toml]
  --agent-id ID    this host's id [that of the configuration, or the host's name]
  --tls            use TLS, with the system's authorities
  --ca-file FILE   use TLS, with the authorities in FILE (PEM)

  -h, --help       this text
  -V, --version    the version

The smallest configuration is one line: server_endpoint = \"HOST:9090\"

Exit status: 0 stopped by a signal, 1 failed, 2 wrong command line, 3 wrong configuration,
             7 a worker thread panicked: start the agent again
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(PathBuf),
    Check(PathBuf),
    Once(PathBuf),
    Enroll(enroll::Options),
    Health,
    Help,
    Version,
}

/// Does what the command line asks for.
///
/// # Errors
///
/// With the exit status that [`crate::base::exit::Exit`] has for what failed.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    private::for_owner_alone();
    match parse(Parser::from_args(args)).map_err(|error| usage(PROGRAM, error))? {
        Command::Run(config) => run::run(&config),
        Command::Check(path) => {
            let warnings = AgentConfig::load(&path)?.warnings;
            warnings.iter().for_each(|warning| say(&format!("{PROGRAM}: warning: {warning}\n")));
            print(&format!("{} is good\n", path.display()));
            Ok(())
        }
        Command::Once(path) => {
            print(&once::run(&AgentConfig::load(&path)?));
            Ok(())
        }
        Command::Enroll(options) => {
            print(&enroll::run(&options)?);
            Ok(())
        }
        Command::Health => alive::check(),
        Command::Help => {
            print(HELP);
            Ok(())
        }
        Command::Version => {
            print(&format!("{PROGRAM} {VERSION}\n"));
            Ok(())
        }
    }
}

fn parse(mut args: Parser) -> Result<Command, lexopt::Error> {
    let mut make: fn(PathBuf) -> Command = Command::Run;
    let mut config = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Value(word) if word == "help" => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("health") => return Ok(Command::Health),
            Arg::Long("check-config") => make = Command::Check,
            Arg::Long("once") => make = Command::Once,
            Arg::Value(word) if config.is_none() && word == "enroll" => return parse_enroll(args),
            Arg::Value(path) if config.is_none() => config = Some(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    config.map(make).ok_or_else(|| "no configuration is named".into())
}

fn parse_enroll(mut args: Parser) -> Result<Command, lexopt::Error> {
    let (mut server, mut code, mut agent_id, mut ca_file) = (None, None, None, None);
    let mut config = PathBuf::from(CONFIG_DEFAULT);
    let mut tls = false;
    while let Some(arg) = args.next()? {
        let text = |value: Result<OsString, lexopt::Error>| {
            value?.into_string().map_err(lexopt::Error::NonUnicodeValue)
        };
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("server") => server = Some(text(args.value())?),
            Arg::Long("code") => code = Some(text(args.value())?),
            Arg::Long("agent-id") => agent_id = Some(text(args.value())?),
            Arg::Long("config") => config = args.value()?.into(),
            Arg::Long("ca-file") => ca_file = Some(PathBuf::from(args.value()?)),
            Arg::Long("tls") => tls = true,
            other => return Err(other.unexpected()),
        }
    }
    let server = server.ok_or("enroll needs --server HOST:PORT")?;
    let code = code.ok_or("enroll needs --code CODE")?;
    Ok(Command::Enroll(enroll::Options { server, code, agent_id, config, tls, ca_file }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let args = ["oxmon-agent"].into_iter().chain(line.split_whitespace());
        parse(Parser::from_args(args.skip(1))).map_err(|error| error.to_string())
    }

    #[test]
    fn each_command_is_understood() {
        assert_eq!(parsed("a.toml"), Ok(Command::Run("a.toml".into())));
        assert_eq!(parsed("--check-config a.toml"), Ok(Command::Check("a.toml".into())));
        assert_eq!(parsed("a.toml --once"), Ok(Command::Once("a.toml".into())));
        assert_eq!(parsed("-h"), Ok(Command::Help));
        assert_eq!(parsed("--health"), Ok(Command::Health));
        assert_eq!(parsed("--version"), Ok(Command::Version));
        let enroll = parsed("enroll --server=h:9090 --code c --agent-id web --ca-file /ca --tls");
        let expected = enroll::Options {
            server: "h:9090".to_owned(),
            code: "c".to_owned(),
            agent_id: Some("web".to_owned()),
            config: CONFIG_DEFAULT.into(),
            tls: true,
            ca_file: Some("/ca".into()),
        };
        assert_eq!(enroll, Ok(Command::Enroll(expected)));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("", "no configuration"),
            ("a.toml b.toml", "b.toml"),
            ("--daemon a.toml", "--daemon"),
            ("enroll --code c", "--server"),
            ("enroll --server h:1", "--code"),
            ("enroll --server", "--server"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(word), "{line}: {message}");
        }
    }

    #[test]
    fn the_help_names_every_exit_status_that_it_can_have() {
        use crate::base::exit::Exit;
        for exit in [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Config, Exit::WorkerDied] {
            assert!(HELP.contains(&format!(" {} ", exit as u8)), "{exit:?}");
        }
    }
}
