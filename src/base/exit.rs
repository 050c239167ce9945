//! What a daemon's exit status says. Printed by `--help` and documented in `docs/operations.md`.

use std::io::Write as _;
use std::process::ExitCode;

/// Why a program ended. The numbers are part of the interface: units and scripts look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked, or was stopped by a signal.
    Ok = 0,
    /// It failed at run time, and a restart may help.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong; a restart does not help.
    Config = 3,
    /// A port that it must listen on is taken.
    PortTaken = 4,
    /// Its data or buffer folder can't be used.
    DataDir = 5,
    /// Another process holds the data folder.
    Locked = 6,
    /// A worker died; the service manager should start the daemon again.
    WorkerDied = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends the program: what failed, on what, and what to do, with its exit status.
#[derive(Debug)]
pub struct Fatal {
    /// The exit status.
    pub exit: Exit,
    /// One line for the person who started the program.
    pub message: String,
}

impl Fatal {
    /// An error that ends the program with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}

/// Runs a program's body and turns its result into an exit status, printing an error once.
pub fn report(program: &str, outcome: Result<(), Fatal>) -> ExitCode {
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(fatal) => {
            // In the journal, with the priority of an error (sd-daemon(3)). A closed standard error
            // changes nothing about the exit status.
            let priority = if std::env::var_os("JOURNAL_STREAM").is_some() { "<3>" } else { "" };
            let _ = writeln!(std::io::stderr(), "{priority}{program}: {}", fatal.message);
            fatal.exit.into()
        }
    }
}
