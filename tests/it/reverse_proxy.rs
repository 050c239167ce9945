//! A reverse proxy before the HTTP port: a real nginx and a real Caddy with the configurations of
//! `docs/operations.md`, and clients with addresses of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::server::Server;
use crate::support::tools::root;
use crate::support::{free_port, signal, wait_for};

const TRUSTED: &str = "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n";
/// Guesses of one address before it must wait.
const FREE: u32 = oxmon::base::limits::LOGIN_FAILURES_ADDRESS_FREE;

/// A running proxy; dropping it ends it.
struct Proxy {
    child: Child,
    _dir: tempfile::TempDir,
    url: String,
}

impl Proxy {
    /// The documented nginx, but on a port of loopback and without TLS; `None`, said loudly, where
    /// none is installed outside of CI.
    fn nginx(server: &Server) -> Option<Self> {
        let program = installed("/usr/sbin/nginx")?;
        let port = free_port();
        let plain: String = documented("```nginx\n", server)
            .split_inclusive('\n')
            .filter(|line| !line.contains("ssl_"))
            .collect();
        let block = plain.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {place}/pid;\nerror_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{paths}{block}}}\n"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.args(["-e", &dir.path().join("error.log").display().to_string(), "-c"]).arg(&file);
        Some(Self::run(command, dir, port))
    }

    /// The documented Caddy, likewise.
    fn caddy(server: &Server) -> Option<Self> {
        let program = installed("/usr/bin/caddy")?;
        let port = free_port();
        let block = documented("```\noxmon.example.com {", server);
        let config = format!(
            "{{\n admin off\n auto_https off\n}}\n\
             http://127.0.0.1:{port} {{\n bind 127.0.0.1\n{block}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Caddyfile");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        command.env("HOME", dir.path()).env("XDG_DATA_HOME", dir.path());
        Some(Self::run(command, dir, port))
    }

    fn run(mut command: Command, dir: tempfile::TempDir, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        wait_for("the proxy", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, _dir: dir, url }
    }
}

fn installed(program: &str) -> Option<&Path> {
    let path = Path::new(program);
    if !path.exists() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "{program} is missing: `scripts/setup.sh test` installs it");
        eprintln!("SKIPPED: {program} is missing; `scripts/setup.sh test` installs it");
        return None;
    }
    Some(path)
}

/// What stands in the guide's block after `start`, for a server's port.
fn documented(start: &str, server: &Server) -> String {
    let guide = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let block = guide.split(start).nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("127.0.0.1:8080"), "{block}");
    block.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", server.http_port))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        signal(&self.child, "TERM");
        let _ = self.child.wait();
    }
}

/// The status of a login with a wrong password from an address of loopback, with more headers.
fn guess(url: &str, from: &str, user: &str, headers: &[&str]) -> String {
    let body = json!({"username": user, "password": "wrong password"}).to_string();
    let out = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--interface", from])
        .args(["-H", "Content-Type: application/json", "-d", &body])
        .args(headers.iter().flat_map(|header| ["-H", header]))
        .arg(format!("{url}/v1/auth/login"))
        .output()
        .expect("curl runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The address of a user's newest call in the audit log.
fn seen(server: &mut Server, user: &str) -> String {
    let rows = server.get(&format!("/v1/audit?username__eq={user}&limit=1"));
    rows[0]["address"].as_str().unwrap_or_else(|| panic!("{user}: {rows}")).to_owned()
}

#[test]
fn logins_are_slowed_down_and_noted_by_the_clients_address_behind_the_documented_proxies() {
    for start in [Proxy::nginx, Proxy::caddy] {
        let mut server = Server::start(TRUSTED);
        let Some(proxy) = start(&server) else { continue };
        by_the_clients_address(&mut server, &proxy.url);
    }
}

fn by_the_clients_address(server: &mut Server, proxy: &str) {
    for number in 0..FREE {
        assert_eq!(guess(proxy, "127.0.0.7", &format!("user-{number}"), &[]), "401");
    }
    assert_eq!(seen(server, "user-3"), "127.0.0.7");
    // Whoever guesses waits; others behind the same proxy do not.
    assert_eq!(guess(proxy, "127.0.0.7", "someone", &[]), "429");
    let forged = ["X-Forwarded-For: 203.0.113.5", "Forwarded: for=203.0.113.6"];
    assert_eq!(guess(proxy, "127.0.0.7", "forger", &forged), "429");
    assert_eq!(guess(proxy, "127.0.0.8", "other", &forged), "401");
    assert_eq!(seen(server, "other"), "127.0.0.8");
    // Nobody else is believed, and the proxy's own machine is itself.
    assert_eq!(guess(&server.url(), "127.0.0.9", "direct", &forged), "401");
    assert_eq!(seen(server, "direct"), "127.0.0.9");
    assert_eq!(guess(&server.url(), "127.0.0.1", "local", &[]), "401");
    assert_eq!(seen(server, "local"), "127.0.0.1");
    assert_eq!(guess(&server.url(), "127.0.0.1", "hop", &forged), "401");
    assert_eq!(seen(server, "hop"), "203.0.113.5");
}

#[test]
fn the_default_password_only_changes_itself_for_clients_behind_a_trusted_proxy() {
    let server = Server::start(TRUSTED);
    let Some(nginx) = Proxy::nginx(&server) else { return };
    let call = |from: &str, path: &str, more: &[&str]| {
        let out = Command::new("curl")
            .args(["-sS", "--interface", from, "-w", "\n%{http_code}"])
            .args(more)
            .arg(format!("{}{path}", nginx.url))
            .output()
            .expect("curl runs");
        String::from_utf8(out.stdout).unwrap()
    };
    let body = json!({"username": "admin", "password": "changeme"}).to_string();
    let login = ["-H", "Content-Type: application/json", "-d", &body];
    let said = call("127.0.0.1", "/v1/auth/login", &login);
    let token = said.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    let agents = |from: &str, hop: &str| {
        call(from, "/v1/agents", &["-H", &bearer, "-H", &format!("X-Forwarded-For: {hop}")])
    };
    assert!(agents("127.0.0.1", "127.0.0.1").ends_with("\n200"), "the machine itself");
    let elsewhere = agents("127.0.0.1", "127.0.0.1, 198.51.100.7");
    // nginx adds 127.0.0.1, which is trusted, so that the hop before it is the client.
    assert!(elsewhere.ends_with("\n403") && elsewhere.contains("1014"), "{elsewhere}");
    assert!(call("127.0.0.7", "/", &[]).contains("<title>oxmon</title>"));
}
