//! Mail and HTTPS over real TLS with a private authority, against a real mail server.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde_json::{Value, json};

use super::endpoint::{Act, Endpoint};
use super::mail_server::MailServer;
use super::{Rig, event, wait_for};
use crate::model::severity::Severity;

/// A private authority and a certificate for `localhost`, made by the system's openssl.
struct Pki(tempfile::TempDir);

impl Pki {
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
        pki.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=Authority"));
        pki.openssl(&format!(
            "req -x509 {key} -keyout server.key -out server.pem -subj /CN=localhost \
             -CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE"
        ));
        pki
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl runs: scripts/setup.sh test installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn acceptor(&self) -> native_tls::TlsAcceptor {
        let read = |name| std::fs::read(self.file(name)).unwrap();
        let identity =
            native_tls::Identity::from_pkcs8(&read("server.pem"), &read("server.key")).unwrap();
        native_tls::TlsAcceptor::new(identity).unwrap()
    }
}

fn config(port: u16, more: Value) -> Value {
    let mut config = json!({
        "smtp_host": "localhost",
        "smtp_port": port,
        "from_name": "oxmon 监控",
        "from_email": "alerts@example.com",
    });
    let fields = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(fields);
    config
}

fn login() -> Value {
    json!({"smtp_username": "oxmon", "smtp_password": "pass-w0rd"})
}

fn rig(pki: Option<&Pki>) -> Rig {
    Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.timeout_secs = 5;
        config.notify.ca_file = pki.map(|pki| pki.file("ca.pem"));
    })
}

/// A header of a mail, with its folded lines joined.
fn header(mail: &str, name: &str) -> String {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    let start = format!("{name}: ");
    let line = unfolded.lines().find(|line| line.starts_with(&start));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))[start.len()..].to_owned()
}

#[test]
fn a_mail_goes_to_each_recipient_over_starttls_with_a_login() {
    let pki = Pki::new();
    let (cert, key) = (pki.file("server.pem"), pki.file("server.key"));
    let server = MailServer::start(&[
        "--tls",
        "starttls",
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--user",
        "oxmon",
        "--password",
        "pass-w0rd",
    ]);
    let rig = rig(Some(&pki));
    rig.channel("email", config(server.port, login()), &["a@example.com", "b@example.com"]);
    let mut fired = event("主机-1", Severity::Critical);
    fired.message = "<b>磁盘</b> 96.5 %".to_owned();
    rig.tell(vec![fired], false);
    let mails = server.wait(2);
    let rows = rig.wait_logs(1);
    rig.wait_empty();
    assert_eq!((rows[0].status.as_str(), rows[0].recipient_count), ("success", 2), "{rows:?}");
    assert_eq!(rows[0].response_body.as_deref(), Some("250 2.0.0 OK: queued as TEST1"));
    for (mail, to) in mails.iter().zip(["a@example.com", "b@example.com"]) {
        assert_eq!(mail["to"], json!([to]), "nobody sees the other recipients");
        assert_eq!((&mail["tls"], &mail["user"]), (&json!(true), &json!("oxmon")));
        assert_eq!(mail["from"], "alerts@example.com");
        let data = mail["data"].as_str().unwrap();
        assert!(data.is_ascii(), "headers and bodies are encoded");
        assert_eq!(header(data, "To"), to);
        assert!(header(data, "From").ends_with(" <alerts@example.com>"));
        assert!(header(data, "Subject").starts_with("[CRITICAL] Disk full: =?utf-8?b?"));
        assert_eq!(header(data, "Date"), "Mon, 09 Feb 2026 08:30:00 +0000");
        assert_eq!(header(data, "Auto-Submitted"), "auto-generated");
        assert!(header(data, "Message-ID").ends_with("@example.com>"));
        assert!(header(data, "Content-Type").starts_with("multipart/alternative"));
        let html = decoded_part(data, "text/html");
        assert!(html.contains("&lt;b&gt;磁盘&lt;/b&gt; 96.5 %"), "{html}");
        let plain = decoded_part(data, "text/plain");
        let line = "disk usage of / on 主机-1: <b>磁盘</b> 96.5 % \
                    (since 2026-02-09 08:29:00 +00:00)";
        assert!(plain.contains(line), "{plain}");
    }
    let ids: Vec<String> =
        mails.iter().map(|mail| header(mail["data"].as_str().unwrap(), "Message-ID")).collect();
    assert_ne!(ids[0], ids[1]);
}

/// The text of the part with this content type.
fn decoded_part(mail: &str, kind: &str) -> String {
    use base64::Engine as _;
    let start = mail.find(&format!("Content-Type: {kind}")).unwrap();
    let (head, rest) = mail[start..].split_once("\r\n\r\n").unwrap();
    let body = rest.split("\r\n--").next().unwrap();
    if head.contains("base64") {
        let packed: String = body.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
        return String::from_utf8(bytes).unwrap();
    }
    assert!(head.contains("quoted-printable"), "{head}");
    let joined = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'=' {
            let hex = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn tls_from_the_first_byte_and_no_tls_work_too() {
    let pki = Pki::new();
    let (cert, key) = (pki.file("server.pem"), pki.file("server.key"));
    let tls = MailServer::start(&[
        "--tls",
        "tls",
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ]);
    let bare = MailServer::start(&[]);
    let rig = rig(Some(&pki));
    rig.channel("email", config(tls.port, json!({"tls": "tls"})), &["a@example.com"]);
    rig.channel("email", config(bare.port, json!({})), &["a@example.com"]);
    rig.fire("web-1");
    assert_eq!(tls.wait(1)[0]["tls"], true);
    assert_eq!(bare.wait(1)[0]["tls"], false);
    rig.wait_empty();
}

#[test]
fn what_a_server_offers_in_lower_case_is_taken() {
    let pki = Pki::new();
    let (cert, key) = (pki.file("server.pem"), pki.file("server.key"));
    let tls =
        ["--tls", "starttls", "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let open = MailServer::start(&[&tls[..], &["--lower"]].concat());
    let login_wanted = ["--lower", "--user", "oxmon", "--password", "pass-w0rd"];
    let closed = MailServer::start(&[&tls[..], &login_wanted].concat());
    let rig = rig(Some(&pki));
    rig.channel("email", config(open.port, json!({})), &["a@example.com"]);
    rig.channel("email", config(closed.port, login()), &["a@example.com"]);
    rig.fire("web-1");
    assert_eq!(open.wait(1)[0]["tls"], true, "a mail went in the clear");
    let mail = &closed.wait(1)[0];
    assert_eq!((&mail["tls"], &mail["user"]), (&json!(true), &json!("oxmon")));
    rig.wait_empty();
}

#[test]
fn no_line_of_a_mail_is_longer_than_998_octets_and_dots_stay() {
    let server = MailServer::start(&[]);
    let rig = rig(None);
    rig.channel("email", config(server.port, json!({})), &["a@example.com"]);
    let mut fired = event(&"x".repeat(120), Severity::Critical);
    fired.rule_name = "R".repeat(1_200);
    fired.message = format!(".dot\n..two {}", "y".repeat(3_000));
    rig.tell(vec![fired], false);
    let mail = server.wait(1)[0]["data"].as_str().unwrap().to_owned();
    let longest = mail.split("\r\n").map(str::len).max();
    assert!(longest <= Some(998), "{longest:?}");
    assert!(decoded_part(&mail, "text/plain").contains(".dot"), "{mail}");
    rig.wait_empty();
}

#[test]
fn a_password_never_goes_over_a_line_without_tls() {
    let server = MailServer::start(&["--user", "oxmon", "--password", "pass-w0rd"]);
    let rig = rig(None);
    let channel = rig.channel("email", config(server.port, login()), &["a@example.com"]);
    rig.fire("web-1");
    let rows = rig.wait_logs(1);
    let error = rows[0].error_message.as_deref().unwrap();
    assert!(error.to_lowercase().contains("starttls"), "{error}");
    assert!(server.mails().is_empty());
    assert!(rig.notifier.test(&channel.id).is_err());
}

#[test]
fn a_wrong_password_and_an_unknown_authority_are_said() {
    let pki = Pki::new();
    let (cert, key) = (pki.file("server.pem"), pki.file("server.key"));
    let server = MailServer::start(&[
        "--tls",
        "starttls",
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--user",
        "oxmon",
        "--password",
        "another",
    ]);
    let trusting = rig(Some(&pki));
    let channel = trusting.channel("email", config(server.port, login()), &["a@example.com"]);
    let error = trusting.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("535") && !error.contains("pass-w0rd"), "{error}");
    let doubting = rig(None);
    let channel = doubting.channel("email", config(server.port, login()), &["a@example.com"]);
    let error = doubting.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("certificate verify failed"), "{error}");
}

#[test]
fn one_refused_mailbox_keeps_nobody_else_from_their_mail_and_gets_no_second_one() {
    let server = MailServer::start(&["--refuse", "gone@example.com", "--fail-first", "1"]);
    let rig = rig(None);
    let to = ["slow@example.com", "gone@example.com", "well@example.com"];
    rig.channel("email", config(server.port, json!({})), &to);
    rig.fire("web-1");
    rig.wait_logs(1);
    assert_eq!(server.wait(1)[0]["to"], json!(["well@example.com"]));
    let rows = wait_for("a second attempt", || {
        rig.advance_secs(1);
        Some(rig.logs()).filter(|rows| rows.len() >= 2)
    });
    rig.wait_empty();
    assert_eq!((rows[0].status.as_str(), rows[1].status.as_str()), ("failed", "success"));
    let told: Vec<Value> = server.wait(2).iter().map(|mail| mail["to"][0].clone()).collect();
    assert_eq!(told, ["well@example.com", "slow@example.com"], "once each");
    let details = rows[0].recipient_details.as_deref().unwrap();
    assert!(details.contains("550"), "{details}");
    assert_eq!(rows[1].recipient_count, 1, "who was refused for good is not tried again");
    rig.recover("web-1");
    let resolved = server.wait(4);
    let told: Vec<Value> = resolved[2..].iter().map(|mail| mail["to"][0].clone()).collect();
    assert_eq!(told, ["slow@example.com", "well@example.com"], "pairs by recipient");
}

#[test]
fn a_mail_server_that_hangs_is_left_after_the_time_limit() {
    let endpoint = Endpoint::start(|_, _| Act::Hang);
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.timeout_secs = 1;
    });
    let channel =
        rig.channel("email", config(endpoint.port, json!({})), &["a@example.com", "b@example.com"]);
    let error = rig.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("no answer from the mail server within 1 s"), "{error}");
    let row = &rig.logs()[0];
    assert!(row.duration_ms < 2_000, "the second recipient is not tried: {row:?}");
}

#[test]
fn a_mail_server_that_never_ends_its_answer_is_left_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_hang_up, hung_up) = crossbeam_channel::bounded::<()>(0);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, hung_up) = (stream.unwrap(), hung_up.clone());
            // A line well within each read's limit, and never the last.
            std::thread::spawn(move || {
                while stream.write_all(b"220-wait\r\n").is_ok() {
                    let pause = hung_up.recv_timeout(Duration::from_millis(200));
                    if pause == Err(RecvTimeoutError::Disconnected) {
                        return;
                    }
                }
            });
        }
    });
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.timeout_secs = 1;
    });
    let channel = rig.channel("email", config(port, json!({})), &["a@example.com"]);
    let error = rig.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("the mail server did not finish within 6 s"), "{error}");
    let error = rig.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("still busy with the previous message"), "{error}");
}

#[test]
fn https_is_trusted_through_the_private_authority_alone() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::start_on(listener, Some(pki.acceptor()), |_, _| Act::ok());
    let url = format!("https://localhost:{}/hook", endpoint.port);
    let trusting = rig(Some(&pki));
    let channel = trusting.channel("webhook", json!({}), &[&url]);
    assert_eq!(trusting.notifier.test(&channel.id).unwrap(), "thanks");
    let doubting = rig(None);
    let channel = doubting.channel("webhook", json!({}), &[&url]);
    let error = doubting.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("certificate verify failed"), "{error}");
    assert_eq!(endpoint.requests().len(), 1);
}
