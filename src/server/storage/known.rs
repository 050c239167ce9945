//! Times of packed points, for batches that come again: their ticks ask about the same chunks.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::server::storage::chunk::{self, Meta};
use crate::server::storage::day::Day;
use crate::server::storage::{StorageError, partition};

/// Times of chunks that were looked into for points that come again.
#[derive(Default)]
pub struct KnownTimes {
    by_chunk: HashMap<i64, Arc<[i64]>>,
    times: usize,
}

/// Times remembered, 2 MB: a batch that comes again asks about the same chunks for every tick.
const KNOWN_TIMES_MAX: usize = 256 * 1_024;

impl KnownTimes {
    /// The times of a chunk.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub fn of_chunk(
        &mut self,
        day: &Day,
        connection: &Connection,
        id: i64,
        meta: &Meta,
    ) -> Result<Arc<[i64]>, StorageError> {
        if let Some(times) = self.by_chunk.get(&id) {
            return Ok(Arc::clone(times));
        }
        let packed: Option<Vec<u8>> = connection
            .prepare_cached("SELECT times FROM chunks WHERE id = ?1")
            .and_then(|mut query| query.query_row([id], |row| row.get(0)))
            .map_err(|error| partition::classify(error, &day.path))?;
        let times: Arc<[i64]> = chunk::decode_times(meta, packed.as_deref())
            .map_err(|error| partition::damaged(&day.path, error.to_string()))?
            .into();
        if self.times + times.len() > KNOWN_TIMES_MAX {
            self.clear();
        }
        self.times += times.len();
        self.by_chunk.insert(id, Arc::clone(&times));
        Ok(times)
    }

    /// Forgets all: chunks are about to be replaced, and ids may come again.
    pub fn clear(&mut self) {
        self.by_chunk.clear();
        self.times = 0;
    }
}
