//! What the API tells of itself.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::base::metrics::Group;

/// `oxmon_api_…`.
pub struct Metrics {
    calls: IntCounterVec,
    seconds: Histogram,
    /// Calls that are being served.
    pub active: IntGauge,
    /// PromQL queries that run.
    pub queries: IntGauge,
    /// Calls that change something and were refused before the caller was known: they are not in
    /// the audit log.
    pub unrecorded: IntCounter,
    /// Seconds since the start, set before it is shown.
    pub uptime: IntGauge,
    /// Series of agents that the last answer of `GET /metrics` left out. Held while one is made,
    /// so that the memory is that of one.
    pub exposition_left_out: Mutex<IntGauge>,
}

impl Metrics {
    /// Makes and registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let group = Group(registry);
        Ok(Self {
            calls: group.counters(
                "oxmon_api_calls_total",
                "Calls served, by route and status.",
                &["method", "route", "status"],
            )?,
            seconds: group.seconds(
                "oxmon_api_call_seconds",
                "Time to serve a call, without its wait.",
                &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0],
            )?,
            active: group.gauge("oxmon_api_calls_active", "Calls that are being served.")?,
            queries: group.gauge("oxmon_promql_queries_active", "PromQL queries that run.")?,
            unrecorded: group.counter(
                "oxmon_api_calls_unrecorded_total",
                "Changing calls of unknown callers that were refused, which the audit log leaves out.",
            )?,
            uptime: group.gauge("oxmon_uptime_seconds", "Seconds since the server started.")?,
            exposition_left_out: Mutex::new(group.gauge(
                "oxmon_exposition_series_left_out",
                "Series of agents over the limits that the last GET /metrics left out.",
            )?),
        })
    }

    /// Counts a call. A path without a route counts as `none`, whatever its method, so that
    /// callers can't make up series.
    pub fn served(&self, (method, path): (&str, &str), status: u16, took: Duration) {
        self.calls.with_label_values(&[method, path, &status.to_string()]).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
