//! The power that goes under load, at any instant, on a disk that loses and tears what was not
//! flushed: what the server had acknowledged, reports and changes over the API, is there exactly
//! once, with its exact value.
//!
//! `OXMON_POWER_CUTS` and `OXMON_CRASH_SEED` say how often and from which seed.

use std::time::Duration;

use serde_json::json;

use crate::support::grpc::now_ms;
use crate::support::load::{self, CONFIG, Load, WRITERS, Written, seconds};
use crate::support::powerless::{Record, recorder};
use crate::support::server::Server;
use crate::support::tools::there;
use crate::support::{sql, wait_for};

const CUTS: u64 = 25;
const BATCHES: usize = 400;
const WHITELIST: &str = "/v1/agents/whitelist";

/// Numbers of the batches that were acknowledged before a time.
fn before(written: &[Written], cut: f64) -> Vec<Vec<u64>> {
    let of = |written: &Written| {
        let earlier = written.acknowledged.iter().filter(|batch| batch.at < cut);
        earlier.map(|batch| batch.number).collect()
    };
    written.iter().map(of).collect()
}

/// A server on what [`Record::leave`] gives.
fn start_after(
    record: &Record,
    cut: f64,
    honest_until: f64,
    mut random: Option<fastrand::Rng>,
) -> Server {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("the folder is made");
    record.leave(&data, cut, honest_until, &mut random);
    Server::start_in(dir, CONFIG)
}

#[test]
fn what_was_acknowledged_outlives_the_power() {
    if !there("strace") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cuts = number("OXMON_POWER_CUTS").unwrap_or(CUTS);
    let seed = number("OXMON_CRASH_SEED").unwrap_or_else(|| now_ms() as u64);
    eprintln!("power test: OXMON_CRASH_SEED={seed} OXMON_POWER_CUTS={cuts}");
    let traces = tempfile::tempdir().expect("a temporary folder");
    let prefix = traces.path().join("trace");
    let mut server = Server::start_under(&recorder(&prefix), CONFIG);
    let load = Load::new();
    let written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
    let writers = load.start(server.grpc_port, &written);
    let mut entered = Vec::new();
    wait_for("the batches", Duration::from_secs(60), || {
        let agent = format!("host-{}", entered.len());
        server.post(WHITELIST, json!({"agent_id": agent}));
        entered.push((agent, seconds()));
        load.is_past(BATCHES).then_some(())
    });
    load.end();
    let join = |writer: std::thread::JoinHandle<Written>| writer.join().expect("a writer ends");
    let written: Vec<Written> = writers.into_iter().map(join).collect();
    assert!(server.stop().success());
    let record = Record::read(&prefix, &server.data());
    let acknowledged = written.iter().flat_map(|written| &written.acknowledged);
    let first = acknowledged.map(|batch| batch.at).fold(f64::INFINITY, f64::min);
    // There were chunks to make, and SQLite's log was moved into the file.
    assert!(sql::chunks(&server.data()).values().all(|&chunks| chunks > 0));
    assert!(record.was_flushed(".db", first) && record.was_flushed(".db-wal", first));

    let busy: Vec<f64> = record.begins.iter().copied().filter(|&begin| begin > first).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..cuts {
        let cut = busy[random.usize(0..busy.len())];
        let what = format!("seed {seed}, cut {round}, {:.6} s after the first answer", cut - first);
        let mut server = start_after(&record, cut, f64::INFINITY, Some(random.fork()));
        let points = load::check(&server, &before(&written, cut), load.base_ms, &what);
        let list = server.get(&format!("{WHITELIST}?limit=1000"));
        let rows = list.as_array().expect("a list");
        let earlier = entered.iter().filter(|(_, at)| *at < cut);
        for (agent, _) in earlier {
            let there = rows.iter().filter(|row| row["agent_id"] == agent.as_str()).count();
            assert_eq!(there, 1, "{what}: {agent} in {list}");
        }
        eprintln!("{what}: {points} points, {} agents entered", rows.len());
    }

    // This test can fail: a disk that only claims to flush does lose points.
    let (half, end) = (busy[busy.len() / 2], busy[busy.len() - 1]);
    let server = start_after(&record, end, half, None);
    let stored = load::stored(&server);
    assert!(load::lost(&stored, &before(&written, half), load.base_ms).is_empty());
    assert!(!load::lost(&stored, &before(&written, end), load.base_ms).is_empty());
}
