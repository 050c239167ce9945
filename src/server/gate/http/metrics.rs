//! Metrics of the HTTP side of the gate.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_http_…`.
pub(crate) struct Metrics {
    /// Open connections.
    pub(crate) open: IntGauge,
    /// Requests that wait for a worker.
    pub(crate) queue_depth: IntGauge,
    /// Time from a complete request to its answer.
    pub(crate) seconds: Histogram,
    /// Answers, by the first digit of their status.
    answers: [IntCounter; CLASSES.len()],
    refused: IntCounterVec,
    closed: IntCounterVec,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why the gate ended a connection without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It sent no request for too long.
    Idle,
    /// Its TLS handshake failed, or took too long.
    Handshake,
    /// It did not read its answer in time.
    SlowReader,
    /// It was evicted for a newer one, or refused for want of room.
    Crowded,
    /// All connections together had too much in memory.
    Memory,
}

impl Closed {
    /// All of them.
    const ALL: [Self; 5] =
        [Self::Idle, Self::Handshake, Self::SlowReader, Self::Crowded, Self::Memory];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Handshake => "handshake",
            Self::SlowReader => "slow_reader",
            Self::Crowded => "connections",
            Self::Memory => "memory",
        }
    }
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let answers = group.counters(
            "oxmon_http_answers_total",
            "Answers, refusals included.",
            &["status"],
        )?;
        let closed = group.counters(
            "oxmon_http_connections_closed_total",
            "Connections ended by the server without an answer.",
            &["reason"],
        )?;
        for reason in Closed::ALL {
            closed.with_label_values(&[reason.name()]);
        }
        Ok(Self {
            open: group.gauge("oxmon_http_connections", "Open connections.")?,
            queue_depth: group
                .gauge("oxmon_http_queue_depth", "Requests that wait for a worker.")?,
            seconds: group.seconds_from(
                0.000_5,
                15,
                "oxmon_http_turnaround_seconds",
                "Time from a complete request to its answer, waiting included.",
            )?,
            answers: CLASSES.map(|class| answers.with_label_values(&[class])),
            refused: group.counters(
                "oxmon_http_refused_total",
                "Requests refused before a worker.",
                &["reason"],
            )?,
            closed,
        })
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// Counts a request that no worker sees.
    pub(crate) fn refuse(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that ends without an answer.
    pub(crate) fn close(&self, reason: Closed) {
        self.closed.with_label_values(&[reason.name()]).inc();
    }
}
