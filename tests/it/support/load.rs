//! Load whose every point follows from a number, so that whatever is read back can be checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use oxmon::base::clock::{DAY_MS, HOUR_MS};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;

use super::grpc::{Client, now_ms};
use super::server::Server;
use super::sql;

/// Small chunks, so that every few batches pack, on each of several days.
pub const CONFIG: &str = "[storage]\npack_points = 16\npack_age_secs = 60\n\
                      [cert_check]\nenabled = false\n";
pub const WRITERS: u64 = 4;
/// Days that points are spread over: those before today have ended, and are merged.
pub const DAYS: u64 = 4;
const METRICS: usize = 6;

/// Number `number` of a writer's batches. All of it follows from the number, so that whatever is
/// read back can be checked.
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

/// Values' bits by agent, metric and time.
pub type Rows = BTreeMap<(String, String, i64), u64>;

/// A batch that was acknowledged, and when: seconds since 1970.
pub struct Acknowledged {
    pub number: u64,
    pub at: f64,
}

/// What a writer knows.
#[derive(Default)]
pub struct Written {
    pub acknowledged: Vec<Acknowledged>,
    /// The batch without an answer: it is sent again first, as agents do.
    pub doubtful: Option<u64>,
}

/// Writers that each send one batch after the other.
pub struct Load {
    stop: AtomicBool,
    pub base_ms: i64,
    /// Batches acknowledged so endpoint.
    done: AtomicUsize,
    next: Vec<AtomicU64>,
}

impl Load {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            base_ms: now_ms() - 6 * HOUR_MS,
            done: AtomicUsize::new(0),
            next: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Has every writer go on where it was, until it is stopped or gets no answer.
    pub fn start(self: &Arc<Self>, port: u16, written: &[Written]) -> Vec<JoinHandle<Written>> {
        self.stop.store(false, Ordering::SeqCst);
        let writers = written.iter().zip(0..).map(|(written, writer)| {
            let (load, doubtful) = (Arc::clone(self), written.doubtful);
            std::thread::spawn(move || load.write(writer, port, doubtful))
        });
        writers.collect()
    }

    /// Has the writers end after the batch that is under way.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether so many batches were acknowledged.
    pub fn is_past(&self, batches: usize) -> bool {
        self.done.load(Ordering::SeqCst) >= batches
    }

    fn write(&self, writer: u64, port: u16, doubtful: Option<u64>) -> Written {
        let client = Client::to(port);
        let mut out = Written { acknowledged: Vec::new(), doubtful };
        while !self.stop.load(Ordering::SeqCst) {
            let next = || self.next[writer as usize].fetch_add(1, Ordering::SeqCst);
            let number = out.doubtful.unwrap_or_else(next);
            out.doubtful = Some(number);
            match client.report(&batch_to_proto(&sent(writer, number, self.base_ms))) {
                Ok(reply) if reply.success => {
                    assert_eq!(reply.message, "", "something was left out");
                    out.acknowledged.push(Acknowledged { number, at: seconds() });
                    out.doubtful = None;
                    self.done.fetch_add(1, Ordering::SeqCst);
                }
                _ => break,
            }
            // Some batches come twice, as after an answer that was lost.
            if number.is_multiple_of(5) {
                let _ = client.report(&batch_to_proto(&sent(writer, number, self.base_ms)));
            }
        }
        out
    }
}

/// Seconds since 1970.
pub fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Every stored point of the writers, read beside the running server; one that is stored twice
/// fails the test.
pub fn stored(server: &Server) -> Rows {
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

/// Fails when a point of these batches is not stored, or not as it was sent; every other stored
/// point must be one that was sent as well. Gives the number of stored points.
pub fn check(server: &Server, acknowledged: &[Vec<u64>], base_ms: i64, what: &str) -> usize {
    let stored = stored(server);
    let lost = lost(&stored, acknowledged, base_ms);
    assert!(lost.is_empty(), "{what}: {} points are lost, {:?} first", lost.len(), lost[0]);
    for ((agent, metric, at), bits) in &stored {
        let index: usize = metric[1..].parse().expect("a metric's number");
        assert_eq!(*bits, value(*at, index).to_bits(), "{what}: {agent} {metric} {at}");
    }
    stored.len()
}

/// The points of these batches that are not stored.
pub fn lost(stored: &Rows, acknowledged: &[Vec<u64>], base_ms: i64) -> Vec<Point> {
    let batches = acknowledged.iter().zip(0..).flat_map(|(numbers, writer)| {
        numbers.iter().map(move |number| sent(writer, *number, base_ms))
    });
    batches
        .flat_map(|batch| {
            let is_lost = |point: &Point| {
                let (agent, metric) = (batch.agent_id.to_string(), point.metric.to_string());
                !stored.contains_key(&(agent, metric, point.timestamp_ms))
            };
            batch.points.iter().filter(|point| is_lost(point)).cloned().collect::<Vec<_>>()
        })
        .collect()
}
