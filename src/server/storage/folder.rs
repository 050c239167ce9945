//! The data folder: its lock, its size, and the days that are found in it.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustix::fs::FlockOperation;

use crate::server::storage::day::Day;
use crate::server::storage::shared::Shared;
use crate::server::storage::{StorageError, damage, partition, recover, reserve};

/// The file that says that a server runs on this folder.
const LOCK_FILE: &str = ".lock";

/// Makes the folder when it is missing, and takes its lock, which the system gives back when the
/// process ends, however it ends.
///
/// # Errors
///
/// [`StorageError::Locked`] when somebody has it, or why the folder can't be written.
pub fn take(folder: &Path) -> Result<File, StorageError> {
    let named = |error: std::io::Error| {
        let shown = folder.display();
        std::io::Error::new(
            error.kind(),
            format!("cannot write data_dir {shown}: {error}; give the server's user the right to"),
        )
    };
    std::fs::create_dir_all(folder).map_err(named)?;
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

/// Bytes of every file in the folder, but for those that only keep room.
///
/// # Errors
///
/// When it can't be listed.
pub fn bytes(folder: &Path) -> Result<u64, StorageError> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == reserve::FILE {
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
pub fn load_days(shared: &Arc<Shared>) -> Result<(), StorageError> {
    let mut numbers: Vec<i64> = std::fs::read_dir(&shared.data_dir)?
        .flatten()
        .filter_map(|entry| partition::day_of_file(&entry.file_name().to_string_lossy()))
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let path = partition::path_of(&shared.data_dir, number);
        let day = Arc::new(Day::new(number, path));
        match recover::load(&day, &shared.interner) {
            Ok(bytes) => {
                shared.head_changed(i64::try_from(bytes).unwrap_or(i64::MAX));
                let mut days = shared.days.write().unwrap_or_else(PoisonError::into_inner);
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
