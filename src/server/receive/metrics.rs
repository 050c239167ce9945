//! What was received, for the exposition.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::Written;
use crate::base::metrics::Group;
use crate::server::ingest::admit::Reason;

/// `oxmon_receive_…`.
pub(crate) struct Metrics {
    samples: IntCounterVec,
    requests: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let samples = group.counters(
            "oxmon_receive_samples_total",
            "Samples of remote write, OTLP and line protocol, by what became of them.",
            &["protocol", "outcome"],
        )?;
        let requests = group.counters(
            "oxmon_receive_requests_total",
            "Requests with samples, by their answer.",
            &["protocol", "status"],
        )?;
        Ok(Self { samples, requests })
    }

    /// Counts what became of a request's samples.
    pub(crate) fn count(&self, protocol: &str, written: &Written) {
        let add = |outcome: &str, count: u64| {
            if count > 0 {
                self.of(protocol, outcome).inc_by(count);
            }
        };
        add("stored", written.stored);
        add("duplicate", written.duplicate);
        add("stale_marker", written.stale);
        add("histogram", written.histograms);
        add("unsupported", written.unsupported);
        add("malformed", written.malformed);
        for (reason, count) in written.rejected.counts() {
            add(Reason::name(reason), u64::from(count));
        }
    }

    /// Counts a request.
    pub(crate) fn answered(&self, protocol: &str, status: u16) {
        self.requests.with_label_values(&[protocol, &status.to_string()]).inc();
    }

    fn of(&self, protocol: &str, outcome: &str) -> IntCounter {
        self.samples.with_label_values(&[protocol, outcome])
    }
}
