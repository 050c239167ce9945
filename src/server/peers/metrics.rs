//! What the room counts of itself.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::base::metrics::Group;
use crate::server::control::shared::State;
use crate::server::peers::Sister;

/// `oxmon_peers_…`.
pub(super) struct Metrics {
    /// Whether each sister answers.
    pub(super) up: IntGaugeVec,
    home: IntGauge,
    epoch: IntGauge,
    version: IntGauge,
    lag: IntGauge,
    behind: IntGaugeVec,
    given: IntCounterVec,
    passed: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        Ok(Self {
            up: group.gauges(
                "oxmon_peers_sister_up",
                "Whether a server of [peers] answers.",
                &["sister"],
            )?,
            home: group
                .gauge("oxmon_peers_home", "Whether this server is home of the configuration.")?,
            epoch: group.gauge(
                "oxmon_peers_epoch",
                "Epoch of the home whose configuration this server has.",
            )?,
            version: group.gauge(
                "oxmon_peers_config_version",
                "Version of the configuration that this server has.",
            )?,
            lag: group.gauge(
                "oxmon_peers_config_lag_seconds",
                "Seconds since nothing of the home's configuration was known to be missing here.",
            )?,
            behind: group.gauges(
                "oxmon_peers_sister_versions_behind",
                "Changes of the configuration that a sister lacks and this server has.",
                &["sister"],
            )?,
            given: group.counters(
                "oxmon_peers_config_given_total",
                "Answers with configuration to servers that follow, by kind: full or changes.",
                &["kind"],
            )?,
            passed: group.counters(
                "oxmon_peers_changes_passed_total",
                "Calls that were passed on to the home, by outcome: answered or failed.",
                &["outcome"],
            )?,
        })
    }

    /// Counts an answer to a server that follows.
    pub(super) fn given(&self, full: bool) {
        self.given.with_label_values(&[if full { "full" } else { "changes" }]).inc();
    }

    /// Counts a call that was passed on.
    pub(super) fn passed(&self, answered: bool) {
        self.passed.with_label_values(&[if answered { "answered" } else { "failed" }]).inc();
    }

    /// Shows where this server and its sisters are.
    pub(super) fn show(
        &self,
        state: &State,
        lag: Duration,
        is_home: bool,
        sisters: &[Arc<Sister>],
    ) {
        let lag = if is_home { 0 } else { i64::try_from(lag.as_secs()).unwrap_or(i64::MAX) };
        self.lag.set(lag);
        self.home.set(i64::from(is_home));
        self.epoch.set(state.of.epoch);
        self.version.set(state.version);
        for sister in sisters {
            let hello = sister.seen().hello;
            let lacks = hello.filter(|hello| hello.of == state.of);
            let lacks = lacks.map_or(0, |hello| (state.version - hello.version).max(0));
            self.behind.with_label_values(&[&sister.name]).set(lacks);
        }
    }
}
