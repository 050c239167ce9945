//! How agents move between servers, as figures.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_handover_…`.
pub(super) struct Metrics {
    /// Agents that are evaluated here.
    pub(super) agents: IntGauge,
    /// Agents taken over, by where the state of their alerts came from.
    pub(super) taken: IntCounterVec,
    /// Agents that report to another server.
    pub(super) released: IntCounter,
    /// Agents that are watched for a server that is away.
    pub(super) watched: IntCounter,
    /// Alerts that may have been notified twice.
    pub(super) again: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        Ok(Self {
            agents: group
                .gauge("oxmon_handover_agents", "Agents whose rules are evaluated here.")?,
            taken: group.counters(
                "oxmon_handover_taken_over_total",
                "Agents whose evaluation was taken over, by where the state of their alerts came \
                 from: `server`, `engine`, `here`, or `nothing` where neither answered in time.",
                &["from"],
            )?,
            released: group.counter(
                "oxmon_handover_released_total",
                "Agents that went on to report to another server.",
            )?,
            watched: group.counter(
                "oxmon_handover_watched_total",
                "Agents of a server that is away, watched here for their absence.",
            )?,
            again: group.counter(
                "oxmon_handover_notified_again_total",
                "Alerts taken over of a server that ended before it recorded whether they were \
                 notified: they are notified again.",
            )?,
        })
    }
}
