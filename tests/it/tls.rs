//! TLS between agent and server, both ways, with a private authority.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::wait_for;

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
