//! A server that is away for a minute, and programs that are killed at random moments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use oxmon::base::clock::{SECOND_MS, parse_rfc3339};

use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

/// Rounds of a crash test, and the seed: `OXMON_CRASH_ROUNDS`, `OXMON_CRASH_SEED`.
fn plan(rounds: u64) -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("OXMON_CRASH_ROUNDS").unwrap_or(rounds);
    let seed = number("OXMON_CRASH_SEED").unwrap_or_else(|| now_ms() as u64);
    eprintln!("crash test: OXMON_CRASH_SEED={seed} OXMON_CRASH_ROUNDS={rounds}");
    (rounds, seed)
}

/// All timestamps of a metric of an agent, newest first.
fn timestamps(server: &mut Server, agent: &str, metric: &str) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let path = format!(
            "/v1/metrics?agent_id__eq={agent}&metric_name__eq={metric}&limit=1000&offset={}",
            found.len()
        );
        let rows = server.get(&path);
        let rows = rows.as_array().expect("a list").clone();
        let end = rows.len() < 1000;
        found.extend(rows.iter().map(|row| {
            parse_rfc3339(row["timestamp"].as_str().expect("a time")).expect("RFC 3339")
        }));
        if end {
            return found;
        }
    }
}

#[test]
fn a_server_that_is_away_for_a_minute_misses_nothing() {
    let mut server = Server::start("");
    let agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || {
        (server.call("GET", "/v1/agents/web-01/latest", None).status == 200).then_some(())
    });
    assert_eq!(server.stop().code(), Some(0));
    let back = Instant::now() + Duration::from_secs(60);
    wait_for("a minute", Duration::from_secs(61), || (Instant::now() >= back).then_some(()));
    server.restart();
    let resumed = now_ms();
    let ticks = wait_for("the gap to close", Duration::from_secs(90), || {
        let ticks = timestamps(&mut server, "web-01", "load.uptime");
        let whole = ticks.windows(2).all(|pair| pair[0] - pair[1] <= 2 * SECOND_MS);
        (whole && ticks.len() > 60 && ticks[0] > resumed).then_some(ticks)
    });
    let mut once = ticks.clone();
    once.dedup();
    assert_eq!(once.len(), ticks.len(), "a tick is stored twice");
    drop(agent);
}

#[test]
fn an_agent_that_is_killed_sends_what_it_kept_once() {
    let (rounds, seed) = plan(5);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start("");
    let kept = tempfile::tempdir().unwrap();
    let extra = format!("buffer_dir = {:?}\n", kept.path().display().to_string());
    let mut agent = Agent::start("web-01", server.grpc_port, &extra);
    wait_for("a first value", Duration::from_secs(15), || {
        (server.call("GET", "/v1/agents/web-01/latest", None).status == 200).then_some(())
    });
    for round in 0..rounds {
        assert_eq!(server.stop().code(), Some(0));
        let until = Instant::now() + Duration::from_millis(2_000 + random.u64(0..1_500));
        wait_for("the kill", Duration::from_secs(5), || (Instant::now() >= until).then_some(()));
        agent.kill_and_restart();
        let killed = now_ms();
        server.restart();
        let ticks = wait_for("ticks after the kill", Duration::from_secs(30), || {
            let ticks = timestamps(&mut server, "web-01", "load.uptime");
            (ticks.first().is_some_and(|newest| *newest > killed)).then_some(ticks)
        });
        let mut once = ticks.clone();
        once.dedup();
        assert_eq!(once.len(), ticks.len(), "round {round}: a tick is stored twice");
        // What was kept before the kill is there: at most the tick in flight may be missing.
        let gap = ticks.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap_or(0);
        assert!(gap <= 4 * SECOND_MS, "round {round}: a gap of {gap} ms");
    }
}

#[test]
fn a_server_that_is_killed_under_load_keeps_what_it_acknowledged_once() {
    let (rounds, seed) = plan(20);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start("");
    let base = now_ms() - 3_600_000;
    // From 1: the protobuf library of the test's client sends -0.0 as 0.
    let next = Arc::new(AtomicI64::new(1));
    let mut acknowledged: BTreeMap<i64, f64> = BTreeMap::new();
    for _ in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (stop, next, port) = (Arc::clone(&stop), Arc::clone(&next), server.grpc_port);
                std::thread::spawn(move || {
                    let client = Client::to(port);
                    let mut acked = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        // From 1, since a zero without its sign is what protobuf leaves out.
                        let value = (number + 1) as f64 * 0.37;
                        let sent = batch("crash", base + number, &[("a", value), ("b", -value)]);
                        match client.report(&sent) {
                            Ok(reply) if reply.success => acked.push((base + number, value)),
                            _ => break,
                        }
                    }
                    acked
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_millis(random.u64(20..400));
        wait_for("the kill", Duration::from_secs(5), || (Instant::now() >= until).then_some(()));
        crate::support::signal(&server.child, "KILL");
        stop.store(true, Ordering::SeqCst);
        let _ = server.child.wait();
        for writer in writers {
            acknowledged.extend(writer.join().expect("a writer ends"));
        }
        server.restart();
    }
    assert!(acknowledged.len() > rounds as usize, "{} batches", acknowledged.len());
    for (metric, sign) in [("a", 1.0), ("b", -1.0)] {
        let stored = values(&mut server, metric);
        for (at, value) in &acknowledged {
            let found =
                stored.get(at).unwrap_or_else(|| panic!("seed {seed}: {metric} at {at} is lost"));
            assert_eq!(found.to_bits(), (value * sign).to_bits(), "seed {seed}: {metric} at {at}");
        }
    }
}

/// All values of a metric of the agent `crash` by time; a time that comes twice fails the test.
fn values(server: &mut Server, metric: &str) -> BTreeMap<i64, f64> {
    let mut found = BTreeMap::new();
    let mut offset = 0;
    loop {
        let path = format!(
            "/v1/metrics?agent_id__eq=crash&metric_name__eq={metric}&limit=1000&offset={offset}"
        );
        let rows = server.get(&path).as_array().expect("a list").clone();
        for row in &rows {
            let at = parse_rfc3339(row["timestamp"].as_str().expect("a time")).expect("RFC 3339");
            let value = row["value"].as_f64().expect("a number");
            assert!(found.insert(at, value).is_none(), "{metric} at {at} is stored twice");
        }
        offset += rows.len();
        if rows.len() < 1000 {
            return found;
        }
    }
}
