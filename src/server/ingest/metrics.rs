//! What ingest tells of itself.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::admit::{LeftOut, Reason};
use super::take::Outcome;
use crate::server::storage::Stored;

/// `oxmon_ingest_…`.
pub struct Metrics {
    points_new: IntCounter,
    points_known: IntCounter,
    left_out: Vec<IntCounter>,
    batches: [IntCounter; OUTCOMES.len()],
    /// Reports that went to the store.
    pub queued: IntCounter,
    /// Reports that the store has answered, or did not take.
    pub answered: IntCounter,
    /// Seconds from taking a report to the store's answer.
    pub seconds: Histogram,
}

const OUTCOMES: [&str; 6] =
    ["stored", "refused", "busy", "unavailable", "unauthenticated", "denied"];

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let points = IntCounterVec::new(
            Opts::new("oxmon_ingest_points_total", "Points that were stored, or stood already."),
            &["kind"],
        )?;
        let left_out = IntCounterVec::new(
            Opts::new("oxmon_ingest_points_left_out_total", "Points that could not be stored."),
            &["reason"],
        )?;
        let batches = IntCounterVec::new(
            Opts::new("oxmon_ingest_batches_total", "Batches, by what their sender was told."),
            &["outcome"],
        )?;
        for family in [&points, &left_out, &batches] {
            registry.register(Box::new(family.clone()))?;
        }
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let queued = counter("oxmon_ingest_queued_total", "Reports that went to the store.")?;
        let answered =
            counter("oxmon_ingest_answered_total", "Reports that the store has answered.")?;
        let seconds = HistogramOpts::new(
            "oxmon_ingest_answer_seconds",
            "Seconds from taking a report to the store's answer.",
        );
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 14)?;
        let seconds = Histogram::with_opts(seconds.buckets(buckets))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            seconds,
            points_new: points.with_label_values(&["new"]),
            points_known: points.with_label_values(&["known"]),
            left_out: Reason::ALL.map(|reason| left_out.with_label_values(&[reason.name()])).into(),
            batches: OUTCOMES.map(|outcome| batches.with_label_values(&[outcome])),
            queued,
            answered,
        })
    }

    /// Counts a batch by what its sender is told.
    pub fn count(&self, outcome: &Outcome) {
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
    pub fn stored(&self, stored: &Stored) {
        self.points_new.inc_by(stored.new as u64);
        self.points_known.inc_by(stored.known as u64);
    }

    /// Counts points that were left out.
    pub fn leave_out(&self, left_out: &LeftOut) {
        for (reason, count) in left_out.counts() {
            if let Some(counter) = self.left_out.get(reason as usize) {
                counter.inc_by(u64::from(count));
            }
        }
    }
}
