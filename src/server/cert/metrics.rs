//! What the certificate checks tell of themselves.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::base::exit::{Exit, Fatal};

/// `oxmon_cert_…`.
pub struct Metrics {
    /// Checks under way.
    pub running: IntGauge,
    /// Checks by how they ended: `valid`, or the kind of the error.
    pub checks: IntCounterVec,
    /// Time of checks.
    pub seconds: Histogram,
    /// Results that could not be stored; each check is repeated.
    pub not_stored: IntCounter,
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
        let running = IntGauge::new("oxmon_cert_checks_running", "Checks under way.")?;
        let options = Opts::new("oxmon_cert_checks_total", "Checks by how they ended.");
        let checks = IntCounterVec::new(options, &["result"])?;
        let options = HistogramOpts::new("oxmon_cert_check_seconds", "Time of one check.")
            .buckets(vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        let seconds = Histogram::with_opts(options)?;
        let not_stored = IntCounter::new(
            "oxmon_cert_results_not_stored_total",
            "Results that could not be stored; each check is repeated.",
        )?;
        registry.register(Box::new(running.clone()))?;
        registry.register(Box::new(checks.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(not_stored.clone()))?;
        Ok(Self { running, checks, seconds, not_stored })
    }
}
