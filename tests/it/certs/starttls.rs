//! Protocols that turn to TLS when they are asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::server_with;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::tools::venv;

fn check(server: &mut Server, protocol: &str, port: u16) -> Value {
    let body = json!({"domain": "localhost", "port": port, "starttls": protocol});
    server.post("/v1/certs/domains", body);
    let seen = server.post("/v1/certs/domains/localhost/check", json!({}));
    let gone = server.call("DELETE", "/v1/certs/domains/localhost", None);
    assert_eq!(gone.data()["starttls"], protocol);
    seen
}

/// A server that talks in plain text, and then serves a certificate.
fn endpoint(
    identity: &(PathBuf, PathBuf),
    talk: impl Fn(&mut TcpStream) -> bool + Send + 'static,
) -> u16 {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let pem = native_tls::Identity::from_pkcs8(&read(&identity.0), &read(&identity.1)).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if talk(&mut stream)
                && let Ok(mut stream) = acceptor.accept(stream)
            {
                let _ = stream.read(&mut [0]);
            }
        }
    });
    port
}

fn expect(stream: &mut TcpStream, wanted: &[u8]) -> bool {
    let mut heard = vec![0; wanted.len()];
    stream.read_exact(&mut heard).is_ok() && heard == wanted
}

fn say(stream: &mut TcpStream, words: &[u8]) -> bool {
    stream.write_all(words).is_ok()
}

/// The system's mail server for tests; see its file.
struct Mail(Child, u16);

impl Mail {
    fn start(arguments: &[&str]) -> Option<Self> {
        let python = Some(venv().join("bin/python")).filter(|python| python.exists())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/smtp_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("the mail server says its port");
        let port = line.trim().parse().expect("a port");
        Some(Self(child, port))
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_mail_server_is_asked_to_turn_to_tls() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("mail", "DNS:localhost", 9);
    let (pem, key) = (pem.display().to_string(), key.display().to_string());
    let arguments = ["--tls", "starttls", "--cert", &pem, "--key", &key];
    let Some(mail) = Mail::start(&arguments) else {
        eprintln!("no aiosmtpd: run the tests through `make test`, which installs it");
        return;
    };
    let mut server = server_with(&pki, "");
    let seen = check(&mut server, "smtp", mail.1);
    assert_eq!((&seen["is_valid"], &seen["subject"]), (&json!(true), &json!("CN=mail")), "{seen}");

    let plain = Mail::start(&["--tls", "none"]).unwrap();
    let seen = check(&mut server, "smtp", plain.1);
    assert_eq!(seen["error_kind"], "no_starttls", "{seen}");

    let body = json!({"domain": "localhost", "port": plain.1});
    server.post("/v1/certs/domains", body);
    let seen = server.post("/v1/certs/domains/localhost/check", json!({}));
    assert_eq!(seen["error_kind"], "not_tls", "a greeting in plain text is not TLS: {seen}");
}

#[test]
fn each_protocol_has_its_conversation() {
    let pki = Pki::new();
    let identity = pki.issue("plain", "DNS:localhost", 9);
    let mut server = server_with(&pki, "");
    let imap = endpoint(&identity, |s| {
        say(s, b"* OK ready\r\n")
            && expect(s, b"a1 STARTTLS\r\n")
            && say(s, b"* CAPABILITY IMAP4rev1\r\na1 OK begin\r\n")
    });
    let pop3 = endpoint(&identity, |s| {
        say(s, b"+OK ready\r\n") && expect(s, b"STLS\r\n") && say(s, b"+OK begin\r\n")
    });
    let ldap = endpoint(&identity, |s| {
        expect(s, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037")
            && say(s, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
    });
    let postgres =
        endpoint(&identity, |s| expect(s, &[0, 0, 0, 8, 4, 210, 22, 47]) && say(s, b"S"));
    for (protocol, port) in [("imap", imap), ("pop3", pop3), ("ldap", ldap), ("postgres", postgres)]
    {
        let seen = check(&mut server, protocol, port);
        assert_eq!(seen["is_valid"], true, "{protocol}: {seen}");
        assert_eq!(seen["subject"], "CN=plain");
    }

    let unwilling = endpoint(&identity, |s| {
        let _ = s.read(&mut [0; 8]);
        let _ = say(s, b"N");
        false
    });
    let seen = check(&mut server, "postgres", unwilling);
    assert_eq!(seen["error_kind"], "no_starttls", "{seen}");
    let busy = endpoint(&identity, |s| {
        let _ = expect(s, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037");
        let _ = say(s, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x33\x04\x00\x04\x00");
        false
    });
    let seen = check(&mut server, "ldap", busy);
    assert_eq!(seen["error_kind"], "no_starttls", "{seen}");
    assert!(seen["error"].as_str().unwrap().contains("result 51"), "{seen}");
    let wrong = endpoint(&identity, |s| say(s, b"SSH-2.0-x\r\n"));
    let seen = check(&mut server, "imap", wrong);
    assert_eq!(seen["error_kind"], "no_starttls", "{seen}");
}
