//! Chunks as readers meet them.

use rusqlite::{Connection, Row, params};

use crate::server::storage::StorageError;
use crate::server::storage::chunks::codec::{self, Meta};
use crate::server::storage::day::Day;
use crate::server::storage::day::file;

/// A chunk's row.
#[derive(Debug)]
pub(crate) struct StoredChunk {
    /// Its id.
    pub id: i64,
    /// The summary.
    pub meta: Meta,
    times: Option<Vec<u8>>,
    data: Vec<u8>,
}

/// The chunks of a series with a point from `from` to `to`, as far as their bounds tell, oldest
/// first.
///
/// # Errors
///
/// SQLite's, or that the numbers of one are damaged.
pub(crate) fn load(
    connection: &Connection,
    day: &Day,
    series: u32,
    from: i64,
    to: i64,
) -> Result<Vec<StoredChunk>, StorageError> {
    let read = || -> Result<Vec<(StoredChunk, i32)>, rusqlite::Error> {
        let mut query = connection.prepare_cached(
            "SELECT id, start, end, count, min, max, sum, first, last, lag, times, data, crc
             FROM chunks WHERE series = ?1 AND start <= ?3 AND end >= ?2 ORDER BY start",
        )?;
        let rows = query
            .query_map(params![series, from, to], |row| Ok((stored(series, row)?, row.get(12)?)))?;
        rows.collect()
    };
    let found = read().map_err(|error| file::classify(error, &day.path))?;
    if found.iter().any(|(stored, crc)| stored.meta.checksum() != *crc) {
        let what = format!("a chunk of series {series} is not what was written");
        return Err(file::damaged(&day.path, what));
    }
    Ok(found.into_iter().map(|(stored, _)| stored).collect())
}

fn stored(series: u32, row: &Row<'_>) -> Result<StoredChunk, rusqlite::Error> {
    let count = row.get::<_, i64>(3)?;
    let meta = Meta {
        series,
        start: row.get(1)?,
        end: row.get(2)?,
        count: usize::try_from(count).unwrap_or(0),
        min: row.get(4)?,
        max: row.get(5)?,
        sum: row.get(6)?,
        first: row.get(7)?,
        last: row.get(8)?,
        lag: row.get(9)?,
    };
    Ok(StoredChunk { id: row.get(0)?, meta, times: row.get(10)?, data: row.get(11)? })
}

impl StoredChunk {
    /// Timestamps of the chunk's points in order, Unix milliseconds.
    pub(crate) fn times(&self, day: &Day) -> Result<Vec<i64>, StorageError> {
        codec::decode_times(&self.meta, self.times.as_deref())
            .map_err(|error| file::damaged(&day.path, error.to_string()))
    }

    /// The points, oldest first.
    pub(crate) fn points(&self, day: &Day) -> Result<Vec<(i64, f64)>, StorageError> {
        let times = self.times(day)?;
        let values = codec::decode_values(&self.meta, &self.data)
            .map_err(|error| file::damaged(&day.path, error.to_string()))?;
        Ok(times.into_iter().zip(values).collect())
    }
}
