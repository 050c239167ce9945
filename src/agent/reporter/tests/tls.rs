//! TLS to a server with a certificate of its own making, which also asks for the agent's.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::agent::reporter::target::Tls;

/// A certificate for `agent.test` that vouches for itself, with its key.
fn identity(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let out = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "10", "-subj", "/CN=agent.test"])
        .args(["-addext", "subjectAltName=DNS:agent.test", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (cert, key)
}

#[test]
fn only_the_right_authority_name_and_certificate_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = identity(dir.path(), "server");
    let stranger = identity(dir.path(), "stranger");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let server = FakeServer::start_tls(&read(&cert), &read(&key));
    let right = Tls {
        ca_file: Some(cert.clone()),
        identity: Some((cert.clone(), key.clone())),
        server_name: Some("agent.test".to_owned()),
    };
    let wrong = [
        ("no TLS", None),
        ("the system's authorities", Some(Tls { ca_file: None, ..right.clone() })),
        ("a wrong authority", Some(Tls { ca_file: Some(stranger.0.clone()), ..right.clone() })),
        ("a wrong name", Some(Tls { server_name: None, ..right.clone() })),
        ("no certificate", Some(Tls { identity: None, ..right.clone() })),
        ("a wrong certificate", Some(Tls { identity: Some(stranger), ..right.clone() })),
        ("no file", Some(Tls { ca_file: Some("/no/such.pem".into()), ..right.clone() })),
    ];
    for (what, tls) in wrong {
        let rig = Rig::start_to(Target { tls, ..target(server.port()) }, None);
        rig.send(0..1);
        wait(what, || matches!(rig.counters(), [1, 0, failures] if failures > 0));
        rig.stop();
        assert!(server.seen().is_empty(), "{what}");
    }
    let rig = Rig::start_to(Target { tls: Some(right), ..target(server.port()) }, None);
    rig.send(1..2);
    wait("the right one", || numbers(&server.seen()) == [1]);
    rig.stop();
}
