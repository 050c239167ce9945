//! What the agent says of its own reporting, shared between its loops.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::point::Point;

/// Counters since the start of the process, and signs of life.
#[derive(Default)]
pub struct Stats {
    batches: AtomicU64,
    dropped: AtomicU64,
    send_failures: AtomicU64,
    /// Sample sets that never came into the buffer, since they were last counted.
    overflow: AtomicU64,
    collector_turns: AtomicU64,
    reporter_turns: AtomicU64,
}

impl Stats {
    /// The agent's own metrics at `timestamp_ms`.
    pub fn points(&self, timestamp_ms: i64) -> [Point; 3] {
        let point = |metric, value: &AtomicU64| {
            Point::plain(metric, timestamp_ms, value.load(Relaxed) as f64)
        };
        [
            point("agent.buffer.batches", &self.batches),
            point("agent.buffer.dropped", &self.dropped),
            point("agent.send_failures", &self.send_failures),
        ]
    }

    /// How often the collector's and the reporter's loop have turned: a watchdog's evidence.
    pub fn turns(&self) -> (u64, u64) {
        (self.collector_turns.load(Relaxed), self.reporter_turns.load(Relaxed))
    }

    /// The collector's loop has turned.
    pub fn collector_turned(&self) {
        self.collector_turns.fetch_add(1, Relaxed);
    }

    /// A sample set was given up before it came into the buffer.
    pub fn count_overflow(&self) {
        self.overflow.fetch_add(1, Relaxed);
    }

    pub(super) fn take_overflow(&self) -> u64 {
        self.overflow.swap(0, Relaxed)
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
