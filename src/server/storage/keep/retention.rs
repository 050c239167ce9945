//! Dropping days: those past the retention, and the oldest while all of them are too large.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rt::stop::Stop;
use crate::server::storage::day::file::{companions, date_of, size_of};
use crate::server::storage::day::{Day, Job};
use crate::server::storage::keep::open;
use crate::server::storage::shared::Shared;
use crate::server::storage::write::writer::queue_of;
use crate::server::storage::{Cleanup, Partition, StorageError};

/// What to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Days past the retention, and what is over the bound in bytes.
    All,
    /// What is over the bound in bytes.
    Excess,
}

/// Drops what the retention says. The day that is written now always stays. While the clock has
/// just jumped, the earlier of both times counts.
///
/// # Errors
///
/// When a file can't be removed.
pub(crate) fn clean_up(shared: &Shared, what: What) -> Result<Cleanup, StorageError> {
    let _one_at_a_time = shared.cleaning.lock();
    let mut out = Cleanup::default();
    let (first, _) = shared.window();
    let days = shared.days();
    let is_old = |day: &Arc<Day>| what == What::All && day.number < first;
    let (old, mut kept): (Vec<_>, Vec<_>) = days.into_iter().partition(is_old);
    for day in old {
        drop_day(shared, &day, &mut out)?;
    }
    if shared.retention_max_bytes > 0 {
        let today = first.saturating_add(shared.retention_days);
        let mut total: u64 = kept.iter().map(|day| size_of(&day.path)).sum();
        kept.retain(|day| day.number < today);
        for day in kept {
            if total <= shared.retention_max_bytes {
                break;
            }
            total = total.saturating_sub(size_of(&day.path));
            drop_day(shared, &day, &mut out)?;
        }
    }
    if !out.removed.is_empty() {
        shared.catalog.sweep();
    }
    Ok(out)
}

/// Drops one day. Readers that have its file open finish what they read.
fn drop_day(shared: &Shared, day: &Arc<Day>, out: &mut Cleanup) -> Result<(), StorageError> {
    let size_bytes = size_of(&day.path);
    // Closed first: the last writer leaves nothing in SQLite's WAL, and no other starts.
    day.close();
    shared.days.write().remove(&day.number);
    day.mark_gone();
    let head: usize = day.agents().iter().map(|cell| cell.lock().drop_packed(i64::MAX)).sum();
    shared.head_changed(-i64::try_from(head).unwrap_or(i64::MAX));
    // Another program that was just opening it may have created the files beside it again.
    let [log, index, file] = companions(&day.path);
    for path in [&log, &index, &file, &log, &index] {
        shared.at("dropping");
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::Io(error));
            }
            _ => {}
        }
    }
    let date = date_of(day.number);
    log::info!("dropped {date}: {size_bytes} bytes");
    out.freed_bytes += size_bytes;
    out.removed.push(Partition { date, size_bytes });
    Ok(())
}

/// Drops one day, whatever its age.
///
/// # Errors
///
/// When a file can't be removed.
pub(crate) fn drop_one(shared: &Shared, day: &Arc<Day>) -> Result<(), StorageError> {
    let _one_at_a_time = shared.cleaning.lock();
    drop_day(shared, day, &mut Cleanup::default())
}

/// How often days are looked at for packing by age.
const EVERY: Duration = Duration::from_secs(5);
/// How often the size of all days is compared with its bound.
const SIZE_EVERY: Duration = Duration::from_secs(60);
/// How often days are dropped by their age, and how long after the start: a clock that a machine
/// started with is put right by then.
const AGE_EVERY: Duration = Duration::from_secs(3_600);

/// Runs the maintenance of the days until `stop`.
pub(crate) fn run(shared: &Arc<Shared>, stop: &Stop) {
    let mut aged = Instant::now();
    let mut sized: Option<Instant> = None;
    loop {
        if sized.is_none_or(|last| last.elapsed() >= SIZE_EVERY) {
            sized = Some(Instant::now());
            open::keep_reserve(&shared.data_dir);
            let what = if aged.elapsed() >= AGE_EVERY { What::All } else { What::Excess };
            if what == What::All {
                aged = Instant::now();
            }
            if let Err(error) = clean_up(shared, what) {
                log::error!("dropping old days: {error}");
            }
        }
        wake_writers(shared);
        if stop.wait(EVERY) {
            return;
        }
    }
}

/// Wakes the writers of days in which something is due, and makes room for series where some were
/// refused.
pub(crate) fn wake_writers(shared: &Arc<Shared>) {
    // What was refused may fit once that is forgotten which nothing holds.
    shared.catalog.sweep_if_full();
    let now = shared.clock.now_ms();
    for day in shared.days() {
        if day.needs_maintenance(now, shared.storage.pack_age_secs)
            && let Ok(queue) = queue_of(shared, &day)
        {
            // A full queue means that the writer is awake, and this comes round again.
            let _ = queue.try_send(Job::Maintain);
        }
    }
}
