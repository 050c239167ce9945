//! Every acknowledged sample is at the engine once in the end, whatever the engine and the server
//! go through.

use std::time::Duration;

use super::{Act, Fake, Load, SOON, figure, wait_until_whole};
use crate::support::server::Server;
use crate::support::wait_for;

fn config(fake: &Fake, more: &str) -> String {
    format!(
        "log_level = \"info\"\n[remote]\nwrite_urls = [\"{}\"]\ntimeout_secs = 1\n{more}",
        fake.write_url()
    )
}

#[test]
fn an_engine_that_misbehaves_gets_every_sample_in_the_end() {
    let fake = Fake::start();
    let mut server = Server::start(&config(&fake, "headers = { X-Scope-OrgID = \"ops\" }"));
    let load = Load::start(server.grpc_port, 100);
    load.wait_for_more(300);
    for act in [
        Act::Close,
        Act::Hang,
        Act::Answer(507, "no space left on device"),
        Act::Answer(503, "busy"),
        Act::RetryAfter(1),
        Act::Answer(500, "internal"),
        Act::Answer(400, "not today"),
        Act::Answer(413, "request entity too large"),
        Act::Answer(404, "no such path"),
        Act::BreakOff,
    ] {
        fake.always(act);
        // Storing goes on meanwhile.
        load.wait_for_more(300);
        fake.always(Act::Take);
        load.wait_for_more(100);
    }
    let acknowledged = load.end();
    wait_until_whole(&fake, &acknowledged, &server);
    assert!(fake.heads().iter().all(|head| head.contains("x-scope-orgid: ops")));
    assert_eq!(figure(&mut server, "oxmon_remote_gaps{target=\"engine\"}"), 0.0);
    // The engine refused everything then, not single samples: none was given up.
    for reason in ["other", "too_large", "failing"] {
        let line =
            format!("oxmon_remote_refused_samples_total{{reason=\"{reason}\",target=\"engine\"}}");
        assert_eq!(figure(&mut server, &line), 0.0, "{reason}");
    }
    assert!(figure(&mut server, "oxmon_remote_sent_samples_total{target=\"engine\"}") > 0.0);
    // An engine without `read_urls` is not asked how alerts were.
    assert!(!server.log().contains("does not say how"), "{}", server.log());
}

#[test]
fn kills_of_the_server_lose_nothing_at_the_engine() {
    let fake = Fake::start();
    let mut server = Server::start(&config(&fake, "shards = 2"));
    let load = Load::start(server.grpc_port, 20);
    for round in 0..6 {
        // Away, slow to answer, or well, when the kill comes.
        fake.always([Act::Close, Act::Take, Act::Hang][round % 3]);
        load.wait_for_more(200);
        server.kill_and_restart();
    }
    fake.always(Act::Take);
    load.wait_for_more(50);
    let acknowledged = load.end();
    wait_until_whole(&fake, &acknowledged, &server);
    // A stop with an engine that hangs is not held up, and loses nothing either.
    fake.always(Act::Hang);
    let load = Load::start(server.grpc_port, 20);
    load.wait_for_more(200);
    let acknowledged = load.end();
    let before = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(before.elapsed() < Duration::from_secs(9), "{:?}", before.elapsed());
    fake.always(Act::Take);
    server.restart();
    wait_until_whole(&fake, &acknowledged, &server);
}

#[test]
fn a_bad_sample_costs_itself_alone() {
    let fake = Fake::start();
    let mut server = Server::start(&config(&fake, "shards = 1"));
    // Every request with a sample of one agent's metric is refused whole, as Prometheus does; with
    // one of another's it fails for ever.
    fake.decide(|samples, _| {
        let is = |agent: &str, metric: &str| {
            let has = |labels: &std::collections::BTreeMap<String, String>, name: &str, value| {
                labels.get(name).is_some_and(|it| it == value)
            };
            samples.iter().any(|((labels, _), _)| {
                has(labels, "agent", agent) && has(labels, "oxmon_metric", metric)
            })
        };
        if is("load-003", "cpu.usage") {
            Act::Answer(400, "out of order sample")
        } else if is("load-005", "disk.used_percent") {
            Act::Answer(500, "too old sample")
        } else if samples.len() > 50 {
            Act::Answer(413, "too large")
        } else {
            Act::Take
        }
    });
    let load = Load::start(server.grpc_port, 8);
    load.wait_for_more(600);
    let mut acknowledged = load.end();
    let all = acknowledged.len();
    acknowledged.retain(|(agent, metric, _), _| {
        (agent.as_str(), metric.as_str()) != ("load-003", "cpu.usage")
            && (agent.as_str(), metric.as_str()) != ("load-005", "disk.used_percent")
    });
    let bad = (all - acknowledged.len()) as f64;
    wait_until_whole(&fake, &acknowledged, &server);
    let of = |reason: &str| {
        format!("oxmon_remote_refused_samples_total{{reason=\"{reason}\",target=\"engine\"}}")
    };
    wait_for("the refused samples to be counted", SOON, || {
        let refused =
            figure(&mut server, &of("out_of_order")) + figure(&mut server, &of("too_old"));
        (refused == bad).then_some(())
    });
}

#[test]
fn more_than_memory_holds_is_read_from_the_store_later() {
    let fake = Fake::start();
    let mut server =
        Server::start(&config(&fake, "").replace("timeout_secs = 1", "timeout_secs = 20"));
    fake.always(Act::Close);
    // More than fits: reports of 10,000 samples, which no agent's load has.
    let client = crate::support::grpc::Client::to(server.grpc_port);
    let now = crate::support::grpc::now_ms();
    let names: Vec<String> = (0..5_000).map(|number| format!("many_{number}")).collect();
    for round in 0..110 {
        let at = now - 600_000 + round * 1_000;
        let points: Vec<(&str, f64)> =
            names.iter().map(|name| (name.as_str(), round as f64)).collect();
        let batch = crate::support::grpc::batch("load-many", at, &points);
        assert!(client.report(&batch).expect("an answer").success);
    }
    let overflowed = "oxmon_remote_overflowed_samples_total{target=\"engine\"}";
    assert!(figure(&mut server, overflowed) > 0.0);
    assert!(figure(&mut server, "oxmon_remote_queued_samples") <= 500_000.0);
    wait_for("the gap", SOON, || {
        (figure(&mut server, "oxmon_remote_gaps{target=\"engine\"}") > 0.0).then_some(())
    });
    fake.always(Act::Take);
    wait_for("all of it", SOON, || (fake.len() >= 550_000).then_some(()));
    wait_for("the end of the gap", SOON, || {
        (figure(&mut server, "oxmon_remote_gaps{target=\"engine\"}") == 0.0).then_some(())
    });
}
