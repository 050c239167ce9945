//! The server: arguments, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = oxmon::server::cli::main(std::env::args_os().skip(1));
    oxmon::base::exit::report("oxmon-server", outcome)
}
