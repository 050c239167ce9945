//! Starting, stopping, and the starts that can't be.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use oxmon::base::exit::Exit;

use crate::support::agent::{self, Agent};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::{free_port, wait_for};

fn start_with(config: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::write(&path, config).unwrap();
    Command::new(program()).arg(&path).output().unwrap()
}

fn expect_refusal(out: &Output, exit: Exit, words: &[&str]) {
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(exit as i32), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn sigterm_stops_both_in_time_and_keeps_what_was_acknowledged() {
    let mut server = Server::start("");
    let mut agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || {
        (server.call("GET", "/v1/agents/web-01/latest", None).status == 200).then_some(())
    });
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0), "{}", agent.log());
    assert!(asked.elapsed() < Duration::from_secs(2), "the agent took {:?}", asked.elapsed());

    let at = now_ms();
    let reply = Client::to(server.grpc_port).report(&batch("last", at, &[("a.b", 4.25)])).unwrap();
    assert!(reply.success, "{}", reply.message);
    let asked = Instant::now();
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    assert!(asked.elapsed() < Duration::from_secs(5), "the server took {:?}", asked.elapsed());

    server.restart();
    let rows = server.get("/v1/agents/last/latest");
    assert_eq!(rows[0]["value"], 4.25);
}

#[test]
fn a_port_that_is_taken_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (grpc, http) in [(port, free_port()), (free_port(), port)] {
        let out = start_with(&format!(
            "data_dir = {:?}\ngrpc_port = {grpc}\nhttp_port = {http}\nbind = [\"127.0.0.1\"]\n",
            dir.path().join("data").display().to_string()
        ));
        expect_refusal(&out, Exit::PortTaken, &[&port.to_string()]);
        // The sentence itself, and no line of gRPC's.
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains(" INFO ") && !line.contains(" WARN "))
            .collect();
        assert_eq!(lines.len(), 1, "{said}");
    }
}

#[test]
fn a_data_dir_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let out = start_with(&format!(
        "data_dir = {path:?}\ngrpc_port = {}\nhttp_port = {}\nbind = [\"127.0.0.1\"]\n",
        free_port(),
        free_port()
    ));
    expect_refusal(&out, Exit::DataDir, &[&path]);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start("");
    let out = start_with(&format!(
        "data_dir = {:?}\ngrpc_port = {}\nhttp_port = {}\nbind = [\"127.0.0.1\"]\n",
        server.data().display().to_string(),
        free_port(),
        free_port()
    ));
    expect_refusal(&out, Exit::Locked, &["data"]);
}

#[test]
fn help_is_enough_to_begin() {
    for program in [program(), crate::support::agent::program()] {
        let out = Command::new(program).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success());
        for word in ["CONFIG", "--check-config", "--version", "exit"] {
            assert!(text.to_lowercase().contains(&word.to_lowercase()), "{word}: {text}");
        }
        let out = Command::new(program).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).contains(env!("CARGO_PKG_VERSION")));
        let out = Command::new(program).arg("--no-such-option").output().unwrap();
        assert_eq!(out.status.code(), Some(Exit::Usage as i32));
    }
}

#[test]
fn a_fatal_line_has_its_priority_in_the_journal_and_its_status_without_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("server.toml");
    std::fs::write(&config, "http_port = 0\n").unwrap();
    for program in [program(), agent::program()] {
        let out = Command::new(program).arg(&config).env("JOURNAL_STREAM", "8:1").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.starts_with("<3>oxmon-"), "{said}");
        assert_eq!(out.status.code(), Some(Exit::Config as i32));
        let closed = format!("exec {program} {} 2>&-", config.display());
        let out = Command::new("sh").args(["-c", &closed]).output().unwrap();
        assert_eq!(out.status.code(), Some(Exit::Config as i32));
    }
}
