//! A built server on loopback with a data folder of its own.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{free_port, signal, wait_exit, wait_for};

/// The program that the tests run: the built one, or the one that `OXMON_SERVER_BIN` names, such as
/// a musl build.
pub fn program() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        std::env::var("OXMON_SERVER_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_oxmon-server").to_owned())
    });
    &PROGRAM
}

/// The memory that the unit gives the server (`MemoryMax=`), bytes.
pub fn unit_memory() -> u64 {
    let unit = include_str!("../../../systemd/oxmon-server.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("MemoryMax="));
    let mib = line.and_then(|text| text.strip_suffix('M')).expect("MemoryMax= in MiB");
    mib.parse::<u64>().expect("a number") << 20
}

/// Words before the program that limit its address space to the unit's memory (`RLIMIT_AS`), with
/// further limits of prlimit(1).
pub fn budget(further: &[&str]) -> Vec<String> {
    let bytes = unit_memory();
    let words = ["prlimit".to_owned(), format!("--as={bytes}:{bytes}")];
    words.into_iter().chain(further.iter().map(|&word| word.to_owned())).collect()
}

/// A running server. Dropping it kills the process and removes its folder.
pub struct Server {
    pub child: Child,
    pub dir: TempDir,
    pub grpc_port: u16,
    pub http_port: u16,
    pub scheme: &'static str,
    /// What stands before the program when it is started.
    under: Vec<String>,
    token: Option<String>,
    agent: ureq::Agent,
}

/// An answer: status, headers and the envelope.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub total: Option<u64>,
    pub body: Value,
}

impl Answer {
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub fn code(&self) -> i64 {
        self.body["err_code"].as_i64().unwrap_or(-1)
    }
}

impl Server {
    /// Starts a server with `extra` lines at the head of its configuration.
    pub fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(dir, extra)
    }

    /// Starts a server over the data of an earlier one.
    pub fn start_in(dir: TempDir, extra: &str) -> Self {
        let mut server = Self::launch(dir, extra, &[]);
        server.wait_ready();
        server
    }

    /// Starts a server that listens on these addresses, the first of which is loopback.
    pub fn start_on(addresses: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::launch_on(dir, "", &[], addresses);
        server.wait_ready();
        server
    }

    /// Starts a server by a program that becomes it: these words stand before it.
    pub fn start_under(words: &[String], extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::launch(dir, extra, words);
        server.wait_ready();
        server
    }

    /// Starts a server within the memory that its unit gives it, as address space: an allocation
    /// beyond it fails, and the process ends.
    pub fn start_in_budget(extra: &str) -> Self {
        Self::start_under(&budget(&[]), extra)
    }

    /// Starts a server whose ports speak TLS, and waits until its HTTP port takes connections.
    pub fn start_tls(extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::launch(dir, extra, &[]);
        server.scheme = "https";
        wait_for("the server's port", Duration::from_secs(20), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the server ended with {status}:\n{}", server.log());
            }
            std::net::TcpStream::connect(("127.0.0.1", server.http_port)).ok()
        });
        server
    }

    /// Starts a server at these ports, that of gRPC and that of HTTP.
    pub fn start_at(dir: TempDir, extra: &str, ports: (u16, u16)) -> Self {
        let mut server = Self::launch_at(dir, extra, &[], &["127.0.0.1"], ports);
        server.wait_ready();
        server
    }

    fn launch(dir: TempDir, extra: &str, under: &[String]) -> Self {
        Self::launch_on(dir, extra, under, &["127.0.0.1"])
    }

    fn launch_on(dir: TempDir, extra: &str, under: &[String], bind: &[&str]) -> Self {
        Self::launch_at(dir, extra, under, bind, (free_port(), free_port()))
    }

    fn launch_at(
        dir: TempDir,
        extra: &str,
        under: &[String],
        bind: &[&str],
        (grpc_port, http_port): (u16, u16),
    ) -> Self {
        write_config(dir.path(), extra, (grpc_port, http_port), bind);
        let child = spawn(dir.path(), under);
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        let (scheme, under) = ("http", under.to_vec());
        Self { child, dir, grpc_port, http_port, scheme, under, token: None, agent }
    }

    /// Waits until the health route answers and agents can report, which comes a moment later.
    pub fn wait_ready(&mut self) {
        let limit = Duration::from_secs(20);
        wait_for("the server's health", limit, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            let answer = self.try_call("GET", "/v1/health", None);
            let grpc = std::net::TcpStream::connect(("127.0.0.1", self.grpc_port)).ok();
            answer.filter(|answer| answer.status == 200).zip(grpc)
        });
    }

    /// Kills the process with SIGKILL and starts it again with the same configuration.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        signal(&self.child, "KILL");
        let _ = self.child.wait();
    }

    /// Starts the process again, after it has ended.
    pub fn restart(&mut self) {
        self.spawn_again();
        self.wait_ready();
    }

    /// Starts the process again, and does not wait for it.
    pub fn spawn_again(&mut self) {
        self.child = spawn(self.dir.path(), &self.under);
    }

    /// Stops with SIGTERM and gives the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        signal(&self.child, "TERM");
        wait_exit(&mut self.child, Duration::from_secs(10))
    }

    /// The most memory that the process has had, bytes.
    pub fn peak(&self) -> u64 {
        super::peak(&self.child)
    }

    /// The process' log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// The folder with the databases.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A call with the first user's login.
    pub fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Answer {
        if self.token.is_none() {
            self.token = Some(self.log_in("admin", "changeme"));
        }
        self.try_call(method, path, body).expect("the server answers")
    }

    /// `data` of a GET that must succeed.
    pub fn get(&mut self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.data().clone()
    }

    /// A POST that must succeed.
    pub fn post(&mut self, path: &str, body: Value) -> Value {
        let answer = self.call("POST", path, Some(body));
        assert!(answer.status < 300, "POST {path}: {}", answer.body);
        answer.data().clone()
    }

    /// The first user's login token, once a call was made.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Has the next call log in again.
    pub fn forget_login(&mut self) {
        self.token = None;
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.http_port)
    }

    /// A call with whatever login there is; `None` when nothing answers.
    pub fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Option<Answer> {
        self.send(self.token.as_deref(), method, path, body)
    }

    /// A call with this token, or with none.
    pub fn call_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.send(token, method, path, body).expect("the server answers")
    }

    /// The token of a login.
    pub fn log_in(&self, username: &str, password: &str) -> String {
        let login = json!({"username": username, "password": password});
        let answer = self.call_as(None, "POST", "/v1/auth/login", Some(login));
        assert_eq!(answer.status, 200, "login: {answer:?}");
        answer.data()["token"].as_str().expect("a token").to_owned()
    }

    fn send(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<Answer> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url()));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json");
                self.agent.run(request.body(body.to_string()).expect("a request"))
            }
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut reply = sent.ok()?;
        let header = |name: &str| reply.headers().get(name).and_then(|v| v.to_str().ok());
        let total = header("X-Total-Count").and_then(|text| text.parse().ok());
        let status = reply.status().as_u16();
        let text = reply.body_mut().read_to_string().ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Answer { status, total, body })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// Writes `server.toml`: the top-level keys of `extra`, the test's own, then the tables of `extra`.
fn write_config(dir: &Path, extra: &str, (grpc_port, http_port): (u16, u16), bind: &[&str]) {
    let (head, tables) = if extra.starts_with('[') {
        ("", extra)
    } else {
        extra.find("\n[").map_or((extra, ""), |at| extra.split_at(at))
    };
    let data = dir.join("data").display().to_string();
    let config = format!(
        "{head}\ndata_dir = {data:?}\ngrpc_port = {grpc_port}\nhttp_port = {http_port}\n\
         bind = {bind:?}\n{tables}\n"
    );
    std::fs::write(dir.join("server.toml"), config).expect("the configuration is written");
}

fn spawn(dir: &Path, under: &[String]) -> Child {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("server.log"))
        .expect("a log file");
    let mut words = under.iter().map(String::as_str).chain([program()]);
    Command::new(words.next().expect("a program"))
        .args(words)
        .arg(dir.join("server.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the server starts")
}
