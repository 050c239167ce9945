//! A copy made while the server is under load, put back elsewhere.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use oxmon::base::clock::{DAY_MS, HOUR_MS};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::sql;

const CONFIG: &str = "[storage]\npack_points = 16\n[cert_check]\nenabled = false\n";

fn run(command: &str, config: &Path, folder: &Path) -> Output {
    Command::new(program()).arg(command).arg(config).arg(folder).output().expect("the program runs")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Reports until it is asked to stop; `next` counts what is acknowledged.
fn report(port: u16, base_ms: i64, next: &AtomicI64, stop: &AtomicBool) {
    let client = Client::to(port);
    while !stop.load(Ordering::SeqCst) {
        let number = next.load(Ordering::SeqCst);
        let at = base_ms - (number % 3) * DAY_MS + number * 10;
        let sent = batch("a", at, &[("x", number as f64 * 0.5), ("y", 7.0)]);
        assert!(client.report(&sent).expect("it is taken").success);
        next.fetch_add(1, Ordering::SeqCst);
    }
}

/// A copy does not depend on rules: both commands run whatever `[[alert.rules]]` says.
#[test]
fn a_rule_that_can_not_work_stops_neither_a_copy_nor_its_return() {
    let mut server = Server::start(CONFIG);
    let folder = server.dir.path().to_owned();
    let broken = folder.join("broken.toml");
    let rule = "\n[[alert.rules]]\nname = \"r\"\ntype = \"no_such_type\"\nmetric = \"m\"\n";
    let good = std::fs::read_to_string(folder.join("server.toml")).unwrap();
    std::fs::write(&broken, good + rule).unwrap();
    let checked = Command::new(program()).arg("--check-config").arg(&broken).output().unwrap();
    assert_eq!(checked.status.code(), Some(3), "{}", said(&checked));
    assert!(said(&checked).contains("alert.rules.0.type"), "{}", said(&checked));
    let dest = folder.join("copy");
    let out = run("backup", &broken, &dest);
    assert!(out.status.success(), "{}", said(&out));
    server.stop();
    std::fs::remove_dir_all(server.data()).unwrap();
    let out = run("restore", &broken, &dest);
    assert!(out.status.success(), "{}", said(&out));
    assert!(server.data().join("cert.db").is_file());
}

#[test]
fn a_copy_under_load_holds_all_that_was_acknowledged_before_it() {
    let server = Server::start(CONFIG);
    let base_ms = now_ms() - HOUR_MS;
    let (next, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (next, stop, port) = (Arc::clone(&next), Arc::clone(&stop), server.grpc_port);
        std::thread::spawn(move || report(port, base_ms, &next, &stop))
    };
    let config = server.dir.path().join("server.toml");
    let dest = server.dir.path().join("copy");
    crate::support::wait_for("some batches", std::time::Duration::from_secs(20), || {
        (next.load(Ordering::SeqCst) > 300).then_some(())
    });
    let before = next.load(Ordering::SeqCst);
    let out = run("backup", &config, &dest);
    assert!(out.status.success(), "{}", said(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("databases"), "{out:?}");
    // Nobody watches: no progress among the output of a job.
    assert_eq!(said(&out), "");
    let again = run("backup", &config, &dest);
    assert!(said(&again).contains("holds databases already"), "{}", said(&again));
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("the writer ends");

    let onto = run("restore", &config, &dest);
    assert_eq!(onto.status.code(), Some(6));
    assert!(said(&onto).contains("in use"), "{}", said(&onto));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("other.toml");
    let data = elsewhere.path().join("data");
    std::fs::write(&other, format!("data_dir = {:?}\n", data.display().to_string())).unwrap();
    let out = run("restore", &other, &dest);
    assert!(out.status.success(), "{}", said(&out));
    let query = "SELECT count(*), count(DISTINCT timestamp) FROM metrics WHERE metric_name = 'x'";
    let counts = sql::csv(&data, query);
    let (all, different) = counts.trim_end().split_once('\n').unwrap().1.split_once(',').unwrap();
    assert_eq!(all, different, "a point is stored twice");
    let all: i64 = all.parse().unwrap();
    assert!((before..=next.load(Ordering::SeqCst)).contains(&all), "{before} <= {all}");
    let wrong = "SELECT count(*) FROM metrics WHERE metric_name = 'y' AND value <> 7.0";
    assert_eq!(sql::csv(&data, wrong), "count(*)\n0\n");

    // A server starts on it, with the users of the first.
    let mut restored = Server::start_in(elsewhere, CONFIG);
    assert_eq!(restored.get("/v1/agents")[0]["agent_id"], "a");
}

#[test]
fn a_copy_that_is_damaged_is_not_put_back() {
    let mut server = Server::start(CONFIG);
    let base_ms = now_ms() - HOUR_MS;
    let client = Client::to(server.grpc_port);
    for number in 0..200 {
        let sent = batch("a", base_ms + number, &[("x", number as f64)]);
        assert!(client.report(&sent).expect("it is taken").success);
    }
    let config = server.dir.path().join("server.toml");
    let dest = server.dir.path().join("copy");
    assert!(run("backup", &config, &dest).status.success());
    assert_eq!(server.stop().code(), Some(0));
    let day = sql::days(&dest).pop().expect("a day");
    let mut bytes = std::fs::read(&day).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    std::fs::write(&day, bytes).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("other.toml");
    let data = elsewhere.path().join("data");
    std::fs::write(&other, format!("data_dir = {:?}\n", data.display().to_string())).unwrap();
    let out = run("restore", &other, &dest);
    assert_eq!(out.status.code(), Some(1));
    let name = day.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said(&out).contains(&name) && said(&out).contains("nothing was changed"), "{out:?}");
    assert!(sql::days(&data).is_empty() && !data.join("cert.db").exists());
}

#[test]
fn a_person_sees_how_far_it_is() {
    let server = Server::start(CONFIG);
    let sent = batch("a", now_ms(), &[("x", 1.0)]);
    assert!(Client::to(server.grpc_port).report(&sent).expect("it is taken").success);
    let config = server.dir.path().join("server.toml");
    let dest = server.dir.path().join("copy");
    let call = format!("{} backup {} {}", program(), config.display(), dest.display());
    // `script` gives the command a terminal.
    let out = Command::new("script").args(["-qec", &call, "/dev/null"]).output().expect("script");
    let seen = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{seen}");
    assert!(seen.contains("copying 2 of 2: ") && seen.contains(" 100 %"), "{seen:?}");
    assert!(seen.contains("2 databases, "), "{seen:?}");
}
