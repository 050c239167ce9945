//! `oxmon-server passwd`: a lost password is set, beside a running server.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::server::{Server, program};

fn set(config: &Path, user: &str, typed: &str) -> Output {
    let mut child = Command::new(program())
        .args(["passwd".as_ref(), config.as_os_str(), user.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses the user does not read.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[out.stdout.as_slice(), &out.stderr].concat()).into_owned()
}

#[test]
fn a_lost_password_is_set_beside_a_running_server() {
    let mut server = Server::start("");
    assert_eq!(server.call("GET", "/v1/agents", None).status, 200);
    let config = server.dir.path().join("server.toml");
    let out = set(&config, "admin", "new horse battery\n");
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("the password of `admin` is set"), "{}", said(&out));
    // The earlier login has ended, and the old password with it.
    assert_eq!(server.call("GET", "/v1/agents", None).status, 401);
    let login = |password: &str| {
        let body = json!({"username": "admin", "password": password});
        server.call_as(None, "POST", "/v1/auth/login", Some(body))
    };
    assert_eq!(login("changeme").status, 401);
    let answer = login("new horse battery");
    assert_eq!((answer.status, &answer.data()["must_change"]), (200, &json!(false)));
    let token = answer.data()["token"].as_str().unwrap().to_owned();
    let audit = server.call_as(Some(&token), "GET", "/v1/audit?limit=100", None);
    let entries = audit.data().as_array().unwrap().clone();
    let entry = entries.iter().find(|entry| entry["action"] == "oxmon-server passwd");
    assert_eq!(entry.expect("an entry")["target"], "admin");
}

#[test]
fn what_cannot_be_set_is_named_and_changes_nothing() {
    let server = Server::start("");
    let config = server.dir.path().join("server.toml");
    for (user, typed, expected) in [
        ("eve", "new horse battery\n", "no user `eve`; there are: admin"),
        ("admin", "short\n", "must have 8 to 256 bytes"),
        ("admin", "", "must have 8 to 256 bytes"),
        ("admin", &"x".repeat(400), "must have 8 to 256 bytes"),
    ] {
        let out = set(&config, user, typed);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains(expected), "{}", said(&out));
    }
    assert!(!server.log_in("admin", "changeme").is_empty());
    let empty = tempfile::tempdir().unwrap();
    let other = empty.path().join("other.toml");
    std::fs::write(&other, format!("data_dir = {:?}\n", empty.path().display().to_string()))
        .unwrap();
    let out = set(&other, "admin", "new horse battery\n");
    assert_eq!(out.status.code(), Some(5));
    assert!(said(&out).contains("start the server once"), "{}", said(&out));
    assert!(!empty.path().join("cert.db").exists());
}

#[test]
fn at_a_terminal_it_is_typed_twice_and_not_shown() {
    let server = Server::start("");
    let config = server.dir.path().join("server.toml");
    let call = format!("{} passwd {} admin", program(), config.display());
    // `script` gives the command a terminal; it echoes what is typed unless it is asked not to.
    let mut child = Command::new("script")
        .args(["-qec", &call, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut stdin = child.stdin.take().unwrap();
    let mut shown = child.stdout.take().unwrap();
    let mut text = String::new();
    for prompt in ["New password for admin: ", "Again: "] {
        read_until(&mut shown, &mut text, prompt);
        stdin.write_all(b"typed horse battery\n").unwrap();
    }
    read_until(&mut shown, &mut text, "is set");
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{text}");
    assert!(!text.contains("typed horse"), "{text}");
    assert!(!server.log_in("admin", "typed horse battery").is_empty());
}

fn read_until(from: &mut impl std::io::Read, text: &mut String, end: &str) {
    let mut byte = [0];
    while !text.ends_with(end) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "ended after {text:?}");
        text.push(char::from(byte[0]));
    }
}
