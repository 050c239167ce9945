//! `make run` on a checkout that has no data yet.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::tools::{bin_dir, root};
use crate::support::{free_port, signal, wait_exit, wait_for};

/// `make run` in a process group of its own, so that it can be interrupted as a terminal does it.
struct Run {
    make: Child,
    out: std::path::PathBuf,
}

impl Run {
    fn start(dir: &Path, data: &str, ports: Option<(u16, u16)>) -> Self {
        let out = dir.join("out");
        let file = std::fs::File::create(&out).unwrap();
        let mut command = Command::new("make");
        command.arg("run").current_dir(root()).process_group(0).stdin(Stdio::null());
        command.env("OXMON_DATA", data).env("OXMON_BIN_DIR", bin_dir());
        if let Some((http, grpc)) = ports {
            command.env("OXMON_HTTP_PORT", http.to_string());
            command.env("OXMON_GRPC_PORT", grpc.to_string());
        }
        command.stderr(file.try_clone().unwrap()).stdout(file);
        Self { make: command.spawn().unwrap(), out }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits for the first values, and gives everything that was said until then.
    fn wait_shown(&mut self) -> String {
        wait_for("make run's first values", Duration::from_secs(240), || {
            assert!(matches!(self.make.try_wait(), Ok(None)), "{}", self.said());
            Some(self.said()).filter(|said| said.contains("Ctrl-C stops both"))
        })
    }

    /// What Ctrl-C does: SIGINT to the whole group.
    fn interrupt(&mut self) {
        let group = format!("-{}", self.make.id());
        let status = Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
        assert!(status.success());
        wait_exit(&mut self.make, Duration::from_secs(30));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.make.try_wait(), Ok(None)) {
            signal(&self.make, "TERM");
            let group = format!("-{}", self.make.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = self.make.wait();
        }
    }
}

#[test]
fn make_run_shows_values_stops_with_ctrl_c_and_runs_again_on_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let (http, grpc) = (free_port(), free_port());
    let mut run = Run::start(dir.path(), &data, Some((http, grpc)));
    let said = run.wait_shown();
    for words in ["admin / changeme", &format!("http://127.0.0.1:{http}"), "memory.used_percent ="]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(std::net::TcpStream::connect(("127.0.0.1", http)).is_ok());
    run.interrupt();
    let said = run.said();
    assert!(said.contains("stopped; the data stays in"), "{said}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", http)).is_err(), "the server still runs");
    drop(run);

    // Again, without a word on ports: the configuration that the first run made is used.
    let config = std::fs::read_to_string(dir.path().join("data/server.toml")).unwrap();
    let mut run = Run::start(dir.path(), &data, None);
    let said = run.wait_shown();
    assert!(said.contains(&format!("http://127.0.0.1:{http}")), "{said}");
    assert_eq!(std::fs::read_to_string(dir.path().join("data/server.toml")).unwrap(), config);
    run.interrupt();
}
