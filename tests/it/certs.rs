//! Certificates of real TLS servers, from the check to the alert.

mod api;
mod kinds;
mod starttls;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::{free_port, wait_for};

/// A real TLS server.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn start(pem: &Path, key: &Path) -> Self {
        Self::start_at("127.0.0.1", pem, key, &[])
    }

    /// A server on this address of the machine, with further arguments of `openssl s_server`.
    fn start_at(address: &str, pem: &Path, key: &Path, extra: &[&str]) -> Self {
        let port = free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &format!("{address}:{port}")])
            .arg("-cert")
            .arg(pem)
            .arg("-key")
            .arg(key)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        wait_for("openssl s_server", Duration::from_secs(10), || {
            std::net::TcpStream::connect((address, port)).ok()
        });
        Self { child, port }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn server_with(pki: &Pki, extra: &str) -> Server {
    Server::start(&format!(
        "aggregation_window_secs = 0\n[cert_check]\ntick_secs = 1\nconnect_timeout_secs = 3\n\
         ca_file = {:?}\n{extra}",
        pki.ca().display().to_string()
    ))
}

fn check(server: &mut Server, domain: &str, port: u16) -> Value {
    let body = json!({"domain": domain, "port": port});
    let made = server.post("/v1/certs/domains", body);
    let id = made["id"].as_str().unwrap();
    server.post(&format!("/v1/certs/domains/{id}/check"), json!({}))
}

#[test]
fn a_certificate_that_ends_soon_becomes_a_metric_and_an_alert() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("soon", "DNS:localhost", 5);
    let tls = Tls::start(&pem, &key);
    let rule = "[[alert.rules]]\nname = \"cert-expiry\"\ntype = \"cert_expiration\"\n\
                metric = \"certificate.days_until_expiry\"\nagent_pattern = \"cert-checker\"\n\
                severity = \"critical\"\nwarning_days = 30\ncritical_days = 7\n\
                silence_secs = 86400\n";
    let mut server = server_with(&pki, rule);
    let seen = check(&mut server, "LocalHost.", tls.port);
    assert_eq!((&seen["is_valid"], &seen["chain_valid"]), (&json!(true), &json!(true)), "{seen}");
    assert_eq!(seen["domain"], "localhost");
    let days = seen["days_until_expiry"].as_i64().unwrap();
    assert!((4..=5).contains(&days), "{seen}");
    let rows = server.get("/v1/agents/cert-checker/latest");
    let valid =
        rows.as_array().unwrap().iter().find(|r| r["metric_name"] == "certificate.is_valid");
    assert_eq!(valid.unwrap()["value"], 1.0);
    assert_eq!(valid.unwrap()["labels"]["domain"], "localhost");
    let event = wait_for("the alert", Duration::from_secs(20), || {
        server.get("/v1/alerts/active").as_array().unwrap().first().cloned()
    });
    assert_eq!(event["severity"], "critical");
    assert_eq!(event["labels"]["domain"], "localhost");
    let listed = server.get("/v1/certificates");
    assert_eq!(listed[0]["subject_cn"], "soon", "{listed}");
    let summary = server.get("/v1/certs/summary");
    assert_eq!((&summary["total_domains"], &summary["valid"]), (&json!(1), &json!(1)));
}

#[test]
fn what_is_wrong_is_said_by_kind() {
    let pki = Pki::new();
    let mut server = server_with(&pki, "");
    let (pem, key) = pki.issue("old", "DNS:localhost", -3);
    let expired = Tls::start(&pem, &key);
    let seen = check(&mut server, "localhost", expired.port);
    assert_eq!(seen["is_valid"], false);
    assert!(seen["error"].as_str().unwrap().contains("expired"), "{seen}");

    let (pem, key) = pki.issue("other", "DNS:elsewhere.example", 9);
    let wrong = Tls::start(&pem, &key);
    let seen = check(&mut server, "127.0.0.1", wrong.port);
    assert_eq!(seen["is_valid"], false, "{seen}");
    assert!(seen["error"].as_str().unwrap().contains("name"), "{seen}");

    let seen = check(&mut server, "ip6-localhost.invalid", 443);
    assert_eq!((&seen["is_valid"], &seen["not_after"]), (&json!(false), &Value::Null), "{seen}");
    assert!(!seen["error"].as_str().unwrap().is_empty());
}

#[test]
fn the_scheduler_checks_a_new_domain_by_itself() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("good", "DNS:localhost", 90);
    let tls = Tls::start(&pem, &key);
    let mut server = server_with(&pki, "");
    server.post("/v1/certs/domains", json!({"domain": "localhost", "port": tls.port}));
    let seen = wait_for("the first check", Duration::from_secs(20), || {
        let answer = server.call("GET", "/v1/certs/status/localhost", None);
        (answer.status == 200).then(|| answer.data().clone())
    });
    assert_eq!(seen["is_valid"], true, "{seen}");
}

#[test]
fn a_row_that_is_changed_by_hand_ends_its_alert() {
    let pki = Pki::new();
    let names = "DNS:localhost,IP:127.0.0.1";
    let (pem, key) = pki.issue("soon", names, 5);
    let tls = Tls::start(&pem, &key);
    let rule = "[[alert.rules]]\nname = \"cert-expiry\"\ntype = \"cert_expiration\"\n\
                metric = \"certificate.days_until_expiry\"\nagent_pattern = \"cert-checker\"\n\
                severity = \"critical\"\nwarning_days = 30\ncritical_days = 7\n";
    let mut server = server_with(&pki, rule);
    check(&mut server, "localhost", tls.port);
    check(&mut server, "127.0.0.1", tls.port);
    let active = |server: &mut Server| -> Vec<String> {
        let rows = server.get("/v1/alerts/active");
        let domain = |row: &Value| row["labels"]["domain"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(domain).collect()
    };
    wait_for("both alerts", Duration::from_secs(20), || {
        (active(&mut server).len() == 2).then_some(())
    });
    let control = server.data().join("cert.db");
    for (sql, left) in [
        ("UPDATE cert_domains SET enabled = 0 WHERE domain = 'localhost'", vec!["127.0.0.1"]),
        ("DELETE FROM cert_domains WHERE domain = '127.0.0.1'", vec![]),
    ] {
        let db = rusqlite::Connection::open(&control).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.pragma_update(None, "foreign_keys", "ON").unwrap();
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
        wait_for(sql, Duration::from_secs(30), || (active(&mut server) == left).then_some(()));
    }
    // The history has an end a moment after the list of active alerts.
    wait_for("both ends in the history", Duration::from_secs(20), || {
        let history = server.get("/v1/alerts/history?limit=100").to_string();
        (history.matches("the domain is no longer checked").count() == 2).then_some(())
    });
}
