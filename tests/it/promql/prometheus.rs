//! A real Prometheus with a folder of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{free_port, tools, wait_for};

/// A running Prometheus that takes remote write. Dropping it kills the process.
pub struct Prometheus {
    child: Child,
    _dir: TempDir,
    /// Its address.
    pub url: String,
}

impl Prometheus {
    /// Starts one with this configuration; `None` where it is not installed.
    pub fn start(config: &str) -> Option<Self> {
        let program = tools::find("prometheus")?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("a configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.enable-remote-write-receiver", "--enable-feature=promql-at-modifier"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let url = format!("http://127.0.0.1:{port}");
        let started = Self { child, _dir: dir, url };
        wait_for("Prometheus", Duration::from_secs(60), || {
            ureq::get(format!("{}/-/ready", started.url)).call().ok()
        });
        Some(started)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
