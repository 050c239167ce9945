//! Dropping days: those past the retention, and the oldest while all of them are too large.

use std::sync::{Arc, PoisonError};

use crate::server::storage::day::Day;
use crate::server::storage::intern::lock;
use crate::server::storage::partition::{companions, date_of, size_of};
use crate::server::storage::shared::Shared;
use crate::server::storage::{Cleanup, Partition, StorageError};

/// Drops what the retention says. The day that is written now always stays.
///
/// # Errors
///
/// When a file can't be removed.
pub fn clean_up(shared: &Shared) -> Result<Cleanup, StorageError> {
    let mut out = Cleanup::default();
    let (first, _) = shared.window();
    let days = shared.days();
    let (old, mut kept): (Vec<_>, Vec<_>) = days.into_iter().partition(|day| day.number < first);
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
        shared.interner.sweep();
    }
    Ok(out)
}

/// Drops one day. Readers that have its file open finish what they read.
fn drop_day(shared: &Shared, day: &Arc<Day>, out: &mut Cleanup) -> Result<(), StorageError> {
    let size_bytes = size_of(&day.path);
    // Closed first: the last writer leaves nothing in the log, and no other starts.
    day.close();
    shared.days.write().unwrap_or_else(PoisonError::into_inner).remove(&day.number);
    let head: usize = day.agents().iter().map(|cell| lock(cell).drop_packed(i64::MAX)).sum();
    shared.head_changed(-i64::try_from(head).unwrap_or(i64::MAX));
    for path in companions(&day.path) {
        shared.at("dropping");
        match std::fs::remove_file(&path) {
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
