//! The server killed with SIGKILL at random moments, under load that keeps packing and merging
//! busy: what it acknowledged is there exactly once, with its exact value.
//!
//! `OXMON_CRASH_ROUNDS` and `OXMON_CRASH_SEED` say how often and from which seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oxmon::base::clock::{DAY_MS, HOUR_MS, parse_rfc3339, rfc3339};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;

use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::sql;
use crate::support::{signal, wait_for};

/// Small chunks, so that every few batches pack, on each of several days.
const CONFIG: &str = "[storage]\npack_points = 16\npack_age_secs = 60\n\
                      [cert_check]\nenabled = false\n";
const ROUNDS: u64 = 50;
const WRITERS: u64 = 4;
/// Days that points are spread over: those before today are over, and merged.
const DAYS: u64 = 4;
const METRICS: usize = 6;
/// Rounds after which everything is read back.
const CHECK_EVERY: u64 = 10;

/// Number `number` of a writer's batches. All of it follows from the number, so that whatever is
/// read back can be judged.
fn sent(writer: u64, number: u64, base_ms: i64) -> Batch {
    let agent_id = format!("crash-{writer}");
    // Every eighth batch is late: it fills the gap that the others left.
    let step = if number % 8 == 7 { number - 7 } else { number + 1 };
    let day = (number / 8 % DAYS) as i64;
    let timestamp_ms = base_ms - day * DAY_MS + step as i64 * 20;
    let point = |index: usize| {
        let value = value(timestamp_ms, index);
        match index {
            0..3 => Point::plain(&format!("m{index}"), timestamp_ms, value),
            _ => Point::labelled(&format!("m{index}"), "mount", "/", timestamp_ms, value),
        }
    };
    Batch { agent_id: agent_id.into(), timestamp_ms, points: (0..METRICS).map(point).collect() }
}

/// A walk, a constant, a rate, and bits that no codec likes.
fn value(at_ms: i64, index: usize) -> f64 {
    let at = at_ms as f64;
    match index {
        0 => 256e9,
        1 => (at / 977.0).sin() * 100.0,
        2 => at * 0.1,
        3 => (at_ms % 17) as f64 * 0.01,
        4 => f64::from_bits((at_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2),
        _ => -(at_ms as f64),
    }
}

type Rows = BTreeMap<(String, String, i64), u64>;

fn rows_of(batch: &Batch) -> impl Iterator<Item = ((String, String, i64), u64)> + '_ {
    batch.points.iter().map(|point| {
        let key = (batch.agent_id.to_string(), point.metric.to_string(), point.timestamp_ms);
        (key, point.value.to_bits())
    })
}

/// What one writer knows at the end of a round.
struct Written {
    writer: u64,
    acknowledged: Vec<u64>,
    /// The batch without an answer: it is sent again first, as agents do.
    doubtful: Option<u64>,
}

struct Load {
    stop: AtomicBool,
    base_ms: i64,
    next: Vec<AtomicU64>,
}

fn write(load: &Load, writer: u64, port: u16, doubtful: Option<u64>) -> Written {
    let client = Client::to(port);
    let mut out = Written { writer, acknowledged: Vec::new(), doubtful };
    while !load.stop.load(Ordering::SeqCst) {
        let next = || load.next[writer as usize].fetch_add(1, Ordering::SeqCst);
        let number = out.doubtful.unwrap_or_else(next);
        out.doubtful = Some(number);
        match client.report(&batch_to_proto(&sent(writer, number, load.base_ms))) {
            Ok(reply) if reply.success => {
                assert_eq!(reply.message, "", "something was left out");
                out.acknowledged.push(number);
                out.doubtful = None;
            }
            _ => break,
        }
        // Some batches come twice, as after an answer that was lost.
        if number.is_multiple_of(5) {
            let _ = client.report(&batch_to_proto(&sent(writer, number, load.base_ms)));
        }
    }
    out
}

/// Every stored point of the writers, read beside the running server; one that stands there twice
/// fails the test.
fn stored(server: &Server) -> Rows {
    let mut rows = Rows::new();
    let query = "SELECT agent_id, metric_name, timestamp, value FROM metrics
                 WHERE agent_id LIKE 'crash-%'";
    for row in sql::csv(&server.data(), query).lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [agent, metric, at, value] = cells[..] else { panic!("{row}") };
        let key = (agent.to_owned(), metric.to_owned(), at.parse().expect("a time"));
        let value: f64 = value.parse().expect("a number");
        assert!(rows.insert(key, value.to_bits()).is_none(), "stored twice: {row}");
    }
    rows
}

fn check(server: &Server, acknowledged: &[Vec<u64>], load: &Load, what: &str) -> usize {
    let stored = stored(server);
    for (writer, numbers) in (0..).zip(acknowledged) {
        for number in numbers {
            for (key, bits) in rows_of(&sent(writer, *number, load.base_ms)) {
                let found = stored.get(&key).unwrap_or_else(|| panic!("{what}: {key:?} is lost"));
                assert_eq!(*found, bits, "{what}: {key:?}");
            }
        }
    }
    for ((agent, metric, at), bits) in &stored {
        let index: usize = metric[1..].parse().expect("a metric's number");
        assert_eq!(*bits, value(*at, index).to_bits(), "{what}: {agent} {metric} {at}");
    }
    stored.len()
}

/// Kills the server after a random time under load, or while it starts.
fn round(server: &mut Server, load: &Arc<Load>, random: &mut fastrand::Rng, kept: &mut [Kept]) {
    load.stop.store(false, Ordering::SeqCst);
    let writers: Vec<_> = kept
        .iter()
        .zip(0..)
        .map(|(kept, writer)| {
            let (load, port, doubtful) = (Arc::clone(load), server.grpc_port, kept.doubtful);
            std::thread::spawn(move || write(&load, writer, port, doubtful))
        })
        .collect();
    let until = Instant::now() + Duration::from_millis(random.u64(20..350));
    wait_for("the kill", Duration::from_secs(5), || (Instant::now() >= until).then_some(()));
    signal(&server.child, "KILL");
    load.stop.store(true, Ordering::SeqCst);
    let _ = server.child.wait();
    for writer in writers {
        let written = writer.join().expect("a writer ends");
        let kept = &mut kept[written.writer as usize];
        kept.acknowledged.extend(written.acknowledged);
        kept.doubtful = written.doubtful;
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

#[derive(Default)]
struct Kept {
    acknowledged: Vec<u64>,
    doubtful: Option<u64>,
}

fn numbers(kept: &[Kept]) -> Vec<Vec<u64>> {
    kept.iter().map(|kept| kept.acknowledged.clone()).collect()
}

#[test]
fn a_server_that_is_killed_under_load_keeps_what_it_acknowledged_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("OXMON_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("OXMON_CRASH_SEED").unwrap_or_else(|| now_ms() as u64);
    eprintln!("crash test: OXMON_CRASH_SEED={seed} OXMON_CRASH_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start(CONFIG);
    let load = Arc::new(Load {
        stop: AtomicBool::new(false),
        base_ms: now_ms() - 6 * HOUR_MS,
        next: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
    });
    let mut kept: Vec<Kept> = (0..WRITERS).map(|_| Kept::default()).collect();
    for done in 1..=rounds {
        round(&mut server, &load, &mut random, &mut kept);
        if done % CHECK_EVERY == 0 || done == rounds {
            let what = format!("seed {seed}, after {done} kills");
            let points = check(&server, &numbers(&kept), &load, &what);
            eprintln!("{what}: {points} points");
        }
    }
    let batches: usize = kept.iter().map(|kept| kept.acknowledged.len()).sum();
    assert!(batches > rounds as usize, "only {batches} batches were acknowledged");
    // The windows of packing and of merging were open: there are chunks, on several days.
    let chunks = sql::chunks(&server.data());
    assert!(chunks.len() as u64 == DAYS || chunks.len() as u64 == DAYS + 1, "{chunks:?}");
    assert!(chunks.values().all(|&chunks| chunks > 0), "{chunks:?}");
    check_api(&mut server, &kept, &load);
}

/// The API gives the same points as SQL.
fn check_api(server: &mut Server, kept: &[Kept], load: &Load) {
    let stored = stored(server);
    let from = rfc3339(load.base_ms - DAYS as i64 * DAY_MS);
    for (writer, kept) in kept.iter().enumerate() {
        let agent = format!("crash-{writer}");
        let rows: BTreeMap<i64, u64> = stored
            .iter()
            .filter(|(key, _)| key.0 == agent && key.1 == "m5")
            .map(|(key, bits)| (key.2, *bits))
            .collect();
        assert!(rows.len() >= kept.acknowledged.len());
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
