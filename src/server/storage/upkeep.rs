//! What time makes due: packing by age, merging days that are over, dropping old ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rt::stop::Stop;
use crate::server::storage::day::Job;
use crate::server::storage::reserve;
use crate::server::storage::retention::{self, What};
use crate::server::storage::shared::Shared;

/// How often days are looked at for packing by age.
const EVERY: Duration = Duration::from_secs(5);
/// How often the size of all days is compared with its bound.
const SIZE_EVERY: Duration = Duration::from_secs(60);
/// How often days are dropped by their age, and how long after the start: a clock that a machine
/// started with is put right by then.
const AGE_EVERY: Duration = Duration::from_secs(3_600);

/// Looks after the days until it is told to stop.
pub fn run(shared: &Arc<Shared>, stop: &Stop) {
    let mut aged = Instant::now();
    let mut sized: Option<Instant> = None;
    loop {
        if sized.is_none_or(|last| last.elapsed() >= SIZE_EVERY) {
            sized = Some(Instant::now());
            reserve::keep(&shared.data_dir);
            let what = if aged.elapsed() >= AGE_EVERY { What::All } else { What::Excess };
            if what == What::All {
                aged = Instant::now();
            }
            if let Err(error) = retention::clean_up(shared, what) {
                log::error!("dropping old days: {error}");
            }
        }
        ask(shared);
        if stop.wait(EVERY) {
            return;
        }
    }
}

/// Wakes the writers of days in which something is due.
pub fn ask(shared: &Arc<Shared>) {
    let now = shared.clock.now_ms();
    for day in shared.days() {
        if day.wants_upkeep(now, shared.storage.pack_age_secs)
            && let Ok(writer) = day.writer(shared)
        {
            // A full queue means that the writer is awake, and this comes round again.
            let _ = writer.try_send(Job::Maintain);
        }
    }
}
