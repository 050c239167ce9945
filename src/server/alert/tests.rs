//! The whole of it over a real `cert.db`, with stops, restarts and kills.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use rusqlite::Transaction;

use super::*;
use crate::base::clock::ManualClock;
use crate::base::configfile::Source;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::NotifyKind;
use store::MemStore;

mod backtests;
mod docs;
mod managing;
mod queries;
mod restarts;
mod store;

/// 2026-02-09T08:30:00Z.
const START: i64 = 1_770_625_800_000;

/// Notes what it is asked to tell.
#[derive(Default)]
struct Recorder {
    messages: Mutex<Vec<(String, NotifyKind)>>,
    /// Ends for another reason than the points.
    ended: Mutex<Vec<String>>,
    commits: AtomicUsize,
}

impl Notify for Recorder {
    fn notify(
        &self,
        _tx: &Transaction<'_>,
        event: &AlertEvent,
        kind: NotifyKind,
    ) -> Result<(), rusqlite::Error> {
        match kind {
            NotifyKind::Ended => self.ended.lock().push(event.message.clone()),
            NotifyKind::Held { .. } => {}
            kind => self.messages.lock().push((event.message.clone(), kind)),
        }
        Ok(())
    }

    fn wake(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
    }
}

/// A data folder, a store and a clock, which outlive the process that uses them.
struct World {
    dir: tempfile::TempDir,
    store: Arc<MemStore>,
    notifier: Arc<Recorder>,
    config: ServerConfig,
}

/// One process.
struct Process {
    alerts: Arc<Alerts>,
    clock: Arc<ManualClock>,
    store: Arc<MemStore>,
}

impl World {
    fn new(rules: &str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: Arc::default(),
            notifier: Arc::default(),
            config: config(rules),
        }
    }

    /// Starts a process, `secs` after the beginning.
    fn start(&self, secs: i64) -> Process {
        let clock = ManualClock::at(START + secs * 1_000);
        let alerts = Alerts::start(
            Arc::clone(&self.store) as Arc<dyn Store>,
            Control::open(self.dir.path()).unwrap(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            &self.config,
            &prometheus::Registry::new(),
            Arc::clone(&self.notifier) as Arc<dyn Notify>,
        );
        Process { alerts: alerts.unwrap(), clock, store: Arc::clone(&self.store) }
    }

    fn notified(&self) -> Vec<String> {
        self.notifier.messages.lock().iter().map(|(message, _)| message.clone()).collect()
    }

    fn store_only(&self, secs: i64, value: f64) {
        self.store.add(&cpu("web"), START + secs * 1_000, value);
    }
}

impl Process {
    /// Stores a point of `cpu.usage` on `web`, and waits until it is evaluated.
    fn feed(&self, secs: i64, value: f64) {
        self.feed_series(&cpu("web"), secs, value);
        self.settle();
    }

    fn feed_series(&self, key: &SeriesKey, secs: i64, value: f64) {
        self.clock.set(START + secs * 1_000);
        let tick = self.store.add(key, START + secs * 1_000, value);
        self.alerts.stored(&key.agent, vec![tick]);
    }

    fn settle(&self) {
        self.alerts.settle();
    }

    /// Ends the process as SIGKILL does: nothing is written any more.
    fn kill(self) {
        // The threads live on without work: their clock stands still.
        std::mem::forget(self.alerts);
    }
}

fn config(rules: &str) -> ServerConfig {
    ServerConfig::from_source(&Source::embedded("server.toml", rules)).unwrap()
}

fn cpu(agent: &str) -> SeriesKey {
    SeriesKey { agent: agent.into(), metric: "cpu.usage".into(), labels: Labels::none() }
}

fn high_cpu(duration_secs: u64) -> String {
    format!(
        "[[alert.rules]]\nname = \"high-cpu\"\ntype = \"threshold\"\nmetric = \"cpu.usage\"\n\
         operator = \"greater_than\"\nvalue = 90.0\nduration_secs = {duration_secs}\n"
    )
}

/// Waits until `done`, for ten seconds at the most.
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        let _ = Stop::never().wait(Duration::from_millis(5));
    }
}
