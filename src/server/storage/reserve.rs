//! A file that only takes up room, so that a server that is started on a full disk can give it
//! back: SQLite wants some for a log and its index before it opens a file, if only to read it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::server::storage::partition;

/// Its name in `data_dir`.
pub const FILE: &str = ".reserve";

/// Its size: an index of 32 KB for every file that is open at a time, and a few commits.
const BYTES: u64 = 1 << 20;
/// With less than this left the server could not start.
const NEEDED_BYTES: u64 = BYTES / 2;
/// It is made only while this much is left, so that it is not what fills a small disk.
const PLENTY_BYTES: u64 = 8 << 20;

/// Makes the file when it is not there and the disk has room. Without it a start on a full disk
/// fails, which is no reason to fail now.
pub fn keep(data_dir: &Path) {
    let path = data_dir.join(FILE);
    if path.exists() || partition::room(data_dir).is_none_or(|room| room < PLENTY_BYTES) {
        return;
    }
    if let Err(error) = make(&path) {
        log::debug!("cannot set room aside in {}: {error}", path.display());
        // Half of it would be taken for the whole.
        let _ = std::fs::remove_file(&path);
    }
}

fn make(path: &PathBuf) -> std::io::Result<()> {
    let file = File::create(path)?;
    // Blocks and not a hole; where a file system has no such call, bytes are written.
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES).is_ok() {
        return Ok(());
    }
    let mut noise = fastrand::Rng::with_seed(BYTES);
    // Zeros would take no room where the file system packs them.
    let bytes: Vec<u8> = std::iter::repeat_with(|| noise.u8(..)).take(BYTES as usize).collect();
    std::fs::write(path, bytes)
}

/// Gives the room back when there is too little to start.
pub fn spend_if_needed(data_dir: &Path) {
    if partition::room(data_dir).is_none_or(|room| room >= NEEDED_BYTES) {
        return;
    }
    if std::fs::remove_file(data_dir.join(FILE)).is_ok() {
        log::warn!(
            "the disk that holds data_dir is full: gave up the {} KiB that were set aside to \
             start on; free some more, or lower retention_days or retention_max_bytes",
            BYTES / 1024
        );
    }
}
