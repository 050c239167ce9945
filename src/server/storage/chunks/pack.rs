//! Packing: an agent's head becomes one chunk for each of its series. All of an agent is packed
//! at once, so that its WAL records are done with together: the row in `agents` then holds the id
//! of the last one, and no record is ever rewritten.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::server::storage::chunks::codec::{self, Chunk, Effort};
use crate::server::storage::day::AgentCell;
use crate::server::storage::day::head::{AgentDay, HeadRecord};
use crate::server::storage::day::head_values::Values;

/// An agent's head, packed, to be written with the next transaction.
pub(crate) struct Packed {
    cell: AgentCell,
    agent: u32,
    newest_record: i64,
    chunks: Vec<(u32, Chunk)>,
    span: (i64, i64),
}

struct Column {
    place: u32,
    id: u32,
    times: Vec<i64>,
    values: Vec<f64>,
    lag: i64,
}

/// Ticks after which an agent is packed: around `points`, but not the same for every agent, so
/// that they don't all come at once.
pub(crate) fn threshold(name: &str, points: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let spread = (points / 2).max(1) as u64;
    points - points / 4 + (hasher.finish() % spread) as usize
}

/// Packs what an agent has in the head; `None` when that is nothing.
pub(crate) fn pack(cell: &AgentCell, effort: Effort) -> Option<Packed> {
    let agent = cell.lock();
    let (first, last) = (agent.records.first()?, agent.records.last()?);
    let span = (first.ts, last.ts);
    let newest_record = agent.records.iter().map(|record| record.record_id).max()?;
    let id = agent.id;
    let columns = transpose(&agent);
    drop(agent);
    let chunks = columns
        .into_iter()
        .map(|column| {
            let Column { place, id, times, values, lag } = column;
            (place, codec::encode(id, &times, &values, lag, effort))
        })
        .collect();
    Some(Packed { cell: Arc::clone(cell), agent: id, newest_record, chunks, span })
}

fn transpose(agent: &AgentDay) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut column_of: Vec<Option<usize>> = vec![None; agent.entries.len()];
    for run in agent.records.chunk_by(|a, b| Arc::ptr_eq(&a.series_list, &b.series_list)) {
        let Some(series_list) = run.first().map(|record| &record.series_list) else { continue };
        let mut places = Vec::with_capacity(series_list.entries.len());
        for &place in &series_list.entries {
            let (Some(entry), Some(slot)) =
                (agent.entries.get(place as usize), column_of.get_mut(place as usize))
            else {
                // A series list names entries alone; the others must keep their places.
                places.push(usize::MAX);
                continue;
            };
            places.push(*slot.get_or_insert_with(|| {
                columns.push(Column {
                    place,
                    id: entry.id,
                    times: Vec::with_capacity(agent.records.len()),
                    values: Vec::with_capacity(agent.records.len()),
                    lag: 0,
                });
                columns.len() - 1
            }));
        }
        for record in run {
            append(&mut columns, &places, record, &agent.values);
        }
    }
    columns
}

/// Adds a record's points to their columns, `places` being those of its series_list.
fn append(columns: &mut [Column], places: &[usize], record: &HeadRecord, all: &Values) {
    let lag = record.received.saturating_sub(record.ts);
    for (&at, value) in places.iter().zip(record.values(all)) {
        if let Some(column) = columns.get_mut(at) {
            column.times.push(record.ts);
            column.values.push(value);
            column.lag = column.lag.max(lag);
        }
    }
}

impl Packed {
    /// Points in all of its chunks.
    pub(crate) fn points(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| chunk.meta.count).sum()
    }

    /// Whether it is of this agent.
    pub(crate) fn is_of(&self, cell: &AgentCell) -> bool {
        Arc::ptr_eq(&self.cell, cell)
    }

    /// Number of its chunks.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Writes the chunks, and the id up to which the agent's records are packed.
    pub(crate) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for (_, chunk) in &self.chunks {
            insert(connection, chunk)?;
        }
        let mut spent = connection.prepare_cached("UPDATE agents SET packed = ?2 WHERE id = ?1")?;
        spent.execute(params![self.agent, self.newest_record])?;
        Ok(())
    }

    /// Takes the packed points out of the head, after the commit. Gives the bytes freed.
    pub(crate) fn apply(self) -> usize {
        let mut agent = self.cell.lock();
        for (place, chunk) in &self.chunks {
            if let Some(entry) = agent.entries.get_mut(*place as usize) {
                entry.packed_last = entry.packed_last.max(chunk.meta.end);
            }
        }
        agent.cover(self.span.0, self.span.1);
        agent.drop_packed(self.newest_record)
    }
}

/// Writes one chunk.
pub(crate) fn insert(connection: &Connection, chunk: &Chunk) -> Result<(), rusqlite::Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO chunks
           (series, start, end, count, min, max, sum, first, last, lag, crc, times, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let meta = &chunk.meta;
    insert.execute(params![
        meta.series,
        meta.start,
        meta.end,
        meta.count as i64,
        meta.min,
        meta.max,
        meta.sum,
        meta.first,
        meta.last,
        meta.lag,
        meta.checksum(),
        chunk.times,
        chunk.data,
    ])?;
    Ok(())
}
