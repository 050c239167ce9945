//! The server killed with SIGKILL at random moments, under load that keeps packing and merging
//! busy: what it acknowledged is there exactly once, with its exact value.
//!
//! `OXMON_CRASH_ROUNDS` and `OXMON_CRASH_SEED` say how often and from which seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmon::base::clock::{DAY_MS, parse_rfc3339, rfc3339};

use crate::support::grpc::now_ms;
use crate::support::load::{self, CONFIG, DAYS, Load, WRITERS, Written};
use crate::support::server::Server;
use crate::support::sql;
use crate::support::{signal, wait_for};

const ROUNDS: u64 = 50;
/// Rounds after which everything is read back.
const CHECK_EVERY: u64 = 10;

/// Kills the server after a random time under load, or while it starts.
fn round(
    server: &mut Server,
    load: &Arc<Load>,
    random: &mut fastrand::Rng,
    written: &mut [Written],
) {
    let writers = load.start(server.grpc_port, written);
    let until = Instant::now() + Duration::from_millis(random.u64(20..350));
    wait_for("the kill", Duration::from_secs(5), || (Instant::now() >= until).then_some(()));
    signal(&server.child, "KILL");
    load.end();
    let _ = server.child.wait();
    for (writer, written) in writers.into_iter().zip(written) {
        let more = writer.join().expect("a writer ends");
        written.acknowledged.extend(more.acknowledged);
        written.doubtful = more.doubtful;
    }
    if random.u8(..) < 64 {
        // Once more while it reads its files back.
        server.spawn_again();
        let until = Instant::now() + Duration::from_millis(random.u64(1..200));
        wait_for("the kill", Duration::from_secs(5), || (Instant::now() >= until).then_some(()));
        signal(&server.child, "KILL");
        let _ = server.child.wait();
    }
    server.restart();
}

fn numbers(written: &[Written]) -> Vec<Vec<u64>> {
    let of = |written: &Written| written.acknowledged.iter().map(|batch| batch.number).collect();
    written.iter().map(of).collect()
}

#[test]
fn a_server_that_is_killed_under_load_keeps_what_it_acknowledged_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("OXMON_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("OXMON_CRASH_SEED").unwrap_or_else(|| now_ms() as u64);
    eprintln!("crash test: OXMON_CRASH_SEED={seed} OXMON_CRASH_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start(CONFIG);
    let load = Load::new();
    let mut written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
    for done in 1..=rounds {
        round(&mut server, &load, &mut random, &mut written);
        if done % CHECK_EVERY == 0 || done == rounds {
            let what = format!("seed {seed}, after {done} kills");
            let points = load::check(&server, &numbers(&written), load.base_ms, &what);
            eprintln!("{what}: {points} points");
        }
    }
    let batches: usize = written.iter().map(|written| written.acknowledged.len()).sum();
    assert!(batches > rounds as usize, "only {batches} batches were acknowledged");
    // The windows of packing and of merging were open: there are chunks, on several days.
    let chunks = sql::chunks(&server.data());
    assert!(chunks.len() as u64 == DAYS || chunks.len() as u64 == DAYS + 1, "{chunks:?}");
    assert!(chunks.values().all(|&chunks| chunks > 0), "{chunks:?}");
    check_api(&mut server, &written, &load);
}

/// The API gives the same points as SQL.
fn check_api(server: &mut Server, written: &[Written], load: &Load) {
    let stored = load::stored(server);
    let from = rfc3339(load.base_ms - DAYS as i64 * DAY_MS);
    for (writer, written) in written.iter().enumerate() {
        let agent = format!("crash-{writer}");
        let rows: BTreeMap<i64, u64> = stored
            .iter()
            .filter(|(key, _)| key.0 == agent && key.1 == "m5")
            .map(|(key, bits)| (key.2, *bits))
            .collect();
        assert!(rows.len() >= written.acknowledged.len());
        let summary = server.get(&format!(
            "/v1/metrics/summary?agent_id={agent}&metric_name=m5&timestamp__gte={from}"
        ));
        assert_eq!(summary["count"].as_u64(), Some(rows.len() as u64), "{agent}");
        assert_eq!(listed(server, &agent, "m5"), rows, "{agent}");
    }
}

/// A metric's points, page by page.
fn listed(server: &mut Server, agent: &str, metric: &str) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    loop {
        let path = format!(
            "/v1/metrics?agent_id__eq={agent}&metric_name__eq={metric}&limit=1000&offset={}",
            found.len()
        );
        let rows = server.get(&path).as_array().expect("a list").clone();
        for row in &rows {
            let at = parse_rfc3339(row["timestamp"].as_str().expect("a time")).expect("RFC 3339");
            let value = row["value"].as_f64().expect("a number");
            assert!(found.insert(at, value.to_bits()).is_none(), "{at} is listed twice");
        }
        if rows.len() < 1000 {
            return found;
        }
    }
}
