//! The store's own figures, for the Prometheus exposition.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Counters and gauges of the store.
pub struct Metrics {
    /// Transactions.
    pub commits: IntCounter,
    /// Transactions that failed.
    pub commit_failures: IntCounter,
    /// Time of one transaction.
    pub commit_seconds: Histogram,
    /// Batches acknowledged.
    pub batches: IntCounter,
    /// Points stored for the first time.
    pub points: IntCounter,
    /// Points that stood there already.
    pub duplicates: IntCounter,
    /// Batches that wait for their transaction.
    pub queue_depth: IntGauge,
    /// Bytes of points in memory.
    pub head_bytes: IntGauge,
    /// Chunks written.
    pub chunks: IntCounter,
    /// Points packed into them.
    pub packed_points: IntCounter,
    /// 1 while the disk is full.
    pub disk_full: IntGauge,
    /// Time of one read.
    pub read_seconds: Histogram,
    /// Day files set aside as damaged since the start.
    pub damaged: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let made = IntCounter::new(format!("oxmon_storage_{name}"), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let made = IntGauge::new(format!("oxmon_storage_{name}"), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let seconds = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 14)?;
            let options = HistogramOpts::new(format!("oxmon_storage_{name}"), help);
            let made = Histogram::with_opts(options.buckets(buckets))?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        Ok(Self {
            commits: counter("commits_total", "Transactions of points and events.")?,
            commit_failures: counter("commit_failures_total", "Transactions that failed.")?,
            commit_seconds: seconds("commit_seconds", "Time of one transaction.")?,
            batches: counter("batches_total", "Batches acknowledged after their commit.")?,
            points: counter("points_total", "Points stored for the first time.")?,
            duplicates: counter("duplicate_points_total", "Points that were stored before.")?,
            queue_depth: gauge("queue_depth", "Batches that wait for their transaction.")?,
            head_bytes: gauge("head_bytes", "Bytes of points in memory, not packed yet.")?,
            chunks: counter("chunks_total", "Chunks packed.")?,
            packed_points: counter("packed_points_total", "Points packed into chunks.")?,
            disk_full: gauge("disk_full", "1 while the last write found no room on the disk.")?,
            read_seconds: seconds("read_seconds", "Time of one read.")?,
            damaged: counter("damaged_files_total", "Day files set aside as damaged.")?,
        })
    }
}
