//! What the certificate checks tell of themselves.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_cert_…`.
pub(super) struct Metrics {
    /// Checks under way.
    pub running: IntGauge,
    /// Checks by how they ended: `valid`, or the kind of the error.
    pub checks: IntCounterVec,
    /// Time of checks.
    pub seconds: Histogram,
    /// Results that could not be stored; each check is repeated.
    pub not_stored: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        Ok(Self {
            running: group.gauge("oxmon_cert_checks_running", "Checks under way.")?,
            checks: group.counters(
                "oxmon_cert_checks_total",
                "Checks by how they ended.",
                &["result"],
            )?,
            seconds: group.seconds(
                "oxmon_cert_check_seconds",
                "Time of one check.",
                &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
            )?,
            not_stored: group.counter(
                "oxmon_cert_results_not_stored_total",
                "Results that could not be stored; each check is repeated.",
            )?,
        })
    }
}
