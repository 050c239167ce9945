//! What the agent says of its own reporting, shared between its loops.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::model::point::Point;

/// No skew is known.
const UNKNOWN: i64 = i64::MIN;

/// Counters since the start of the process, and signs of life.
pub(crate) struct Stats {
    started: Instant,
    /// When the server last accepted a report, milliseconds after `started`; 0 before the first.
    reported_ms: AtomicU64,
    batches: AtomicU64,
    dropped: AtomicU64,
    send_failures: AtomicU64,
    /// Sample sets that never came into the buffer, since they were last counted.
    overflow: AtomicU64,
    /// How far the server's clock is ahead, milliseconds; [`UNKNOWN`] before it was said.
    skew_ms: AtomicI64,
    collector_turns: AtomicU64,
    reporter_turns: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            reported_ms: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            send_failures: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            skew_ms: AtomicI64::new(UNKNOWN),
            collector_turns: AtomicU64::new(0),
            reporter_turns: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// The agent's own metrics at `timestamp_ms`.
    pub(crate) fn points(&self, timestamp_ms: i64) -> Vec<Point> {
        let point = |metric, value: &AtomicU64| {
            Point::plain(metric, timestamp_ms, value.load(Relaxed) as f64)
        };
        let mut points = vec![
            point("agent.buffer.batches", &self.batches),
            point("agent.buffer.dropped", &self.dropped),
            point("agent.send_failures", &self.send_failures),
        ];
        let skew_ms = self.skew_ms.load(Relaxed);
        if skew_ms != UNKNOWN {
            // A tenth of a second is what the network and the server's own work may add.
            let secs = (skew_ms as f64 / 100.0).round() / 10.0;
            points.push(Point::plain("agent.clock_skew", timestamp_ms, secs));
        }
        points
    }

    /// How long no server has accepted a report, or how long the agent runs without one.
    pub(crate) fn unreported(&self) -> Duration {
        let reported = Duration::from_millis(self.reported_ms.load(Relaxed));
        self.started.elapsed().saturating_sub(reported)
    }

    pub(super) fn reported(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.reported_ms.store(ms, Relaxed);
    }

    /// How often the collector's and the reporter's loop have turned: a watchdog's evidence.
    pub(crate) fn turns(&self) -> (u64, u64) {
        (self.collector_turns.load(Relaxed), self.reporter_turns.load(Relaxed))
    }

    /// The collector's loop has turned.
    pub(crate) fn collector_turned(&self) {
        self.collector_turns.fetch_add(1, Relaxed);
    }

    /// A sample set was given up before it came into the buffer.
    pub(crate) fn count_overflow(&self) {
        self.overflow.fetch_add(1, Relaxed);
    }

    pub(super) fn take_overflow(&self) -> u64 {
        self.overflow.swap(0, Relaxed)
    }

    pub(super) fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.send_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn publish(&self, batches: usize, dropped: u64) {
        self.batches.store(batches as u64, Relaxed);
        self.dropped.store(dropped, Relaxed);
        self.reporter_turns.fetch_add(1, Relaxed);
    }
}
