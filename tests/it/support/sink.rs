//! A real HTTP server that keeps what it is sent: the receiver of webhooks and robots.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A running `tests/fixtures/http_sink.py`.
pub struct Sink {
    child: Child,
    dir: TempDir,
    pub port: u16,
    scheme: &'static str,
}

impl Sink {
    /// Starts one that speaks plain HTTP.
    pub fn start() -> Self {
        Self::launch(&[], None)
    }

    /// Starts one that checks a DingTalk robot's signature.
    pub fn robot(secret: &str) -> Self {
        Self::launch(&[("ROBOT_SECRET", secret)], None)
    }

    /// Starts one that speaks TLS.
    pub fn tls(pem: &Path, key: &Path) -> Self {
        Self::launch(&[], Some((pem, key)))
    }

    /// Starts one that checks the signatures of Alibaba Cloud's and Tencent Cloud's messages.
    pub fn sms(id: &str, secret: &str) -> Self {
        Self::launch(&[("SMS_ID", id), ("SMS_SECRET", secret)], None)
    }

    fn launch(env: &[(&str, &str)], tls: Option<(&Path, &Path)>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python3");
        command.arg(root.join("tests/fixtures/http_sink.py")).arg(dir.path().join("requests"));
        if let Some((pem, key)) = tls {
            command.arg(pem).arg(key);
        }
        command.envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output is piped");
        BufReader::new(out).read_line(&mut line).expect("it says its port");
        let port = line.trim().parse().expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { child, dir, port, scheme }
    }

    /// The URL of one of its paths.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Every request so endpoint, oldest first.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("requests")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The bodies so endpoint, as JSON.
    pub fn bodies(&self) -> Vec<Value> {
        let body = |request: &Value| serde_json::from_str(request["body"].as_str()?).ok();
        self.requests().iter().filter_map(body).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
