//! What the agent says of its host beside samples: the facts, and a snapshot of processes when the
//! server asks for one. Each is found on a thread of its own that ends with it, so that a file that
//! blocks keeps neither the collector nor the reporter.
//!
//! Nothing runs here while nothing is wrong, but for a look at the facts every ten minutes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::agent::config::AgentConfig;
use crate::model::host::HostReport;
use crate::rt::thread;

mod facts;
#[cfg(target_os = "linux")]
mod snapshot;
#[cfg(target_os = "linux")]
mod virtualization;

/// How often the facts are looked at again.
const FACTS_EVERY: Duration = Duration::from_secs(600);
/// Least time between two snapshots, whatever a server asks.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(30);

/// Where to look, and what may be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The root of /proc.
    pub(crate) proc: PathBuf,
    /// The root of /sys.
    pub(crate) sys: PathBuf,
    /// The root of the files.
    pub(crate) root: PathBuf,
    /// Whether snapshots are taken at all.
    pub(crate) snapshots: bool,
    /// Whether they hold command lines.
    pub(crate) arguments: bool,
}

impl Sources {
    /// Those of a configuration.
    pub(crate) fn of(config: &AgentConfig) -> Self {
        Self {
            proc: config.proc_root.clone(),
            sys: config.sys_root.clone(),
            root: config.root.clone(),
            snapshots: config.snapshot.enabled,
            arguments: config.snapshot.arguments,
        }
    }
}

/// Looks at the host when it is time to, or when it is asked to.
pub(crate) struct Prober {
    sources: Sources,
    results: Sender<HostReport>,
    facts: Task,
    snapshot: Task,
}

/// One kind of look: at most one is under way, and not too often.
struct Task {
    name: &'static str,
    every: Duration,
    last: Option<Instant>,
    busy: Arc<AtomicBool>,
}

impl Task {
    fn new(name: &'static str, every: Duration) -> Self {
        Self { name, every, last: None, busy: Arc::default() }
    }

    fn is_early(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < self.every)
    }

    /// Runs `look` on a thread of its own, where it is time to.
    fn start(&mut self, now: Instant, look: impl FnOnce() + Send + 'static) {
        if self.is_early(now) || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        self.last = Some(now);
        let busy = Arc::clone(&self.busy);
        let started = thread::try_spawn(self.name, move || {
            look();
            busy.store(false, Ordering::SeqCst);
            Ok(())
        });
        if let Err(error) = started {
            // The body was dropped, and its copy of the flag with it.
            self.busy.store(false, Ordering::SeqCst);
            log::warn!("no thread for {}: {error}", self.name);
        }
    }
}

impl Prober {
    /// A prober that has not looked yet, and the channel of what it finds.
    pub(crate) fn new(sources: Sources) -> (Self, Receiver<HostReport>) {
        // Room for one of each kind; one that finds it full is of no use any more.
        let (results, found) = bounded(2);
        let facts = Task::new("facts", FACTS_EVERY);
        let snapshot = Task::new("snapshot", SNAPSHOT_EVERY);
        (Self { sources, results, facts, snapshot }, found)
    }

    /// Looks at the facts where it is time to.
    pub(crate) fn on_time(&mut self, now: Instant) {
        if self.facts.is_early(now) {
            return;
        }
        let (sources, results) = (self.sources.clone(), self.results.clone());
        self.facts.start(now, move || {
            let facts = Some(facts::read(&sources).bounded());
            let _ = results.try_send(HostReport { facts, snapshot: None });
        });
    }

    /// Takes a snapshot of the processes, unless one was taken a moment ago or none may be.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_snapshot(&mut self, now: Instant) {
        if !self.sources.snapshots {
            return;
        }
        let (sources, results) = (self.sources.clone(), self.results.clone());
        self.snapshot.start(now, move || {
            let snapshot = Some(snapshot::take(&sources, snapshot::WINDOW).bounded());
            let _ = results.try_send(HostReport { facts: None, snapshot });
        });
    }

    /// Other systems have no /proc to look into.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn take_snapshot(&mut self, _now: Instant) {}

    /// Takes another configuration's sources; the facts are looked at again.
    pub(crate) fn reload(&mut self, sources: Sources) {
        self.sources = sources;
        self.facts.last = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_look_is_under_way_at_a_time_and_not_too_often() {
        let mut task = Task::new("test", Duration::from_secs(30));
        let (go, wait) = bounded::<()>(0);
        let (done, ended) = bounded(4);
        let now = Instant::now();
        let report = done.clone();
        task.start(now, move || {
            let _ = wait.recv();
            report.send(1).unwrap();
        });
        let report = done.clone();
        task.start(now + Duration::from_secs(60), move || report.send(2).unwrap());
        drop(go);
        assert_eq!(ended.recv().unwrap(), 1);
        while task.busy.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let report = done.clone();
        task.start(now + Duration::from_secs(29), move || report.send(3).unwrap());
        task.start(now + Duration::from_secs(31), move || done.send(4).unwrap());
        assert_eq!(ended.recv().unwrap(), 4, "neither while one runs nor too soon after it");
    }
}
