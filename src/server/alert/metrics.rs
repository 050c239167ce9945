//! What evaluation says of itself, for Prometheus.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;
use crate::server::alert::tracked::TransitionKind;

/// The counters.
pub(crate) struct Metrics {
    /// Points that a rule evaluated.
    pub evaluated: IntCounter,
    /// Seconds between storing and evaluating.
    pub lag: Histogram,
    /// Seconds that a worker took for what waited for it.
    pub turn: Histogram,
    /// Jobs that wait, over all workers.
    pub queued: IntGauge,
    /// Alerts that fire.
    pub firing: IntGauge,
    /// Seconds that the expression of a rule took.
    pub query: Histogram,
    /// Evaluations of an expression that failed.
    pub query_failures: IntCounter,
    transitions: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        Ok(Self {
            evaluated: group.counter(
                "oxmon_alert_evaluated_points_total",
                "Points evaluated, counted once for each rule.",
            )?,
            lag: group.seconds(
                "oxmon_alert_evaluation_lag_seconds",
                "Seconds between the storing of points and the end of their evaluation.",
                &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0],
            )?,
            turn: group.seconds(
                "oxmon_alert_turn_seconds",
                "Seconds that a worker took to evaluate its queue and to write what changed.",
                &[0.000_1, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0],
            )?,
            queued: group.gauge(
                "oxmon_alert_queue_depth",
                "Batches of stored points that wait for evaluation.",
            )?,
            firing: group.gauge("oxmon_alert_firing", "Alerts that fire now.")?,
            query: group.seconds(
                "oxmon_alert_query_seconds",
                "Seconds that one evaluation of a `promql` rule took.",
                &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0],
            )?,
            query_failures: group.counter(
                "oxmon_alert_query_failures_total",
                "Evaluations of `promql` rules that failed.",
            )?,
            transitions: group.counters(
                "oxmon_alert_transitions_total",
                "Changes of alerts by what they became.",
                &["to"],
            )?,
        })
    }

    /// Counts a change.
    pub(crate) fn count(&self, kind: TransitionKind) {
        let to = match kind {
            TransitionKind::Kept => "pending_or_ok",
            TransitionKind::Fired => "firing",
            TransitionKind::Escalated => "escalated",
            TransitionKind::Notified => "told",
            TransitionKind::Resolved => "resolved",
            TransitionKind::Ended => "retired",
            TransitionKind::Late => "late",
            TransitionKind::Acknowledged => "acknowledged",
            TransitionKind::TakenOver => "taken_over",
            TransitionKind::HandedOver => "handed_over",
        };
        self.transitions.with_label_values(&[to]).inc();
    }
}
