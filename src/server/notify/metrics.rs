//! What the notifier tells of itself.

use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_notify_…`.
pub(super) struct Metrics {
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
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        let by_type = |name, help| group.counters(name, help, &["channel_type"]);
        Ok(Self {
            outbox: group
                .gauge("oxmon_notify_outbox_depth", "Notifications that wait for a channel.")?,
            notices: group.gauge(
                "oxmon_notify_notices_waiting",
                "Alerts that wait for their group or for a silence window's end.",
            )?,
            sent: by_type("oxmon_notify_sent_total", "Attempts that served every recipient.")?,
            failed: by_type("oxmon_notify_failed_total", "Attempts that failed.")?,
            given_up: by_type("oxmon_notify_given_up_total", "Notifications given up.")?,
            suppressed: by_type(
                "oxmon_notify_suppressed_total",
                "Notifications that a silence window held back.",
            )?,
            seconds: group.seconds_by(
                "channel_type",
                "oxmon_notify_attempt_seconds",
                "Time of one attempt.",
                &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0],
            )?,
        })
    }
}
