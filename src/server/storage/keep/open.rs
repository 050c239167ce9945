//! The data folder: its lock, its size, and the days that are found in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::base::private;
use crate::server::config::CONTROL_FILE;
use crate::server::storage::StorageError;
use crate::server::storage::day::{Day, file};
use crate::server::storage::keep::{damage, recover};
use crate::server::storage::shared::Shared;

/// The file whose lock a running server holds.
const LOCK_FILE: &str = ".lock";

/// Makes the folder when it is missing, and takes its lock, which the system gives back when the
/// process ends, however it ends.
///
/// # Errors
///
/// [`StorageError::Locked`] when somebody has it, or why the folder can't be written.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, StorageError> {
    let named = |error: std::io::Error| {
        let shown = folder.display();
        std::io::Error::new(
            error.kind(),
            format!("cannot write data_dir {shown}: {error}; give the server's user the right to"),
        )
    };
    std::fs::create_dir_all(folder).map_err(named)?;
    private::narrow(folder, is_ours);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK_FILE))
        .map_err(named)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StorageError::Locked(folder.display().to_string()))
        }
        Err(error) => Err(named(error.into()).into()),
    }
}

/// Whether a name in the folder is one of the server's own: its databases with what SQLite keeps
/// beside them, and what became of damaged ones.
fn is_ours(name: &str) -> bool {
    let database = name.split_once(".db").map(|(start, _)| format!("{start}.db"));
    let known = |name: &str| name == CONTROL_FILE || file::day_of_file(name).is_some();
    name == LOCK_FILE || name == RESERVE_FILE || database.is_some_and(|name| known(&name))
}

/// Bytes of every file in the folder, but for those that only keep room.
///
/// # Errors
///
/// When it can't be listed.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64, StorageError> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == RESERVE_FILE {
            continue;
        }
        // A file that goes between the two has no size.
        sum +=
            entry.metadata().map(|meta| if meta.is_file() { meta.len() } else { 0 }).unwrap_or(0);
    }
    Ok(sum)
}

/// Reads every day file; damaged ones are set aside.
///
/// # Errors
///
/// When a file can't be read for another reason.
pub(crate) fn load_days(shared: &Arc<Shared>) -> Result<(), StorageError> {
    let mut numbers: Vec<i64> = std::fs::read_dir(&shared.data_dir)?
        .flatten()
        .filter_map(|entry| file::day_of_file(&entry.file_name().to_string_lossy()))
        .collect();
    numbers.sort_unstable();
    let now_ms = shared.clock.now_ms();
    for number in numbers {
        let path = file::path_of(&shared.data_dir, number);
        if !damage::is_ours(&path) {
            return Err(StorageError::Invalid(format!(
                "{} is a database of another program; move it elsewhere",
                path.display()
            )));
        }
        let day = Arc::new(Day::new(number, path, &shared.agent_count));
        match recover::load(&day, &shared.catalog) {
            Ok(bytes) => {
                // A clock that was ahead makes nobody active.
                for cell in day.agents() {
                    let mut agent = cell.lock();
                    agent.arrived_ms = agent.arrived_ms.min(now_ms);
                }
                shared.head_changed(i64::try_from(bytes).unwrap_or(i64::MAX));
                let mut days = shared.days.write();
                days.insert(number, day);
            }
            Err(error) => match damage::found_in(&error) {
                Some(what) => damage::note(shared, damage::rename(&day.path, &what)),
                None => return Err(error),
            },
        }
    }
    Ok(())
}

/// Its name in `data_dir`.
pub(crate) const RESERVE_FILE: &str = ".reserve";

/// Its size: an index of 32 KB for every file that is open at a time, and a few commits.
const RESERVE_BYTES: u64 = 1 << 20;
/// With less than this left the server could not start.
const NEEDED_BYTES: u64 = RESERVE_BYTES / 2;
/// It is made only while this much is left, so that it is not what fills a small disk.
const PLENTY_BYTES: u64 = 8 << 20;

/// Makes the file when it is not there and the disk has room. Without it a start on a full disk
/// fails, which does not matter now.
pub(crate) fn keep_reserve(data_dir: &Path) {
    let path = data_dir.join(RESERVE_FILE);
    if path.exists() || file::room(data_dir).is_none_or(|room| room < PLENTY_BYTES) {
        return;
    }
    if let Err(error) = make_reserve(&path) {
        log::debug!("cannot set room aside in {}: {error}", path.display());
        // Half of it would be taken for the whole.
        let _ = std::fs::remove_file(&path);
    }
}

fn make_reserve(path: &PathBuf) -> std::io::Result<()> {
    let file = File::create(path)?;
    // Blocks and not a hole; where a file system has no such call, bytes are written.
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES).is_ok() {
        return Ok(());
    }
    let mut noise = fastrand::Rng::with_seed(RESERVE_BYTES);
    // Zeros would take no room where the file system packs them.
    let bytes: Vec<u8> =
        std::iter::repeat_with(|| noise.u8(..)).take(RESERVE_BYTES as usize).collect();
    std::fs::write(path, bytes)
}

/// Gives the room back when there is too little to start.
pub(crate) fn spend_reserve_if_needed(data_dir: &Path) {
    if file::room(data_dir).is_none_or(|room| room >= NEEDED_BYTES) {
        return;
    }
    if std::fs::remove_file(data_dir.join(RESERVE_FILE)).is_ok() {
        log::warn!(
            "the disk that holds data_dir is full: gave up the {} KiB that were set aside to \
             start on; free some more, or lower retention_days or retention_max_bytes",
            RESERVE_BYTES / 1024
        );
    }
}
