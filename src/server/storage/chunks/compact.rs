//! Compaction of a finished day: the chunks of each series become one. The work is done
//! in small transactions, each complete in itself, between the batches that may still come.

use std::collections::VecDeque;

use rusqlite::{Connection, params};

use crate::server::storage::StorageError;
use crate::server::storage::chunks::codec;
use crate::server::storage::chunks::codec::Effort;
use crate::server::storage::chunks::pack;
use crate::server::storage::day::Day;
use crate::server::storage::day::file;
use crate::server::storage::read::chunks::{self, StoredChunk};

/// Points compacted in one transaction, at least one series.
const STEP_POINTS: usize = 200_000;
/// Frames deleted in one transaction.
const STEP_RECORDS: usize = 5_000;
/// Pages given back in one step.
const STEP_PAGES: usize = 1_000;

/// The compaction of a finished day, step by step.
#[derive(Default)]
pub(crate) struct Compaction {
    series: Option<VecDeque<u32>>,
    truncated: bool,
    /// Whether something changed that it may have passed already.
    pub outdated: bool,
}

/// Whether there is more to do.
pub(crate) enum Progress {
    /// Call again.
    More,
    /// Every series has one chunk and the file no free pages.
    Done,
}

impl Compaction {
    /// Does the next bit.
    ///
    /// # Errors
    ///
    /// SQLite's; what was done before it stays done.
    pub(crate) fn step(
        &mut self,
        day: &Day,
        connection: &mut Connection,
        wal_floor: i64,
    ) -> Result<Progress, StorageError> {
        let sql = |error| file::classify(error, &day.path);
        let Some(series) = &mut self.series else {
            let list = fragmented(connection).map_err(sql)?;
            self.series = Some(list);
            return Ok(Progress::More);
        };
        if !series.is_empty() {
            merge_some(day, connection, series)?;
            return Ok(Progress::More);
        }
        let spent: usize = connection
            .execute(
                "DELETE FROM samples WHERE id IN
                   (SELECT id FROM samples WHERE id < ?1 ORDER BY id LIMIT ?2)",
                params![wal_floor, STEP_RECORDS as i64],
            )
            .map_err(sql)?;
        if spent == STEP_RECORDS {
            return Ok(Progress::More);
        }
        let free: i64 =
            connection.pragma_query_value(None, "freelist_count", |row| row.get(0)).map_err(sql)?;
        if free > 0 {
            // The pragma gives back a page for each step of its statement.
            let mut release = connection
                .prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))
                .map_err(sql)?;
            let mut rows = release.query([]).map_err(sql)?;
            let mut released = false;
            while rows.next().map_err(sql)?.is_some() {
                released = true;
            }
            // A file that some other program has rewritten may be one that gives nothing back.
            if released {
                return Ok(Progress::More);
            }
        }
        if !self.truncated {
            self.truncated = true;
            file::checkpoint(connection).map_err(sql)?;
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }
}

/// Series with more than one chunk.
fn fragmented(connection: &Connection) -> Result<VecDeque<u32>, rusqlite::Error> {
    let mut query = connection
        .prepare("SELECT series FROM chunks GROUP BY series HAVING count(*) > 1 ORDER BY series")?;
    let rows = query.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn merge_some(
    day: &Day,
    connection: &mut Connection,
    series: &mut VecDeque<u32>,
) -> Result<(), StorageError> {
    let sql = |error| file::classify(error, &day.path);
    let transaction = connection.transaction().map_err(sql)?;
    let mut points = 0;
    while points < STEP_POINTS
        && let Some(id) = series.pop_front()
    {
        let found = chunks::load(&transaction, day, id, i64::MIN, i64::MAX)?;
        points += merge_series(day, &transaction, id, &found)?;
    }
    transaction.commit().map_err(sql)
}

fn merge_series(
    day: &Day,
    connection: &Connection,
    id: u32,
    found: &[StoredChunk],
) -> Result<usize, StorageError> {
    let mut points: Vec<(i64, f64)> = Vec::new();
    for stored in found {
        points.extend(stored.points(day)?);
    }
    if found.len() < 2 || points.len() > codec::CHUNK_POINTS_MAX {
        return Ok(0);
    }
    points.sort_by_key(|&(ts, _)| ts);
    points.dedup_by_key(|&mut (ts, _)| ts);
    let (times, values): (Vec<i64>, Vec<f64>) = points.into_iter().unzip();
    let lag = found.iter().map(|stored| stored.meta.lag).max().unwrap_or(0);
    let merged = codec::encode(id, &times, &values, lag, Effort::Thorough);
    let write = || -> Result<(), rusqlite::Error> {
        let mut delete = connection.prepare_cached("DELETE FROM chunks WHERE id = ?1")?;
        for stored in found {
            delete.execute([stored.id])?;
        }
        pack::insert(connection, &merged)
    };
    write().map_err(|error| file::classify(error, &day.path))?;
    Ok(times.len())
}
