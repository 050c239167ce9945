//! What the agent measures. Each collector is a parser over text, a reader of a few files of /proc
//! or /sys, and a row in [`SPECS`]; a new one is one file and one row.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use crate::agent::config::AgentConfig;
use crate::base::limits::BATCH_POINTS_MAX;
use crate::model::point::Point;
use crate::rt::stop::Stop;
use guard::{Guard, Outcome, PATIENCE, Row};
pub use samples::{Moment, Note, Samples};

#[cfg(not(target_os = "linux"))]
mod bsd;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod diskio;
#[cfg(target_os = "linux")]
mod engines;
#[cfg(target_os = "linux")]
mod frequency;
mod guard;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod power;
#[cfg(target_os = "linux")]
mod pressure;
#[cfg(target_os = "linux")]
mod processes;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "the other systems have no /proc to read")
)]
pub(crate) mod procfile;
mod promtext;
#[cfg(target_os = "linux")]
mod raid;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "the other systems have no /proc to read")
)]
mod rate;
mod samples;
mod scrape;
#[cfg(target_os = "linux")]
mod sensors;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "the other systems ask for one file system, which can't hang")
)]
mod statfs;
mod textfile;
#[cfg(target_os = "linux")]
mod time;
#[cfg(target_os = "linux")]
mod units;
#[cfg(target_os = "linux")]
mod vm;
#[cfg(target_os = "linux")]
mod wireless;

/// One metric that a collector gives.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name on the wire.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: &'static str,
    /// The labels that tell its series apart.
    pub labels: &'static [&'static str],
    /// What it means and where it comes from.
    pub help: &'static str,
}

/// A metric without labels.
pub(crate) const fn plain(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &[], help }
}

/// How often a collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At each collection.
    Always,
    /// At the first collection of each minute: what changes slowly, or costs more.
    Minute,
}

/// One row of the table of collectors.
pub struct Spec {
    /// The collector's name: the label of `agent.collect_ms`, and what `collectors.disable` takes.
    pub name: &'static str,
    /// How often it runs.
    pub pace: Pace,
    /// Whether it runs where the configuration says nothing.
    pub on: bool,
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

    /// A file below the root of /sys.
    pub fn sys(&self, file: &str) -> PathBuf {
        self.config.sys_root.join(file)
    }

    /// A file of /proc that is seen per process: the host's own view where another root than
    /// `/proc` is read (`/host/proc/1/mountinfo`), this process' view otherwise.
    pub fn proc_of_host(&self, file: &str) -> PathBuf {
        let process = if self.config.proc_root.as_os_str() == "/proc" { "self" } else { "1" };
        let of_process = self.proc(process).join(file);
        // A plain copy of /proc, as in a test, has no processes. A real one has `self`, though
        // hidepid may hide process 1: its path then gives an error that says so.
        let real = self.proc("self").symlink_metadata().is_ok();
        if real || of_process.exists() { of_process } else { self.proc(file) }
    }
}

/// One collector with what it remembers between collections.
pub trait Collector: Send {
    /// Adds the points of one collection, in an order that stays the same.
    ///
    /// # Errors
    ///
    /// When its source can't be read or parsed; its points of this collection are dropped.
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError>;
}

/// Why a collector gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}{}", hint(.path, .error))]
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

/// What to do about a file of process 1 that is hidden.
fn hint(path: &std::path::Path, error: &std::io::Error) -> &'static str {
    let of_init = path.components().any(|part| part.as_os_str() == "1");
    let hidden =
        matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied);
    if of_init && hidden {
        "; is that /proc mounted with hidepid? Add the agent to the group of its gid= option"
    } else {
        ""
    }
}

/// Every collector, in the order of a sample set.
#[cfg(target_os = "linux")]
pub const SPECS: &[Spec] = &[
    cpu::SPEC,
    memory::SPEC,
    disk::SPEC,
    network::SPEC,
    load::SPEC,
    diskio::SPEC,
    pressure::SPEC,
    vm::SPEC,
    kernel::SPEC,
    sockets::TCP,
    sockets::SOCKETS,
    sensors::SPEC,
    frequency::SPEC,
    power::SPEC,
    wireless::SPEC,
    raid::SPEC,
    time::SPEC,
    containers::SPEC,
    units::SPEC,
    processes::SPEC,
    textfile::SPEC,
    scrape::SPEC,
];

/// Every collector, in the order of a sample set.
#[cfg(not(target_os = "linux"))]
pub const SPECS: &[Spec] =
    &[bsd::CPU, bsd::MEMORY, bsd::DISK, bsd::LOAD, textfile::SPEC, scrape::SPEC];

/// What the agent says about itself.
pub const OWN_METRICS: &[Metric] = &[
    Metric {
        name: "agent.collect_ms",
        unit: "ms",
        labels: &["collector"],
        help: "Time that one collector took.",
    },
    Metric {
        name: "agent.collect_success",
        unit: "0 or 1",
        labels: &["collector"],
        help: "Whether the collector could read its sources.",
    },
    plain("agent.buffer.batches", "batches", "Batches that wait for the server."),
    plain(
        "agent.buffer.dropped",
        "batches",
        "Batches given up since the start: the buffer was full, or the server refused them.",
    ),
    plain("agent.send_failures", "calls", "Calls to the server that failed since the start."),
    plain(
        "agent.clock_skew",
        "s",
        "How far the server's clock is ahead of the agent's, as its last answer said; negative where it is behind; none from servers that do not say their time.",
    ),
];

/// The row of a metric's name in the tables of collectors and of the agent itself.
pub fn metric(name: &str) -> Option<&'static Metric> {
    let all = SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS);
    all.into_iter().find(|metric| metric.name == name)
}

/// A collector that keeps failing is logged this often.
const COMPLAIN_EVERY_SECS: u64 = 60;
/// Points of the collectors at the most: the agent's own come beside them.
const COLLECTED_POINTS_MAX: usize = BATCH_POINTS_MAX - 200;
/// Milliseconds from one slow collection to the next.
const SLOW_MS: i64 = 60_000;

/// All collectors of this host.
pub struct Collectors {
    guard: Guard,
    logged: Vec<Logged>,
    failures: Vec<(&'static str, String)>,
    slow_at: Option<i64>,
    /// When it was last said that points were left out.
    cut_at: Option<Instant>,
}

/// What was logged of one collector.
#[derive(Default)]
struct Logged {
    name: &'static str,
    complained: Option<Instant>,
    notes: Vec<Note>,
}

impl Collectors {
    /// The collectors of [`SPECS`] that the configuration wants, with its roots and filters. A
    /// collection ends early when `stop` is given.
    pub fn new(config: &AgentConfig, stop: Stop) -> Self {
        let setup = Setup { config };
        let rows: Vec<Row> = SPECS
            .iter()
            .filter(|spec| config.wants(spec.name, spec.on))
            .map(|spec| Row {
                name: spec.name,
                slow: spec.pace == Pace::Minute,
                collector: Mutex::new((spec.make)(&setup)),
            })
            .collect();
        let logged = rows.iter().map(|row| Logged { name: row.name, ..Logged::default() });
        let logged = logged.collect();
        let guard = Guard::new(rows, stop, PATIENCE);
        Self { guard, logged, failures: Vec::new(), slow_at: None, cut_at: None }
    }

    /// All points of one collection, each at `timestamp_ms`, in an order that stays the same. A
    /// collector that fails or hangs costs its own points alone.
    pub fn collect(&mut self, timestamp_ms: i64) -> Vec<Point> {
        let minute = timestamp_ms.div_euclid(SLOW_MS);
        let slow = self.slow_at.replace(minute) != Some(minute);
        let moment = Moment { timestamp_ms, at: Instant::now(), slow };
        let (mut points, outcomes) = self.guard.collect(moment);
        // A batch that is over the server's limit would be refused whole.
        if let Some(over) = points.len().checked_sub(COLLECTED_POINTS_MAX).filter(|n| *n > 0) {
            if is_due(self.cut_at, moment.at) {
                log::warn!("left out the last {over} points of a collection; choose with filters");
                self.cut_at = Some(moment.at);
            }
            points.truncate(COLLECTED_POINTS_MAX);
        }
        let mut out = Samples::new(moment);
        for outcome in &outcomes {
            let ms = round(outcome.ms, 100.0);
            out.labelled("agent.collect_ms", "collector", outcome.name, ms);
        }
        for outcome in &outcomes {
            let success = f64::from(u8::from(outcome.error.is_none()));
            out.labelled("agent.collect_success", "collector", outcome.name, success);
        }
        self.failures.clear();
        for outcome in outcomes {
            self.log(outcome, moment.at);
        }
        let (own, _) = out.into_parts();
        [points, own].concat()
    }

    /// As [`Self::collect`], with what changes slowly too, whenever it was collected last.
    pub fn collect_everything(&mut self, timestamp_ms: i64) -> Vec<Point> {
        self.slow_at = None;
        self.collect(timestamp_ms)
    }

    /// The collectors that failed in the last collection, and why.
    pub fn failures(&self) -> &[(&'static str, String)] {
        &self.failures
    }

    /// What the collectors had to say in the last collection, with their names: what they left out,
    /// and why.
    pub fn notes(&self) -> impl Iterator<Item = (&'static str, &Note)> {
        self.logged.iter().flat_map(|logged| logged.notes.iter().map(|note| (logged.name, note)))
    }

    fn log(&mut self, outcome: Outcome, now: Instant) {
        let name = outcome.name;
        let Some(logged) = self.logged.iter_mut().find(|logged| logged.name == name) else {
            return;
        };
        if let Some(error) = outcome.error {
            if is_due(logged.complained, now) {
                log::warn!("collector `{name}` failed: {error}");
                logged.complained = Some(now);
            }
            self.failures.push((name, error));
            return;
        }
        for note in &outcome.notes {
            if !logged.notes.contains(note) {
                log::warn!("collector `{name}`: {}: {}", note.about, note.text);
            }
        }
        logged.notes = outcome.notes;
    }
}

/// Whether something that was last said at `last` may be said again.
fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last).as_secs() >= COMPLAIN_EVERY_SECS)
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
