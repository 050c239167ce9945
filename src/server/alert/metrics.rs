//! What evaluation says of itself, for Prometheus.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::base::exit::{Exit, Fatal};
use crate::server::alert::tracked::TransitionKind;

/// The counters.
pub struct Metrics {
    /// Points that a rule evaluated.
    pub evaluated: IntCounter,
    /// Seconds between storing and judging.
    pub lag: Histogram,
    /// Seconds that a worker took for what waited for it.
    pub turn: Histogram,
    /// Jobs that wait, over all workers.
    pub queued: IntGauge,
    /// Alerts that fire.
    pub firing: IntGauge,
    transitions: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// When something else has their names.
    pub fn register(registry: &Registry) -> Result<Self, Fatal> {
        Self::make(registry)
            .map_err(|error| Fatal::new(Exit::Failed, format!("alert metrics: {error}")))
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let lag = HistogramOpts::new(
            "oxmon_alert_evaluation_lag_seconds",
            "Seconds between the storing of points and the end of their evaluation.",
        )
        .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0]);
        let turn = HistogramOpts::new(
            "oxmon_alert_turn_seconds",
            "Seconds that a worker took to evaluate its queue and to write what changed.",
        )
        .buckets(vec![0.000_1, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0]);
        let transitions =
            Opts::new("oxmon_alert_transitions_total", "Changes of alerts by what they became.");
        let metrics = Self {
            evaluated: IntCounter::new(
                "oxmon_alert_evaluated_points_total",
                "Points evaluated, counted once for each rule.",
            )?,
            lag: Histogram::with_opts(lag)?,
            turn: Histogram::with_opts(turn)?,
            queued: IntGauge::new(
                "oxmon_alert_queue_depth",
                "Batches of stored points that wait for evaluation.",
            )?,
            firing: IntGauge::new("oxmon_alert_firing", "Alerts that fire now.")?,
            transitions: IntCounterVec::new(transitions, &["to"])?,
        };
        registry.register(Box::new(metrics.evaluated.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.turn.clone()))?;
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.firing.clone()))?;
        registry.register(Box::new(metrics.transitions.clone()))?;
        Ok(metrics)
    }

    /// Counts a change.
    pub fn count(&self, kind: TransitionKind) {
        let to = match kind {
            TransitionKind::Kept => "pending_or_ok",
            TransitionKind::Fired => "firing",
            TransitionKind::Escalated => "escalated",
            TransitionKind::Notified => "told",
            TransitionKind::Resolved => "resolved",
            TransitionKind::Retired => "retired",
            TransitionKind::Late => "late",
            TransitionKind::Acknowledged => "acknowledged",
        };
        self.transitions.with_label_values(&[to]).inc();
    }
}
