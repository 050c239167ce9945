//! The forwarder's own figures, for the Prometheus exposition.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::base::metrics::Group;

/// `oxmon_remote_…`.
pub(super) struct Metrics {
    /// Samples that a target has taken.
    pub(super) sent: IntCounterVec,
    /// Requests, by their outcome.
    pub(super) requests: IntCounterVec,
    /// Samples that a target refuses, by reason.
    pub(super) refused: IntCounterVec,
    /// Samples that did not fit into memory and are read from the store later.
    pub(super) overflowed: IntCounterVec,
    /// Samples in memory.
    pub(super) queued: IntGauge,
    /// Age of the oldest of them.
    pub(super) lag: IntGaugeVec,
    /// Gaps.
    pub(super) gaps: IntGaugeVec,
    /// Their length.
    pub(super) gap_seconds: IntGaugeVec,
    /// Whether the last request was answered.
    pub(super) up: IntGaugeVec,
    /// Audits, by outcome.
    pub(super) audits: IntCounterVec,
    /// Samples that a target lacks for good.
    pub(super) missing: IntCounterVec,
    /// Until when everything was audited.
    pub(super) audited: IntGaugeVec,
    /// Queries that the engine evaluated.
    pub(super) handed: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let gauges = |name: &str, help: &str| group.gauges(name, help, &["target"]);
        Ok(Self {
            sent: group.counters(
                "oxmon_remote_sent_samples_total",
                "Samples that the engine has taken.",
                &["target"],
            )?,
            requests: group.counters(
                "oxmon_remote_requests_total",
                "Remote write requests, by their outcome.",
                &["target", "outcome"],
            )?,
            refused: group.counters(
                "oxmon_remote_refused_samples_total",
                "Samples that the engine refuses and that are not sent again, by reason.",
                &["target", "reason"],
            )?,
            overflowed: group.counters(
                "oxmon_remote_overflowed_samples_total",
                "Samples that did not fit into memory and are read from the store later.",
                &["target"],
            )?,
            queued: group.gauge(
                "oxmon_remote_queued_samples",
                "Samples in memory that the engine has not taken yet.",
            )?,
            lag: gauges(
                "oxmon_remote_lag_seconds",
                "Age of the oldest sample in memory that the engine has not taken yet.",
            )?,
            gaps: gauges(
                "oxmon_remote_gaps",
                "Times of agents whose samples the engine lacks and that are read from the store.",
            )?,
            gap_seconds: gauges("oxmon_remote_gap_seconds", "Length of these times together.")?,
            up: gauges("oxmon_remote_up", "1 while the engine answers.")?,
            audits: group.counters(
                "oxmon_remote_audits_total",
                "Comparisons of what the engine has of an agent with what is stored, by outcome.",
                &["target", "outcome"],
            )?,
            missing: group.counters(
                "oxmon_remote_missing_samples_total",
                "Samples that the engine lacks although they were sent several times.",
                &["target"],
            )?,
            audited: gauges(
                "oxmon_remote_audited_seconds",
                "Age of the oldest sample that was not compared with the engine yet.",
            )?,
            handed: group.counter(
                "oxmon_remote_promql_queries_total",
                "PromQL queries whose older steps the engine evaluated.",
            )?,
        })
    }
}

/// The figures of one target.
pub(super) struct TargetMetrics {
    /// Samples taken.
    pub(super) sent: IntCounter,
    /// Samples that did not fit into memory.
    pub(super) overflowed: IntCounter,
    /// Whether it answers.
    pub(super) up: IntGauge,
    /// Samples that it lacks for good.
    pub(super) missing: IntCounter,
    audits: IntCounterVec,
    requests: IntCounterVec,
    refused: IntCounterVec,
    refused_total: AtomicU64,
    name: String,
}

impl TargetMetrics {
    /// Those of the target with this name.
    pub(super) fn of(all: &Metrics, name: &str) -> Self {
        Self {
            sent: all.sent.with_label_values(&[name]),
            overflowed: all.overflowed.with_label_values(&[name]),
            up: all.up.with_label_values(&[name]),
            missing: all.missing.with_label_values(&[name]),
            audits: all.audits.clone(),
            requests: all.requests.clone(),
            refused: all.refused.clone(),
            refused_total: AtomicU64::new(0),
            name: name.to_owned(),
        }
    }

    /// Counts a request.
    pub(super) fn request(&self, outcome: &str) {
        self.requests.with_label_values(&[&self.name, outcome]).inc();
    }

    /// Counts an audit.
    pub(super) fn audit(&self, outcome: &str) {
        self.audits.with_label_values(&[&self.name, outcome]).inc();
    }

    /// Counts samples that the target refuses.
    pub(super) fn refuse(&self, reason: &str, samples: usize) {
        self.refused.with_label_values(&[&self.name, reason]).inc_by(samples as u64);
        self.refused_total.fetch_add(samples as u64, Ordering::Relaxed);
    }

    /// Samples that the target refused since the start, for all reasons.
    pub(super) fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }
}
