//! What the notifier tells of itself.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use crate::base::exit::{Exit, Fatal};

/// `oxmon_notify_…`.
pub struct Metrics {
    /// Notifications that wait for a channel.
    pub outbox: IntGauge,
    /// Notices that wait for their group or for a silence window's end.
    pub notices: IntGauge,
    /// Attempts that served everyone, by channel type.
    pub sent: IntCounterVec,
    /// Attempts that failed, by channel type.
    pub failed: IntCounterVec,
    /// Notifications that were given up, by channel type.
    pub given_up: IntCounterVec,
    /// Notifications that a window held back, by channel type.
    pub suppressed: IntCounterVec,
    /// Time of attempts, by channel type.
    pub seconds: HistogramVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, Fatal> {
        Self::make(registry)
            .map_err(|error| Fatal::new(Exit::Failed, format!("cannot register metrics: {error}")))
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), &["channel_type"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let options = HistogramOpts::new("oxmon_notify_attempt_seconds", "Time of one attempt.")
            .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0]);
        let seconds = HistogramVec::new(options, &["channel_type"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            outbox: gauge("oxmon_notify_outbox_depth", "Notifications that wait for a channel.")?,
            notices: gauge(
                "oxmon_notify_notices_waiting",
                "Alerts that wait for their group or for a silence window's end.",
            )?,
            sent: counter("oxmon_notify_sent_total", "Attempts that served every recipient.")?,
            failed: counter("oxmon_notify_failed_total", "Attempts that failed.")?,
            given_up: counter("oxmon_notify_given_up_total", "Notifications given up.")?,
            suppressed: counter(
                "oxmon_notify_suppressed_total",
                "Notifications that a silence window held back.",
            )?,
            seconds,
        })
    }
}
