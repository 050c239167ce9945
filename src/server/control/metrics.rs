//! Metrics of `cert.db`.

use prometheus::{Histogram, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_control_…`.
pub(super) struct Metrics {
    /// Writes that wait or are under way.
    pub queue_depth: IntGauge,
    /// Time of one write, waiting and committing included.
    pub write_seconds: Histogram,
}

impl Metrics {
    /// Makes them. Tools that open `cert.db` for one task do not show them.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let unshown = Registry::new();
        let group = Group(&unshown);
        Ok(Self {
            queue_depth: group.gauge(
                "oxmon_control_queue_depth",
                "Writes to cert.db that wait or are under way.",
            )?,
            write_seconds: group.seconds_from(
                0.000_25,
                14,
                "oxmon_control_write_seconds",
                "Time of one write to cert.db, its wait included.",
            )?,
        })
    }

    /// Registers them with the registry that `/metrics` shows.
    pub(super) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.queue_depth.clone()))?;
        registry.register(Box::new(self.write_seconds.clone()))
    }
}
