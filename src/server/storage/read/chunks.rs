//! Chunks as readers meet them.

use rusqlite::{CachedStatement, Connection, Row, params};

use crate::server::storage::StorageError;
use crate::server::storage::chunks::codec::{self, Meta};
use crate::server::storage::day::Day;
use crate::server::storage::day::file;

/// The chunks of series ?1 with a point from ?2 to ?3, as far as their bounds tell. The checksum
/// is that of the columns before it.
const OVERLAPPING: &str = "SELECT id, start, end, count, min, max, sum, first, last, lag, times, \
                           data, crc
     FROM chunks WHERE series = ?1 AND start <= ?3 AND end >= ?2 ORDER BY start";

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
    let sql = |error| file::classify(error, &day.path);
    let mut query = connection.prepare_cached(OVERLAPPING).map_err(sql)?;
    let mut rows = query.query(params![series, from, to]).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let meta = meta_of(day, series, row)?;
        let stored = || -> Result<StoredChunk, rusqlite::Error> {
            Ok(StoredChunk { id: row.get(0)?, meta, times: row.get(10)?, data: row.get(11)? })
        };
        found.push(stored().map_err(sql)?);
    }
    Ok(found)
}

/// The summary in a row of [`OVERLAPPING`], which its checksum confirms.
fn meta_of(day: &Day, series: u32, row: &Row<'_>) -> Result<Meta, StorageError> {
    let read = || -> Result<(Meta, i32), rusqlite::Error> {
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
        Ok((meta, row.get(12)?))
    };
    let (meta, crc) = read().map_err(|error| file::classify(error, &day.path))?;
    if meta.checksum() != crc {
        let what = format!("a chunk of series {series} is not what was written");
        return Err(file::damaged(&day.path, what));
    }
    Ok(meta)
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

/// Reads points of one series after the other, with one statement and into the same room.
pub(crate) struct Reader<'c> {
    day: &'c Day,
    query: CachedStatement<'c>,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl<'c> Reader<'c> {
    /// A reader of a day's file.
    ///
    /// # Errors
    ///
    /// When the file has no such table.
    pub(crate) fn new(connection: &'c Connection, day: &'c Day) -> Result<Self, StorageError> {
        let query = connection
            .prepare_cached(OVERLAPPING)
            .map_err(|error| file::classify(error, &day.path))?;
        Ok(Self { day, query, times: Vec::new(), values: Vec::new() })
    }

    /// Appends the packed points of a series from `from` to `to` to `out`, chunk by chunk.
    ///
    /// # Errors
    ///
    /// SQLite's, or that a chunk is damaged.
    pub(crate) fn append(
        &mut self,
        series: u32,
        (from, to): (i64, i64),
        out: &mut Vec<(i64, f64)>,
    ) -> Result<(), StorageError> {
        let Self { day, query, times, values } = self;
        let sql = |error| file::classify(error, &day.path);
        let mut rows = query.query(params![series, from, to]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let meta = meta_of(day, series, row)?;
            decode(day, &meta, row, times, values)?;
            let start = times.partition_point(|&ts| ts < from);
            let end = times.partition_point(|&ts| ts <= to);
            let inside = times.iter().zip(&*values).take(end).skip(start);
            out.extend(inside.map(|(&ts, &value)| (ts, value)));
        }
        Ok(())
    }

    /// The newest packed point of a series from `from` to `to`. A chunk that ends by then need
    /// not be unpacked.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub(crate) fn newest(
        &mut self,
        series: u32,
        (from, to): (i64, i64),
    ) -> Result<Option<(i64, f64)>, StorageError> {
        let Self { day, query, times, values } = self;
        let sql = |error| file::classify(error, &day.path);
        let mut newest: Option<(i64, f64)> = None;
        let mut rows = query.query(params![series, from, to]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let meta = meta_of(day, series, row)?;
            if newest.is_some_and(|(ts, _)| ts >= meta.end) {
                continue;
            }
            // SQLite gives a minus zero back as a zero: only the values themselves tell.
            let found = if meta.end <= to && meta.last != 0.0 {
                Some((meta.end, meta.last))
            } else {
                decode(day, &meta, row, times, values)?;
                let last = times.partition_point(|&ts| ts <= to).checked_sub(1);
                last.and_then(|at| Some((*times.get(at)?, *values.get(at)?)))
            };
            let newer =
                |&(ts, _): &(i64, f64)| ts >= from && newest.is_none_or(|(before, _)| ts > before);
            newest = found.filter(newer).or(newest);
        }
        Ok(newest)
    }
}

/// Unpacks the chunk in a row of [`OVERLAPPING`].
fn decode(
    day: &Day,
    meta: &Meta,
    row: &Row<'_>,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), StorageError> {
    let blob = |column: usize| -> Result<Option<&[u8]>, rusqlite::Error> {
        Ok(row.get_ref(column)?.as_blob_or_null()?)
    };
    let sql = |error| file::classify(error, &day.path);
    let (packed_times, data) = (blob(10).map_err(sql)?, blob(11).map_err(sql)?);
    codec::decode_times_into(meta, packed_times, times)
        .and_then(|()| codec::decode_values_into(meta, data.unwrap_or_default(), values))
        .map_err(|error| file::damaged(&day.path, error.to_string()))
}
