//! The store's own figures, for the Prometheus exposition.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use crate::base::metrics::Group;
use crate::server::storage::SeriesLimit;

/// Counters and gauges of the store.
pub(crate) struct Metrics {
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
    /// Points that were stored already.
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
    /// Agents that have series.
    pub agents: IntGauge,
    /// Bytes of their names and labels.
    pub series_bytes: IntGauge,
    /// New series and agents that were refused, by limit.
    pub refused: [IntCounter; SeriesLimit::ALL.len()],
    /// Day files set aside as damaged since the start.
    pub damaged: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let refused = group.counters(
            "oxmon_storage_series_refused_total",
            "New series and agents that were refused, by the limit that they would exceed.",
            &["reason"],
        )?;
        Ok(Self {
            agents: group.gauge("oxmon_storage_agents", "Agents that have series.")?,
            series_bytes: group.gauge(
                "oxmon_storage_series_bytes",
                "Bytes of names and labels of all series, with 128 a series.",
            )?,
            refused: SeriesLimit::ALL.map(|limit| refused.with_label_values(&[limit.name()])),
            commits: group
                .counter("oxmon_storage_commits_total", "Transactions of points and events.")?,
            commit_failures: group
                .counter("oxmon_storage_commit_failures_total", "Transactions that failed.")?,
            commit_seconds: group.seconds_from(
                0.000_25,
                14,
                "oxmon_storage_commit_seconds",
                "Time of one transaction.",
            )?,
            batches: group.counter(
                "oxmon_storage_batches_total",
                "Batches acknowledged after their commit.",
            )?,
            points: group
                .counter("oxmon_storage_points_total", "Points stored for the first time.")?,
            duplicates: group.counter(
                "oxmon_storage_duplicate_points_total",
                "Points that were stored before.",
            )?,
            queue_depth: group
                .gauge("oxmon_storage_queue_depth", "Batches that wait for their transaction.")?,
            head_bytes: group
                .gauge("oxmon_storage_head_bytes", "Bytes of points in memory, not packed yet.")?,
            chunks: group.counter("oxmon_storage_chunks_total", "Chunks packed.")?,
            packed_points: group
                .counter("oxmon_storage_packed_points_total", "Points packed into chunks.")?,
            disk_full: group.gauge(
                "oxmon_storage_disk_full",
                "1 while the last write found no room on the disk.",
            )?,
            read_seconds: group.seconds_from(
                0.000_25,
                14,
                "oxmon_storage_read_seconds",
                "Time of one read.",
            )?,
            damaged: group
                .counter("oxmon_storage_damaged_files_total", "Day files set aside as damaged.")?,
        })
    }
}
