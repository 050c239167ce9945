//! What writers, readers and the clean-up share: the days, the series, the settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::base::clock::Clock;
use crate::base::limits::FUTURE_MS_MAX;
use crate::server::config;
use crate::server::storage::day::Day;
use crate::server::storage::day::count::AgentCount;
use crate::server::storage::day::file::{day_of, path_of};
use crate::server::storage::metrics::Metrics;
use crate::server::storage::series::SeriesCatalog;
use crate::server::storage::{Observer, StorageError, Tap};

/// Called with the name of each step that a crash may come after.
#[cfg(test)]
pub(super) type Probe = Box<dyn Fn(&str) + Send + Sync>;

/// The store's common ground.
pub(crate) struct Shared {
    /// Where the files are.
    pub data_dir: PathBuf,
    /// Days kept beside the present one.
    pub retention_days: i64,
    /// Bytes of day files kept; 0 for any number.
    pub retention_max_bytes: u64,
    /// How to group and pack.
    pub storage: config::Storage,
    /// Batches that may wait, over all writers.
    pub queue: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Every series.
    pub catalog: SeriesCatalog,
    /// Every day on the disk, and those about to be.
    pub days: RwLock<BTreeMap<i64, Arc<Day>>>,
    /// The agents of all days.
    pub(crate) agent_count: Arc<AgentCount>,
    /// The observer of new samples.
    pub observer: OnceLock<Arc<dyn Observer>>,
    /// What sees new samples before they are acknowledged.
    pub tap: OnceLock<Arc<dyn Tap>>,
    /// Own figures.
    pub metrics: Metrics,
    /// Batches that wait.
    pub waiting: Arc<AtomicUsize>,
    /// Whether batches are refused.
    pub stopping: AtomicBool,
    /// Bytes of all heads.
    pub head_bytes: AtomicI64,
    /// Whether the last write found no room.
    pub disk_full: AtomicBool,
    /// Names of files that were set aside.
    pub set_aside: Mutex<Vec<String>>,
    /// Held while days are dropped, so that no day is dropped twice.
    pub cleaning: Mutex<()>,
    /// Whether samples arrived at their own times, not now.
    pub is_history: AtomicBool,
    /// Called at each step that a crash may come after, on the thread that writes.
    #[cfg(test)]
    pub probe: OnceLock<Probe>,
}

impl Shared {
    /// Every day, oldest first.
    pub(crate) fn days(&self) -> Vec<Arc<Day>> {
        self.days.read().values().cloned().collect()
    }

    /// A day that there is.
    pub(crate) fn known_day(&self, number: i64) -> Option<Arc<Day>> {
        self.days.read().get(&number).cloned()
    }

    /// A day, which is made when there is none and it is one that is kept.
    pub(crate) fn day(&self, number: i64) -> Option<Arc<Day>> {
        if let Some(day) = self.known_day(number) {
            return Some(day);
        }
        let (first, last) = self.window();
        if number < first || number > last {
            return None;
        }
        let mut days = self.days.write();
        let made =
            || Arc::new(Day::new(number, path_of(&self.data_dir, number), &self.agent_count));
        Some(Arc::clone(days.entry(number).or_insert_with(made)))
    }

    /// The first and the last day that may have a file now.
    pub(crate) fn window(&self) -> (i64, i64) {
        let (earliest, latest) = self.clock.possible_ms();
        let first = day_of(earliest).saturating_sub(self.retention_days);
        (first, day_of(latest.saturating_add(FUTURE_MS_MAX)))
    }

    /// Whether somebody looks at new samples.
    pub(crate) fn is_observed(&self) -> bool {
        self.observer.get().is_some() || self.tap.get().is_some()
    }

    /// Marks a step that a crash may come after, for tests that look at the files then.
    pub(crate) fn at(&self, step: &str) {
        #[cfg(test)]
        if let Some(probe) = self.probe.get() {
            probe(step);
        }
        #[cfg(not(test))]
        let _ = step;
    }

    /// Notes bytes that heads have gained or lost.
    pub(crate) fn head_changed(&self, by: i64) {
        let now = self.head_bytes.fetch_add(by, Ordering::Relaxed) + by;
        self.metrics.head_bytes.set(now);
    }

    /// Bytes by which the heads exceed their bound.
    pub(crate) fn head_excess(&self) -> i64 {
        let max = i64::try_from(self.storage.head_max_bytes).unwrap_or(i64::MAX);
        self.head_bytes.load(Ordering::Relaxed) - max
    }

    /// Notes whether a write found room on the disk.
    pub(crate) fn found_room(&self, room: bool) {
        if self.disk_full.swap(!room, Ordering::Relaxed) == room {
            if room {
                log::info!("there is room on the disk of data_dir again; storing goes on");
            } else {
                log::error!("{}", StorageError::DiskFull);
            }
        }
        self.metrics.disk_full.set(i64::from(!room));
    }
}
