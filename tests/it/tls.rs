//! TLS between agent and server, both ways, with a private authority.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::{signal, wait_for};

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// A server whose gRPC port speaks TLS; its HTTP port does so too, so it is asked through curl.
struct TlsServer {
    server: Server,
    ca: std::path::PathBuf,
}

impl TlsServer {
    fn start(pki: &Pki, (pem, key): (std::path::PathBuf, std::path::PathBuf), extra: &str) -> Self {
        let config =
            format!("[tls]\ncert_file = {}\nkey_file = {}\n{extra}", quoted(&pem), quoted(&key));
        let server = Server::start_tls(&config);
        Self { server, ca: pki.ca() }
    }

    /// What curl gets, with certificate checks as given.
    fn curl(&self, arguments: &[&str], path: &str) -> Option<Value> {
        let url = format!("https://127.0.0.1:{}{path}", self.server.http_port);
        let out = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "10"])
            .args(arguments)
            .arg(url)
            .output()
            .expect("curl runs");
        serde_json::from_slice(&out.stdout).ok()
    }

    fn agents(&self) -> i64 {
        let ca = self.ca.display().to_string();
        let health = self.curl(&["--cacert", &ca], "/v1/health");
        health.and_then(|body| body["data"]["agent_count"].as_i64()).unwrap_or(-1)
    }
}

#[test]
fn a_private_authority_serves_both_ports() {
    let pki = Pki::new();
    let server = TlsServer::start(&pki, pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10), "");
    let tls = format!("[tls]\nca_file = {}\n", quoted(&pki.ca()));
    let _agent = Agent::start("tls-01", server.server.grpc_port, &tls);
    wait_for("the agent over TLS", Duration::from_secs(15), || {
        (server.agents() == 1).then_some(())
    });
    assert!(server.curl(&[], "/v1/health").is_none(), "curl without the authority gets through");
}

#[test]
fn agents_refuse_an_expired_a_foreign_and_a_wrong_name() {
    let pki = Pki::new();
    let other = Pki::new();
    let cases = [
        ("expired", pki.issue("expired", "DNS:localhost,IP:127.0.0.1", -2), pki.ca()),
        ("wrong name", pki.issue("wrong", "DNS:elsewhere.example", 10), pki.ca()),
        ("foreign authority", pki.issue("good", "IP:127.0.0.1", 10), other.ca()),
    ];
    for (what, pair, ca) in cases {
        let server = TlsServer::start(&pki, pair, "");
        let tls = format!("[tls]\nca_file = {}\n", quoted(&ca));
        let agent = Agent::start("tls-01", server.server.grpc_port, &tls);
        wait_for(&format!("{what}: the agent's complaint"), Duration::from_secs(20), || {
            agent.log().contains("WARN").then_some(())
        });
        let seen = server.curl(&["-k"], "/v1/health").expect("the server answers");
        assert_eq!(seen["data"]["agent_count"], 0, "{what}: the agent reported all the same");
    }
}

#[test]
fn a_server_that_wants_client_certificates_gets_them() {
    let pki = Pki::new();
    let extra = format!("client_ca_file = {}\n", quoted(&pki.ca()));
    let pair = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let server = TlsServer::start(&pki, pair, &extra);
    let bare = format!("[tls]\nca_file = {}\n", quoted(&pki.ca()));
    let agent = Agent::start("bare", server.server.grpc_port, &bare);
    wait_for("the complaint of an agent without one", Duration::from_secs(20), || {
        agent.log().contains("WARN").then_some(())
    });
    assert_eq!(server.agents(), 0);
    let (pem, key) = pki.issue("agent", "DNS:agent", 10);
    let tls = format!("{bare}cert_file = {}\nkey_file = {}\n", quoted(&pem), quoted(&key));
    let _with = Agent::start("with", server.server.grpc_port, &tls);
    wait_for("the agent with one", Duration::from_secs(15), || {
        (server.agents() == 1).then_some(())
    });
}

#[test]
fn silent_handshakes_stop_nobody() {
    let pki = Pki::new();
    let pair = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let server = TlsServer::start(&pki, pair, "");
    let connect = || TcpStream::connect(("127.0.0.1", server.server.http_port)).unwrap();
    let mut silent: Vec<TcpStream> = (0..500).map(|_| connect()).collect();
    assert_eq!(server.agents(), 0);
    // The head of a greeting whose rest never comes.
    for socket in &mut silent[..100] {
        socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
    }
    // What is not a greeting ends at once.
    let mut plain = connect();
    plain.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("agent_count"));
    assert_eq!(server.agents(), 0);
    for socket in &mut silent {
        socket.set_nonblocking(true).unwrap();
    }
    wait_for("the silent ones to be cut off", Duration::from_secs(30), || {
        assert_eq!(server.agents(), 0, "the server answers meanwhile");
        silent.retain_mut(|socket| {
            matches!(socket.read(&mut [0; 64]), Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        silent.is_empty().then_some(())
    });
}

/// Half of a greeting of 16 KB, for which the TLS library has allocated the whole.
#[test]
fn begun_handshakes_are_bounded_and_the_oldest_give_way() {
    let pki = Pki::new();
    let pair = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let server = TlsServer::start(&pki, pair, "");
    assert_eq!(server.agents(), 0);
    let before = server.server.peak();
    let mut greeting = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3];
    greeting.resize(12_000, 0);
    let mut begun = Vec::new();
    for port in [server.server.grpc_port, server.server.http_port] {
        for _ in 0..1_500 {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // It may have given way already.
            let _ = socket.write_all(&greeting);
            begun.push(socket);
        }
        assert_eq!(server.agents(), 0, "the server answers meanwhile");
    }
    let grown = server.server.peak() - before;
    assert!(grown < 100 << 20, "it grew by {} MiB", grown >> 20);
}

#[test]
fn sighup_takes_the_new_certificate_and_keeps_the_old_over_a_bad_one() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let server = TlsServer::start(&pki, (pem.clone(), key.clone()), "");
    assert_eq!(server.agents(), 0);
    std::fs::write(&pem, "no certificate").unwrap();
    signal(&server.server.child, "HUP");
    wait_for("the complaint", Duration::from_secs(10), || {
        server.server.log().contains("kept the certificate as it was").then_some(())
    });
    assert_eq!(server.agents(), 0);
    let other = Pki::new();
    let (new_pem, new_key) = other.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    std::fs::copy(&new_key, &key).unwrap();
    std::fs::copy(&new_pem, &pem).unwrap();
    signal(&server.server.child, "HUP");
    let ca = other.ca().display().to_string();
    wait_for("the new certificate", Duration::from_secs(10), || {
        server.curl(&["--cacert", &ca], "/v1/health")
    });
    assert_eq!(server.agents(), -1, "the old authority is still good");
}

#[test]
fn one_connection_under_tls_carries_many_requests() {
    let pki = Pki::new();
    let pair = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let server = TlsServer::start(&pki, pair, "");
    let url = format!("https://127.0.0.1:{}", server.server.http_port);
    let body = server.server.dir.path().join("body.json");
    std::fs::write(&body, format!("{{\"username\": \"{}\"}}", "x".repeat(900_000))).unwrap();
    let out = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "-o", "/dev/null", "--cacert"])
        .arg(&server.ca)
        .args(["-w", "%{http_code} %{size_download} %{num_connects}\n"])
        .args([format!("{url}/v1/health"), "-o".to_owned(), "/dev/null".to_owned()])
        .args([format!("{url}/v1/openapi.json"), "--next".to_owned(), "-sS".to_owned()])
        .args(["-o", "/dev/null", "-w", "%{http_code}\n", "-H", "Content-Type: application/json"])
        .arg("--cacert")
        .arg(&server.ca)
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("{url}/v1/auth/login"))
        .output()
        .expect("curl runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("200 ") && lines[0].ends_with(" 1"), "{said}");
    assert!(lines[1].starts_with("200 ") && lines[1].ends_with(" 0"), "{said}");
    assert_eq!(lines[2], "400", "{said}");
}
