//! The reporter against a real gRPC server on loopback, whose answers a test scripts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;
mod tls;

use std::path::Path;

use super::*;
use crate::model::point::Point;
use crossbeam_channel::{Sender, bounded};
use grpcio::RpcStatusCode;
use server::{FakeServer, Say, Seen};

const NOW_MS: i64 = 1_770_625_800_000;

fn set(number: i64) -> SampleSet {
    let timestamp_ms = NOW_MS + number * 1_000;
    let points = vec![
        Point::plain("load.load_1", timestamp_ms, number as f64),
        Point::labelled("disk.total", "mount", "/", timestamp_ms, 1e12),
    ];
    SampleSet { timestamp_ms, points }
}

/// A reporter at work.
struct Rig {
    sets: Option<Sender<SampleSet>>,
    reloads: Sender<Reload>,
    stats: Arc<Stats>,
    stop: Option<crate::rt::stop::StopSource>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn target(port: u16) -> Target {
    Target {
        agent_id: "web-01".to_owned(),
        endpoints: vec![format!("127.0.0.1:{port}")],
        token: Some("secret".to_owned()),
        tls: None,
    }
}

fn sources() -> Sources {
    Sources::of(&crate::agent::config::AgentConfig::default())
}

impl Rig {
    fn start(port: u16, dir: Option<&Path>) -> Self {
        Self::start_to(target(port), dir)
    }

    fn start_to(target: Target, dir: Option<&Path>) -> Self {
        let (sets, receiver) = bounded(100);
        let (reloads, reload) = bounded(1);
        let stop = crate::rt::stop::StopSource::new();
        let stats = Arc::new(Stats::default());
        let buffer = Buffer::open(dir, 1_000, NOW_MS);
        let mut reporter = Reporter::new(target, sources(), buffer, Arc::clone(&stats));
        reporter.away = (Duration::from_millis(300), Duration::from_millis(100));
        let inputs = Inputs { sets: receiver, reloads: reload, stop: stop.stop() };
        let thread = crate::rt::thread::spawn("reporter", move || reporter.run(&inputs));
        Self { sets: Some(sets), reloads, stats, stop: Some(stop), thread: Some(thread) }
    }

    fn send(&self, numbers: std::ops::Range<i64>) {
        for number in numbers {
            self.sets.as_ref().unwrap().send(set(number)).unwrap();
        }
    }

    /// Batches that wait, batches dropped, failures.
    fn counters(&self) -> [u64; 3] {
        let points = self.stats.points(0);
        [0, 1, 2].map(|at: usize| points[at].value as u64)
    }

    fn stop(mut self) {
        self.stop = None;
        self.sets = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
        let _ = Stop::never().wait(Duration::from_millis(5));
    }
}

/// The numbers of the sample sets that the server stored, in the order in which they came.
fn numbers(seen: &[Seen]) -> Vec<i64> {
    let times = seen.iter().filter(|seen| seen.stored).flat_map(|seen| &seen.times);
    times.map(|time| (time - NOW_MS) / 1_000).collect()
}

#[test]
fn a_live_set_arrives_with_id_and_token_and_nothing_is_written() {
    let server = FakeServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(server.port(), Some(dir.path()));
    for number in 0..3 {
        rig.send(number..number + 1);
        wait("the set", || server.seen().len() as i64 == number + 1);
    }
    assert_eq!(numbers(&server.seen()), [0, 1, 2]);
    let first = &server.seen()[0];
    assert_eq!((first.agent.as_str(), first.token.as_str()), ("web-01", "Bearer secret"));
    wait("an empty buffer", || rig.counters() == [0, 0, 0]);
    rig.stop();
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the lock");
}

#[test]
fn a_server_that_was_away_gets_the_newest_first_and_then_all_in_order() {
    let mut server = FakeServer::start(&[]);
    let rig = Rig::start(server.port(), None);
    rig.send(0..1);
    wait("the first set", || server.seen().len() == 1);
    server.stop();
    rig.send(1..2);
    wait("a failure", || rig.counters()[2] >= 1);
    rig.send(2..8);
    server.restart();
    wait("all", || numbers(&server.seen()).len() == 8);
    assert_eq!(numbers(&server.seen()), [0, 7, 1, 2, 3, 4, 5, 6]);
    let calls = server.seen().iter().filter(|seen| seen.stored).count();
    assert_eq!(calls, 3, "what waited comes in one call");
    wait("an empty buffer", || rig.counters()[0] == 0);
    rig.stop();
}

#[test]
fn a_server_that_is_away_hands_its_agents_over_and_gets_them_back() {
    let (mut first, second) = (FakeServer::start(&[]), FakeServer::start(&[]));
    let mut both = target(first.port());
    both.endpoints.push(format!("127.0.0.1:{}", second.port()));
    let rig = Rig::start_to(both, None);
    rig.send(0..1);
    wait("the first set", || first.seen().len() == 1);
    first.stop();
    for number in 1..4 {
        rig.send(number..number + 1);
        wait("the set at the other", || numbers(&second.seen()).len() as i64 == number);
    }
    assert!(rig.counters()[2] >= 1);
    first.restart();
    let mut next = 4;
    wait("the agent to come home", || {
        rig.send(next..next + 1);
        next += 1;
        first.seen().len() >= 2
    });
    wait("an empty buffer", || rig.counters()[0] == 0);
    rig.stop();
    let mut got = numbers(&first.seen());
    got.extend(numbers(&second.seen()));
    got.sort_unstable();
    got.dedup();
    assert_eq!(got, (0..next).collect::<Vec<_>>());
}

#[test]
fn servers_share_the_agents_and_those_of_one_that_is_away() {
    let names = ["a.example.com:9090", "b.example.com:9090", "c.example.com:9090"];
    let mut firsts = [0; 3];
    let mut seconds = [0; 3];
    for number in 0..900 {
        let config = crate::agent::config::AgentConfig {
            agent_id: format!("web-{number}"),
            server_endpoints: names.map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let order = Target::of(&config).endpoints;
        assert_eq!(order, Target::of(&config).endpoints);
        let place = |at: usize| names.iter().position(|name| *name == order[at]).unwrap();
        firsts[place(0)] += 1;
        if place(0) == 0 {
            seconds[place(1)] += 1;
        }
    }
    assert!(firsts.iter().all(|count| (240..360).contains(count)), "{firsts:?}");
    assert!(seconds[1] > 100 && seconds[2] > 100, "{seconds:?}");
}

#[test]
fn a_full_queue_a_wrong_token_and_an_inner_error_lose_nothing() {
    for code in [
        RpcStatusCode::RESOURCE_EXHAUSTED,
        RpcStatusCode::UNAUTHENTICATED,
        RpcStatusCode::PERMISSION_DENIED,
        RpcStatusCode::INTERNAL,
        RpcStatusCode::DEADLINE_EXCEEDED,
    ] {
        let server = FakeServer::start(&[Say::Status(code)]);
        let rig = Rig::start(server.port(), None);
        rig.send(0..3);
        wait("all", || numbers(&server.seen()).len() == 3);
        let mut got = numbers(&server.seen());
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2], "{code}");
        wait("an empty buffer", || rig.counters()[0] == 0);
        assert_eq!(rig.counters()[1..], [0, 1], "{code}");
        rig.stop();
    }
}

#[test]
fn a_refused_batch_is_dropped_and_counted() {
    let server = FakeServer::start(&[Say::Ok, Say::Refuse]);
    let rig = Rig::start(server.port(), None);
    for number in 0..3 {
        rig.send(number..number + 1);
        wait("the set", || server.seen().len() as i64 == number + 1);
    }
    assert_eq!(numbers(&server.seen()), [0, 2]);
    wait("the count", || rig.counters() == [0, 1, 0]);
    rig.stop();
}

#[test]
fn a_refused_call_of_many_costs_the_guilty_batch_alone() {
    let server = FakeServer::start(&[Say::Status(RpcStatusCode::UNAVAILABLE)]);
    server.refuse(NOW_MS + 2_000);
    let rig = Rig::start(server.port(), None);
    rig.send(0..6);
    wait("the others", || numbers(&server.seen()).len() == 5);
    let mut got = numbers(&server.seen());
    assert_eq!(got.remove(0), 5, "the newest goes first");
    assert_eq!(got, [0, 1, 3, 4]);
    wait("the count", || rig.counters()[..2] == [0, 1]);
    rig.stop();
}

#[test]
fn packed_batches_are_used_where_offered_and_left_where_unknown() {
    let server = FakeServer::start(&[]);
    server.offer_packed(true);
    let rig = Rig::start(server.port(), None);
    for number in 0..4 {
        rig.send(number..number + 1);
        wait("the set", || server.seen().len() as i64 == number + 1);
    }
    let packed: Vec<bool> = server.seen().iter().map(|seen| seen.packed).collect();
    assert_eq!(packed, [false, true, true, true]);
    assert_eq!(numbers(&server.seen()), [0, 1, 2, 3]);
    assert_eq!(server.seen()[1].token, "Bearer secret");
    rig.stop();

    let server = FakeServer::start(&[]);
    server.offer_packed(false);
    let rig = Rig::start(server.port(), None);
    for number in 0..4 {
        rig.send(number..number + 1);
        wait("the set", || server.seen().len() as i64 == number + 1);
    }
    assert!(server.seen().iter().all(|seen| !seen.packed));
    assert_eq!(numbers(&server.seen()), [0, 1, 2, 3]);
    rig.stop();
}

#[test]
fn a_packed_stream_that_breaks_or_is_told_to_wait_loses_nothing() {
    let mut server = FakeServer::start(&[]);
    server.offer_packed(true);
    let rig = Rig::start(server.port(), None);
    for number in 0..3 {
        rig.send(number..number + 1);
        wait("the set", || server.seen().len() as i64 == number + 1);
    }
    server.say(Say::Status(RpcStatusCode::RESOURCE_EXHAUSTED));
    rig.send(3..5);
    wait("the set after a pause", || numbers(&server.seen()).len() == 5);
    server.stop();
    rig.send(5..8);
    wait("failures", || rig.counters()[2] >= 2);
    server.restart();
    wait("all", || numbers(&server.seen()).len() == 8);
    let mut got = numbers(&server.seen());
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7]);
    rig.stop();
}

#[test]
fn an_end_keeps_what_was_not_sent_and_the_next_start_sends_it() {
    let mut server = FakeServer::start(&[]);
    server.stop();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(server.port(), Some(dir.path()));
    rig.send(0..4);
    wait("a failure", || rig.counters()[2] >= 1);
    let started = Instant::now();
    rig.stop();
    assert!(started.elapsed() < Duration::from_secs(2));
    server.restart();
    let rig = Rig::start(server.port(), Some(dir.path()));
    wait("all", || numbers(&server.seen()).len() == 4);
    assert_eq!(numbers(&server.seen()), [0, 1, 2, 3]);
    rig.stop();
}

#[test]
fn the_last_set_is_sent_at_the_end() {
    let server = FakeServer::start(&[]);
    let rig = Rig::start(server.port(), None);
    rig.send(0..5);
    rig.stop();
    let mut got = numbers(&server.seen());
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[test]
fn facts_come_once_a_connection_and_a_snapshot_once_it_is_asked_for() {
    for packed in [false, true] {
        let mut server = FakeServer::start(&[]);
        if packed {
            server.offer_packed(true);
        }
        let rig = Rig::start(server.port(), None);
        let mut sent = 0;
        let mut send = || {
            rig.send(sent..sent + 1);
            sent += 1;
        };
        let count = |server: &FakeServer, of: fn(&Seen) -> bool| {
            server.seen().iter().filter(|seen| of(seen)).count()
        };
        let facts: fn(&Seen) -> bool = |seen| seen.host.0;
        let snapshots: fn(&Seen) -> bool = |seen| seen.host.1;
        wait("the facts", || {
            send();
            count(&server, facts) == 1
        });
        for _ in 0..5 {
            let before = server.seen().len();
            send();
            wait("the set", || server.seen().len() > before);
        }
        assert_eq!((count(&server, facts), count(&server, snapshots)), (1, 0));
        server.stop();
        send();
        wait("a failure", || rig.counters()[2] >= 1);
        server.restart();
        wait("the facts on a new connection", || count(&server, facts) >= 2);
        wait("an empty buffer", || rig.counters()[0] == 0);
        let connected = count(&server, facts);
        server.ask_for_snapshots();
        send();
        wait("the snapshot", || count(&server, snapshots) == 1);
        let seen = server.seen();
        let snapshot = seen.iter().find(|seen| snapshots(seen)).unwrap();
        assert!(snapshot.times.is_empty() && snapshot.stored, "it waits for no sample set");
        for _ in 0..5 {
            let before = server.seen().len();
            send();
            wait("the set", || server.seen().len() > before);
        }
        assert_eq!(count(&server, snapshots), 1, "a server that asks all the time gets one");
        assert_eq!(count(&server, facts), connected);
        rig.stop();
    }
}

#[test]
fn a_reload_moves_to_another_server() {
    let (first, second) = (FakeServer::start(&[]), FakeServer::start(&[]));
    let rig = Rig::start(first.port(), None);
    rig.send(0..1);
    wait("the first", || first.seen().len() == 1);
    let reload = Reload {
        target: target(second.port()),
        buffer_dir: None,
        buffer_max_size: 10,
        sources: sources(),
    };
    rig.reloads.send(reload).unwrap();
    wait("the reload", || rig.reloads.is_empty());
    rig.send(1..2);
    // With the first sample set before it, where the reload came before that one's answer.
    wait("the second", || numbers(&second.seen()).contains(&1));
    assert_eq!(first.seen().len(), 1);
    rig.stop();
}
