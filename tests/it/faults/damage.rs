//! Day files cut short or overwritten at random places, while the server runs and while it does
//! not: it sets them aside, says so, and goes on with the other days and with new points.
//!
//! `OXMON_DAMAGE_ROUNDS` and `OXMON_CRASH_SEED` say how often and from which seed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxmon::base::clock::{DAY_MS, HOUR_MS, rfc3339, utc_day};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::{sql, wait_for};

const CONFIG: &str = "[storage]\npack_points = 16\n[cert_check]\nenabled = false\n";
const ROUNDS: u64 = 10;
const BATCHES: i64 = 60;

/// Points on three days: today's file and the one before may be hurt, the oldest is left alone.
fn fill(client: &Client, base_ms: i64) {
    for number in 0..BATCHES {
        for day in 0..3 {
            let at = base_ms - day * DAY_MS + number * 40;
            let value = at as f64 * 0.37;
            let sent = batch("a", at, &[("x", value), ("y", -value), ("z", 1e12)]);
            assert!(client.report(&sent).expect("it is taken").success);
        }
    }
}

/// What was done to a file, in words.
fn hurt(path: &Path, random: &mut fastrand::Rng) -> String {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    let size = file.metadata().expect("its size").len();
    match random.u8(0..4) {
        // The header: nobody can take it for a database.
        0 => {
            file.write_all_at(&[0x5a; 100], 0).expect("written");
            "its header is overwritten".to_owned()
        }
        1 => {
            let left = random.u64(0..size);
            file.set_len(left).expect("cut");
            format!("it is cut to {left} of {size} bytes")
        }
        _ => {
            let places = random.u64(1..30);
            for _ in 0..places {
                let junk: Vec<u8> = (0..random.usize(1..600)).map(|_| random.u8(..)).collect();
                file.write_all_at(&junk, random.u64(0..size)).expect("written");
            }
            // It does not grow.
            file.set_len(size).expect("cut");
            format!("{places} places of {size} bytes are overwritten")
        }
    }
}

/// Moves the log into the file, so that what is hurt is what is read.
fn settle(server: &mut Server) {
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
}

fn set_aside(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data).expect("the data folder").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".damaged-"))
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

fn count(server: &mut Server, metric: &str, from_ms: i64, to_ms: i64) -> Option<u64> {
    let (from, to) = (rfc3339(from_ms), rfc3339(to_ms));
    let answer = server.call(
        "GET",
        &format!(
            "/v1/metrics/summary?agent_id=a&metric_name={metric}\
             &timestamp__gte={from}&timestamp__lte={to}"
        ),
        None,
    );
    (answer.status == 200).then(|| answer.data()["count"].as_u64().expect("a count"))
}

/// Asks for everything, as people and charts do, until the server answers all of it: what it finds
/// damaged on the way is set aside.
fn read_all(server: &mut Server, base_ms: i64, what: &str) {
    wait_for(&format!("answers after {what}"), Duration::from_secs(30), || {
        let whole = ["x", "y", "z"]
            .iter()
            .all(|metric| count(server, metric, base_ms - 2 * DAY_MS, base_ms + HOUR_MS).is_some());
        (whole && lists_all(server, base_ms)).then_some(())
    });
}

/// Pages through every point: a summary reads what chunks say of themselves, not the chunks.
fn lists_all(server: &mut Server, base_ms: i64) -> bool {
    let (from, to) = (rfc3339(base_ms - 2 * DAY_MS), rfc3339(base_ms + HOUR_MS));
    for offset in (0..).step_by(1_000) {
        let path = format!(
            "/v1/metrics?agent_id__eq=a&timestamp__gte={from}&timestamp__lte={to}\
             &limit=1000&offset={offset}"
        );
        let page = server.call("GET", &path, None);
        if page.status != 200 {
            return false;
        }
        if page.data().as_array().is_none_or(Vec::is_empty) {
            return true;
        }
    }
    true
}

/// What `oxmon-server sql` prints for everything that the agent sent. A server that has read its
/// file before the damage need not know of it yet; the program then names it.
fn left(server: &Server, is_known: bool, what: &str) -> String {
    let query = "SELECT metric_name, timestamp, value FROM metrics WHERE agent_id = 'a'";
    let out = sql::run(&server.data(), &[query, "--format", "csv"]);
    let wrong = String::from_utf8_lossy(&out.stderr);
    let is_named = wrong.contains(".db is damaged: ") && !is_known;
    assert!(out.status.success() || is_named, "{what}: {wrong}");
    String::from_utf8(out.stdout).expect("UTF-8").replace("\r\n", "\n")
}

fn check(server: &mut Server, base_ms: i64, is_known: bool, what: &str) {
    let client = Client::to(server.grpc_port);
    let now = now_ms();
    wait_for(&format!("a new point after {what}"), Duration::from_secs(30), || {
        let sent = batch("b", now, &[("x", 5.0)]);
        client.report(&sent).is_ok_and(|reply| reply.success).then_some(())
    });
    let late = batch("b", base_ms - DAY_MS, &[("x", 6.0)]);
    wait_for(&format!("a late point after {what}"), Duration::from_secs(30), || {
        client.report(&late).is_ok_and(|reply| reply.success).then_some(())
    });
    let oldest = (base_ms - 2 * DAY_MS, base_ms - 2 * DAY_MS + BATCHES * 40);
    assert_eq!(count(server, "x", oldest.0, oldest.1), Some(BATCHES as u64), "{what}");
    let query = format!("SELECT count(*) FROM metrics WHERE timestamp <= {}", oldest.1);
    assert_eq!(sql::csv(&server.data(), &query), format!("count(*)\n{}\n", BATCHES * 3), "{what}");
    // What is left of the damaged file may be less than was sent, and never anything else.
    for row in left(server, is_known, what).lines().skip(1) {
        let columns: Vec<&str> = row.split(',').collect();
        let [metric, at, value] = columns[..] else { panic!("{row}") };
        let at: i64 = at.parse().expect("a time");
        let age = base_ms - at;
        let sent = (0..BATCHES).any(|number| (age + number * 40) % DAY_MS == 0);
        let expected = match metric {
            "x" => at as f64 * 0.37,
            "y" => at as f64 * -0.37,
            _ => 1e12,
        };
        assert!(sent && value.parse() == Ok(expected), "{row} was never sent; {what}");
    }
}

fn day_file(server: &Server, at_ms: i64) -> PathBuf {
    server.data().join(format!("{}.db", utc_day(at_ms)))
}

#[test]
fn a_damaged_day_is_set_aside_and_the_server_goes_on() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("OXMON_DAMAGE_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("OXMON_CRASH_SEED").unwrap_or_else(|| now_ms() as u64);
    eprintln!("damage test: OXMON_CRASH_SEED={seed} OXMON_DAMAGE_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noticed = 0;
    for round in 0..rounds {
        let mut server = Server::start(CONFIG);
        let base_ms = now_ms() - HOUR_MS;
        fill(&Client::to(server.grpc_port), base_ms);
        settle(&mut server);
        let path = day_file(&server, base_ms - random.i64(0..2) * DAY_MS);
        let running = round % 2 == 0;
        if !running {
            assert_eq!(server.stop().code(), Some(0));
        }
        let done = hurt(&path, &mut random);
        let what = format!("seed {seed}, round {round}, running {running}: {done}");
        if !running {
            server.restart();
        }
        read_all(&mut server, base_ms, &what);
        check(&mut server, base_ms, !running, &what);
        server.kill_and_restart();
        read_all(&mut server, base_ms, &what);
        check(&mut server, base_ms, true, &what);
        let aside = set_aside(&server.data());
        let log = server.log();
        for name in &aside {
            assert!(log.contains(&format!("it is set aside as {name}")), "{what}: {name}\n{log}");
        }
        assert!(!done.contains("header") || !aside.is_empty(), "{what}: nobody noticed");
        noticed += u64::from(!aside.is_empty());
        eprintln!("{what}: {aside:?}");
    }
    assert!(noticed * 2 > rounds, "only {noticed} of {rounds} damages were noticed");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let mut server = Server::start(CONFIG);
    let base_ms = now_ms() - HOUR_MS;
    fill(&Client::to(server.grpc_port), base_ms);
    assert_eq!(server.stop().code(), Some(0));
    let path = day_file(&server, base_ms - DAY_MS);
    File::create(&path).and_then(|file| file.write_all_at(&[7; 9_000], 0)).expect("written");
    server.restart();
    let name = format!("{}.db.damaged-1", utc_day(base_ms - DAY_MS));
    let storage = server.get("/v1/system/storage");
    assert_eq!(storage["damaged"], serde_json::json!([name]));
    assert_eq!(set_aside(&server.data()), [name]);
    check(&mut server, base_ms, true, "a file of sevens");
}

#[test]
fn a_file_of_another_program_is_not_set_aside() {
    let mut server = Server::start(CONFIG);
    assert_eq!(server.stop().code(), Some(0));
    let path = server.data().join(format!("{}.db", utc_day(now_ms() - 2 * DAY_MS)));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')").unwrap();
    drop(other);
    server.spawn_again();
    let status = crate::support::wait_exit(&mut server.child, Duration::from_secs(20));
    assert_eq!(status.code(), Some(5), "{}", server.log());
    assert!(server.log().contains("is a database of another program"), "{}", server.log());
    assert_eq!(sql::sqlite3(&path, "SELECT text FROM notes"), "mine");
    std::fs::remove_file(&path).unwrap();
    server.restart();
}
