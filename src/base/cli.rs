//! The small part of command lines that all three programs share.

use std::io::Write as _;

use crate::base::exit::{Exit, Fatal};

/// This build's version, as `--version` and `/v1/health` show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes to standard output; a reader that has gone away (`| head`) is not an error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error; where nobody reads it, nothing is written. `eprint!` would panic.
pub fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A mistake on the command line, with the way to the help.
pub fn usage(program: &str, message: impl std::fmt::Display) -> Fatal {
    Fatal::new(Exit::Usage, format!("{message}; see `{program} --help`"))
}
