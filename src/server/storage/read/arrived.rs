//! What arrived since a time, whenever it was measured: exactly for what is not packed yet, by the
//! longest delay of each chunk for the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, params};

use crate::server::storage::day::Day;
use crate::server::storage::day::file::{self, companions};
use crate::server::storage::{Arrived, StorageError};

/// Times of samples, by agent.
type Times = HashMap<Arc<str>, (i64, i64)>;

fn add(times: &mut Times, agent: &Arc<str>, (from, to): (i64, i64)) {
    times
        .entry(Arc::clone(agent))
        .and_modify(|known| *known = (known.0.min(from), known.1.max(to)))
        .or_insert((from, to));
}

/// Times that hold every sample that arrived at `since_ms` or later, one for each agent and day.
///
/// # Errors
///
/// SQLite's, of a day whose chunks were needed.
pub(crate) fn since(days: &[Arc<Day>], since_ms: i64) -> Result<Vec<Arrived>, StorageError> {
    let mut out = Vec::new();
    for day in days.iter().filter(|day| is_changed(day, since_ms)) {
        let mut times = Times::new();
        let mut packed: HashMap<u32, Arc<str>> = HashMap::new();
        // The heads first: what is packed meanwhile is then seen twice, not never.
        for cell in day.agents() {
            let agent = cell.lock();
            for record in agent.records.iter().filter(|record| record.received >= since_ms) {
                add(&mut times, &agent.name, (record.ts, record.ts));
            }
            if agent.entries.iter().any(|entry| entry.packed_last > i64::MIN) {
                packed.insert(agent.id, Arc::clone(&agent.name));
            }
        }
        if !packed.is_empty() {
            for (agent, from, to) in day.read(|connection| chunks(connection, day, since_ms))? {
                if let Some(name) = packed.get(&agent) {
                    add(&mut times, name, (from, to));
                }
            }
        }
        let arrived = |(agent, (from_ms, to_ms))| Arrived { agent, from_ms, to_ms };
        out.extend(times.into_iter().map(arrived));
    }
    Ok(out)
}

/// Whether the day's file, or the log that SQLite keeps beside it, was written since.
fn is_changed(day: &Day, since_ms: i64) -> bool {
    let since = Duration::from_millis(u64::try_from(since_ms).unwrap_or(0));
    companions(&day.path).iter().any(|path| {
        let changed = std::fs::metadata(path).and_then(|about| about.modified()).ok();
        let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        changed.is_some_and(|at| at >= since)
    })
}

/// The agents' ids with the times of their chunks that may hold such a sample.
fn chunks(
    connection: &Connection,
    day: &Day,
    since_ms: i64,
) -> Result<Vec<(u32, i64, i64)>, StorageError> {
    let read = || -> Result<_, rusqlite::Error> {
        let mut query = connection.prepare_cached(
            "SELECT series.agent, min(chunks.start), max(chunks.end) FROM chunks
             JOIN series ON series.id = chunks.series
             WHERE chunks.end + chunks.lag >= ?1 GROUP BY series.agent",
        )?;
        let rows = query
            .query_map(params![since_ms], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    read().map_err(|error| file::classify(error, &day.path))
}
