//! What both daemons tell a service manager, and a container's health check.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::tools::run;
use crate::support::{agent, free_port, server, signal, wait_exit, wait_for};

/// A daemon under a service manager of this test: its socket, and its journal in a file.
struct Service {
    child: Child,
    socket: UnixDatagram,
    dir: TempDir,
}

impl Service {
    fn start(program: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("config.toml"), config.replace("DIR", &path("").display().to_string()))
            .unwrap();
        let socket = UnixDatagram::bind(path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(program);
        command.arg(path("config.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(path("journal")).unwrap());
        command.env("NOTIFY_SOCKET", path("notify")).env("JOURNAL_STREAM", "8:1");
        // A third of it is the pause between two signs of life.
        command.env("WATCHDOG_USEC", "3000000").env("OXMON_HEALTH_FILE", path("alive"));
        Self { child: command.spawn().unwrap(), socket, dir }
    }

    /// Waits for a message with this line, and gives the whole message.
    fn hear(&self, line: &str) -> String {
        let mut buffer = [0_u8; 1_024];
        wait_for(line, Duration::from_secs(30), || {
            let length = self.socket.recv(&mut buffer).ok()?;
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            said.lines().any(|said| said == line).then_some(said)
        })
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("journal")).unwrap()
    }

    fn config(&self) -> String {
        self.dir.path().join("config.toml").display().to_string()
    }

    /// The whole life, as systemd sees it.
    fn live(&mut self) {
        self.hear("READY=1");
        self.hear("WATCHDOG=1");
        self.hear("WATCHDOG=1");
        signal(&self.child, "HUP");
        let said = self.hear("RELOADING=1");
        assert!(said.contains("MONOTONIC_USEC="), "{said}");
        self.hear("READY=1");
    }

    fn stop(&mut self) {
        signal(&self.child, "TERM");
        self.hear("STOPPING=1");
        assert_eq!(wait_exit(&mut self.child, Duration::from_secs(20)).code(), Some(0));
        // The journal adds the time, and reads the priority.
        let journal = self.journal();
        assert!(journal.lines().count() > 2, "{journal}");
        for line in journal.lines() {
            let rest = line.strip_prefix('<').and_then(|line| line.split_once('>'));
            let (priority, text) = rest.unwrap_or_else(|| panic!("no priority: {line}"));
            assert!(matches!(priority, "3" | "4" | "6" | "7"), "{line}");
            assert!(!text.starts_with("20"), "a time of its own: {line}");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_server_says_when_it_is_ready_alive_reloading_and_stopping() {
    let (grpc, http) = (free_port(), free_port());
    let config = format!(
        "grpc_port = {grpc}\nhttp_port = {http}\nbind = [\"127.0.0.1\"]\ndata_dir = \"DIRdata\"\n"
    );
    let mut service = Service::start(server::program(), &config);
    service.live();
    let health = |config: &str| run(server::program(), &["--health", config]);
    let out = health(&service.config());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    service.stop();
    let out = health(&service.config());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("does not answer"), "{said}");
}

#[test]
fn the_agent_says_so_too_and_is_alive_without_a_server() {
    let port = free_port();
    let config = format!(
        "server_endpoint = \"127.0.0.1:{port}\"\ncollection_interval_secs = 1\n\
         buffer_dir = \"DIRbuffer\"\n"
    );
    let mut service = Service::start(agent::program(), &config);
    // The service manager asks for loops that turn, not for a server.
    service.live();
    let health = |file: &Path| {
        let mut command = Command::new(agent::program());
        command.arg("--health").env("OXMON_HEALTH_FILE", file).output().unwrap()
    };
    let alive = service.dir.path().join("alive");
    let limit = Duration::from_secs(60);
    // The health check asks for one that takes the reports.
    wait_for("three intervals without a report", limit, || {
        // Whoever is not heard waits with its next message.
        service.hear("WATCHDOG=1");
        let out = health(&alive);
        let said = String::from_utf8_lossy(&out.stderr);
        (out.status.code() == Some(1) && said.contains("has not reported for")).then_some(())
    });
    let config = format!(
        "grpc_port = {port}\nhttp_port = {}\nbind = [\"127.0.0.1\"]\ndata_dir = \"DIRdata\"\n",
        free_port()
    );
    let mut receiver = Service::start(server::program(), &config);
    wait_for("reports", limit, || {
        service.hear("WATCHDOG=1");
        receiver.hear("WATCHDOG=1");
        health(&alive).status.success().then_some(())
    });
    service.stop();
    receiver.stop();
    // What stood still for too long is not alive, and neither is what never was.
    let old = std::time::SystemTime::now() - Duration::from_secs(101);
    std::fs::File::open(&alive).unwrap().set_modified(old).unwrap();
    let out = health(&alive);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("did nothing"), "{said}");
    assert_eq!(health(&alive.with_file_name("none")).status.code(), Some(1));
}
