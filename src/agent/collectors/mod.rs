//! What the agent measures. Each collector is a parser over text, a reader of one /proc file, and a
//! row in [`SPECS`]; a new one is one file and one row.

use std::path::PathBuf;
use std::time::Instant;

use crate::agent::config::AgentConfig;
use crate::model::point::Point;

#[cfg(not(target_os = "linux"))]
mod bsd;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod network;
pub mod procfile;
mod rate;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "the other systems ask for one file system, which can't hang")
)]
mod statfs;

/// One metric that a collector gives.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name on the wire.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: &'static str,
    /// The label that tells its series apart.
    pub label: Option<&'static str>,
    /// What it means and where it comes from.
    pub help: &'static str,
}

/// One row of the table of collectors.
pub struct Spec {
    /// The collector's name, the label of `agent.collect_ms`.
    pub name: &'static str,
    /// What it gives, in the order in which it gives it.
    pub metrics: &'static [Metric],
    make: fn(&Setup<'_>) -> Box<dyn Collector>,
}

/// What a collector is made from.
pub struct Setup<'a> {
    /// The agent's configuration: filters and roots.
    pub config: &'a AgentConfig,
}

impl Setup<'_> {
    /// A file below the root of /proc.
    pub fn proc(&self, file: &str) -> PathBuf {
        self.config.proc_root.join(file)
    }

    /// A file of /proc that is seen per process: the host's own view where another root than
    /// `/proc` is read (`/host/proc/1/mountinfo`), this process' view otherwise.
    pub fn proc_of_host(&self, file: &str) -> PathBuf {
        let process = if self.config.proc_root.as_os_str() == "/proc" { "self" } else { "1" };
        let of_process = self.proc(process).join(file);
        // A plain copy of /proc, as in a test, has no processes.
        if of_process.exists() { of_process } else { self.proc(file) }
    }
}

/// One collector with what it remembers between collections.
pub trait Collector: Send {
    /// Appends the points of one collection, in an order that stays the same from collection to
    /// collection.
    ///
    /// # Errors
    ///
    /// When its source can't be read or makes no sense; it then gives no points for this
    /// collection.
    fn collect(&mut self, moment: &Moment, out: &mut Vec<Point>) -> Result<(), CollectError>;
}

/// The time of one collection.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Timestamp of all of its points, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The monotonic time, for rates, which a step of the wall clock does not distort.
    pub at: Instant,
}

/// Why a collector gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file does not look as the kernel documents it.
    #[error("cannot parse {file}: {what}")]
    Parse {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl CollectError {
    fn parse(file: &'static str, what: impl Into<String>) -> Self {
        Self::Parse { file, what: what.into() }
    }
}

/// Every collector, in the order of a batch.
#[cfg(target_os = "linux")]
pub const SPECS: &[Spec] = &[cpu::SPEC, memory::SPEC, disk::SPEC, network::SPEC, load::SPEC];

/// Every collector, in the order of a batch.
#[cfg(not(target_os = "linux"))]
pub const SPECS: &[Spec] = &[bsd::CPU, bsd::MEMORY, bsd::DISK, bsd::LOAD];

/// What the agent says about itself.
pub const OWN_METRICS: &[Metric] = &[
    Metric {
        name: "agent.collect_ms",
        unit: "ms",
        label: Some("collector"),
        help: "Time that one collector took.",
    },
    Metric {
        name: "agent.buffer.batches",
        unit: "batches",
        label: None,
        help: "Batches that wait for the server.",
    },
    Metric {
        name: "agent.buffer.dropped",
        unit: "batches",
        label: None,
        help: "Batches given up since the start: the buffer was full, or the server refused them.",
    },
    Metric {
        name: "agent.send_failures",
        unit: "calls",
        label: None,
        help: "Calls to the server that failed since the start.",
    },
];

/// What a metric of this table means, and its unit.
pub fn metric(name: &str) -> Option<&'static Metric> {
    let all = SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS);
    all.into_iter().find(|metric| metric.name == name)
}

/// A collector that keeps failing is logged this often.
const COMPLAIN_EVERY_SECS: u64 = 60;

/// All collectors of this host.
pub struct Collectors {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    collector: Box<dyn Collector>,
    complained: Option<Instant>,
}

impl Collectors {
    /// The collectors of [`SPECS`] with the configuration's roots and filters.
    pub fn new(config: &AgentConfig) -> Self {
        let setup = Setup { config };
        let rows = SPECS
            .iter()
            .map(|spec| Row { name: spec.name, collector: (spec.make)(&setup), complained: None })
            .collect();
        Self { rows }
    }

    /// All points of one collection, each at `timestamp_ms`, in an order that stays the same. A
    /// collector that fails costs its own points alone.
    pub fn collect(&mut self, timestamp_ms: i64) -> Vec<Point> {
        let mut out = Vec::with_capacity(64);
        let mut took = Vec::with_capacity(self.rows.len());
        for row in &mut self.rows {
            let moment = Moment { timestamp_ms, at: Instant::now() };
            let before = out.len();
            if let Err(error) = row.collector.collect(&moment, &mut out) {
                out.truncate(before);
                row.complain(&error, moment.at);
            }
            took.push((row.name, moment.at.elapsed().as_secs_f64() * 1_000.0));
        }
        for (name, ms) in took {
            let value = round(ms, 100.0);
            out.push(Point::labelled("agent.collect_ms", "collector", name, timestamp_ms, value));
        }
        out
    }
}

impl Row {
    fn complain(&mut self, error: &CollectError, now: Instant) {
        let quiet = self
            .complained
            .is_some_and(|last| now.duration_since(last).as_secs() < COMPLAIN_EVERY_SECS);
        if !quiet {
            log::warn!("collector `{}` failed: {error}", self.name);
            self.complained = Some(now);
        }
    }
}

/// Rounds to `1 / parts`: digits beyond are noise and cost storage.
fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// A percentage of two amounts, rounded to 0.01; 0 of nothing is 0.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { round((part / whole * 100.0).clamp(0.0, 100.0), 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
