//! The agent: arguments, run, exit code, and what gRPC's core must know before it starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    spare_backup_polls();
    let outcome = oxmon::agent::cli::main(std::env::args_os().skip(1));
    oxmon::base::exit::report("oxmon-agent", outcome)
}

/// How often gRPC's core looks after connections that no thread waits for, milliseconds; 0 is
/// never. A thread always waits for the agent's one connection, and there is no channel argument
/// for it.
const BACKUP_POLLS: &str = "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS";

/// Spares what would be a fifth of the agent's processor time, unless the user wants it.
fn spare_backup_polls() {
    if std::env::var_os(BACKUP_POLLS).is_none() {
        // SAFETY: no other thread runs yet that could read the environment.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(BACKUP_POLLS, "0");
        }
    }
}
