//! Metrics of ingest.

use prometheus::{Histogram, IntCounter, Registry};

use super::admit::{Reason, Rejected};
use super::outcome::Outcome;
use crate::base::metrics::Group;
use crate::server::storage::Stored;

/// `oxmon_ingest_…`.
pub(crate) struct Metrics {
    points_new: IntCounter,
    points_known: IntCounter,
    rejected: Vec<IntCounter>,
    batches: [IntCounter; OUTCOMES.len()],
    /// Reports queued for the store.
    pub(crate) queued: IntCounter,
    /// Reports that the store has answered or refused.
    pub(crate) answered: IntCounter,
    /// Seconds from queueing a report to the store's answer.
    pub(crate) seconds: Histogram,
}

const OUTCOMES: [&str; 6] =
    ["stored", "refused", "busy", "unavailable", "unauthenticated", "denied"];

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let points = group.counters(
            "oxmon_ingest_points_total",
            "Points that were stored, or that were stored already.",
            &["kind"],
        )?;
        let rejected = group.counters(
            "oxmon_ingest_points_left_out_total",
            "Points that were rejected.",
            &["reason"],
        )?;
        let batches = group.counters(
            "oxmon_ingest_batches_total",
            "Batches, by the answer to their sender.",
            &["outcome"],
        )?;
        Ok(Self {
            seconds: group.seconds_from(
                0.001,
                14,
                "oxmon_ingest_answer_seconds",
                "Seconds from queueing a report to the store's answer.",
            )?,
            points_new: points.with_label_values(&["new"]),
            points_known: points.with_label_values(&["known"]),
            rejected: Reason::ALL.map(|reason| rejected.with_label_values(&[reason.name()])).into(),
            batches: OUTCOMES.map(|outcome| batches.with_label_values(&[outcome])),
            queued: group.counter("oxmon_ingest_queued_total", "Reports queued for the store.")?,
            answered: group
                .counter("oxmon_ingest_answered_total", "Reports that the store has answered.")?,
        })
    }

    /// Counts a batch by its outcome.
    pub(crate) fn count(&self, outcome: &Outcome) {
        let index = match outcome {
            Outcome::Stored(_) => 0,
            Outcome::Refused(_) => 1,
            Outcome::Busy(_) => 2,
            Outcome::Unavailable(_) => 3,
            Outcome::Unauthenticated(_) => 4,
            Outcome::Denied(_) => 5,
        };
        self.batches[index].inc();
    }

    /// Counts the points of a batch that was stored.
    pub(crate) fn stored(&self, stored: &Stored) {
        self.points_new.inc_by(stored.new as u64);
        self.points_known.inc_by(stored.duplicate as u64);
    }

    /// Counts rejected points.
    pub(crate) fn reject(&self, rejected: &Rejected) {
        for (reason, count) in rejected.counts() {
            if let Some(counter) = self.rejected.get(reason as usize) {
                counter.inc_by(u64::from(count));
            }
        }
    }
}
