//! What `cert.db` tells of itself.

use prometheus::{Histogram, HistogramOpts, IntGauge, Registry};

use crate::server::storage::StorageError;

/// `oxmon_control_…`.
pub struct Metrics {
    /// Writes that wait or are under way.
    pub queue_depth: IntGauge,
    /// Time of one write, waiting and committing included.
    pub write_seconds: Histogram,
}

impl Metrics {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// When their names can't be any, which they can.
    pub fn new() -> Result<Self, StorageError> {
        let made = || -> Result<Self, prometheus::Error> {
            let help = "Writes to cert.db that wait or are under way.";
            let seconds = "Time of one write to cert.db, its wait included.";
            let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 14)?;
            let options = HistogramOpts::new("oxmon_control_write_seconds", seconds);
            Ok(Self {
                queue_depth: IntGauge::new("oxmon_control_queue_depth", help)?,
                write_seconds: Histogram::with_opts(options.buckets(buckets))?,
            })
        };
        made().map_err(|error| StorageError::Invalid(format!("the metrics of cert.db: {error}")))
    }

    /// Registers them.
    ///
    /// # Errors
    ///
    /// When the registry has them already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.queue_depth.clone()))?;
        registry.register(Box::new(self.write_seconds.clone()))
    }
}
