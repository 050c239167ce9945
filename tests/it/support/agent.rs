//! A built agent that reports to a server of the test.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

use super::{signal, wait_exit};

/// The program that the tests run: the built one, or the one that `OXMON_AGENT_BIN` names, such as
/// a musl build.
pub fn program() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        std::env::var("OXMON_AGENT_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_oxmon-agent").to_owned())
    });
    &PROGRAM
}

/// A running agent. Dropping it kills the process and removes its folder.
pub struct Agent {
    pub child: Child,
    pub dir: TempDir,
}

impl Agent {
    /// Starts an agent with this id that reports every second, with `extra` lines of configuration.
    pub fn start(id: &str, grpc_port: u16, extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (head, tables) = match table_at(extra) {
            Some(at) => extra.split_at(at),
            None => (extra, ""),
        };
        let config = format!(
            "agent_id = \"{id}\"\nserver_endpoint = \"127.0.0.1:{grpc_port}\"\n\
             collection_interval_secs = 1\n{head}\n{tables}\n"
        );
        std::fs::write(dir.path().join("agent.toml"), config)
            .expect("the configuration is written");
        Self::start_in(dir)
    }

    /// Starts an agent with this id that reports every second, to the servers that `extra` names.
    pub fn start_roaming(id: &str, extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = format!("agent_id = \"{id}\"\ncollection_interval_secs = 1\n{extra}\n");
        std::fs::write(dir.path().join("agent.toml"), config)
            .expect("the configuration is written");
        Self::start_in(dir)
    }

    /// Starts an agent with the `agent.toml` of a folder.
    pub fn start_in(dir: TempDir) -> Self {
        let child = spawn(dir.path());
        Self { child, dir }
    }

    /// Kills the process with SIGKILL and starts it again.
    pub fn kill_and_restart(&mut self) {
        signal(&self.child, "KILL");
        let _ = self.child.wait();
        self.child = spawn(self.dir.path());
    }

    /// Stops with SIGTERM and gives the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        signal(&self.child, "TERM");
        wait_exit(&mut self.child, Duration::from_secs(5))
    }

    /// The process' log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }
}

/// Where the first table of a configuration begins.
fn table_at(text: &str) -> Option<usize> {
    if text.starts_with('[') { Some(0) } else { text.find("\n[").map(|at| at + 1) }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
    }
}

fn spawn(dir: &Path) -> Child {
    let log =
        OpenOptions::new().create(true).append(true).open(dir.join("agent.log")).expect("a log");
    Command::new(program())
        .arg(dir.join("agent.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the agent starts")
}
