//! The server's own metrics, for Prometheus: made and registered in one step.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, exponential_buckets,
};

use crate::base::exit::{Exit, Fatal};

/// Makes metrics and registers each with one registry. Every method fails when the registry has
/// the name already.
pub struct Group<'a>(pub &'a Registry);

impl Group<'_> {
    fn add<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A counter without labels.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    /// A counter for each set of values of `labels`.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    /// A gauge for each set of values of `labels`.
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A histogram of seconds with these upper bounds.
    pub fn seconds(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    /// A histogram of seconds with `count` upper bounds, each twice the one before.
    pub fn seconds_from(
        &self,
        first: f64,
        count: usize,
        name: &str,
        help: &str,
    ) -> Result<Histogram, prometheus::Error> {
        self.seconds(name, help, &exponential_buckets(first, 2.0, count)?)
    }

    /// A histogram of seconds for each value of `label`.
    pub fn seconds_by(
        &self,
        label: &str,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(HistogramVec::new(options, &[label])?)
    }
}

impl From<prometheus::Error> for Fatal {
    fn from(error: prometheus::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot register metrics: {error}"))
    }
}
