//! A server that is away for a minute, and an agent that is killed at random moments.

use std::time::{Duration, Instant};

use oxmon::base::clock::{SECOND_MS, parse_rfc3339};

use crate::support::agent::Agent;
use crate::support::grpc::now_ms;
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
        // What was kept before the kill is there: at most the tick in flight may be missing. The
        // newest tick goes first, and the others after it.
        let what = format!("round {round}: all ticks before and after the kill");
        let ticks = wait_for(&what, Duration::from_secs(30), || {
            let ticks = timestamps(&mut server, "web-01", "load.uptime");
            let gap = ticks.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap_or(0);
            let whole = ticks.first().is_some_and(|newest| *newest > killed);
            (whole && gap <= 4 * SECOND_MS).then_some(ticks)
        });
        let mut once = ticks.clone();
        once.dedup();
        assert_eq!(once.len(), ticks.len(), "round {round}: a tick is stored twice");
    }
}
