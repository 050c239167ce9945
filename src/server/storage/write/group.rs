//! One transaction's worth of batches: which of their points are new, and the rows for them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use crate::server::storage::ack::PartialAck;
use crate::server::storage::chunks::codec::{self, Meta};
use crate::server::storage::day::head::{AgentDay, DaySeriesList, HeadRecord};
use crate::server::storage::day::ids::{IdAllocator, IdRow};
use crate::server::storage::day::{AgentCell, Day, Write, file};
use crate::server::storage::write::wal;
use crate::server::storage::{AgentSamples, SampleSet, SeriesList, StorageError, Stored};

/// Batches that share a transaction, with the rows that it will write.
pub(crate) struct Group {
    /// The records' texts, one after the other.
    text: Vec<u8>,
    records: Vec<Record>,
    points: usize,
    /// Agents with records in this transaction.
    touched: Vec<AgentCell>,
    /// Acknowledgements, with what became of each batch.
    acks: Vec<(PartialAck, Stored)>,
    /// New samples for the observer, by agent; empty when there is none.
    observed: Vec<(Arc<str>, Vec<SampleSet>)>,
    is_observed: bool,
    started: Instant,
}

struct Record {
    id: i64,
    agent: u32,
    ts: i64,
    received: i64,
    series: SeriesRef,
    text: Range<usize>,
}

/// How a record names its series.
enum SeriesRef {
    Row(i64),
    Inline(String),
}

impl Group {
    /// An empty group.
    pub(crate) fn new(is_observed: bool) -> Self {
        Self {
            text: Vec::new(),
            records: Vec::new(),
            points: 0,
            touched: Vec::new(),
            acks: Vec::new(),
            observed: Vec::new(),
            is_observed,
            started: Instant::now(),
        }
    }

    /// Whether it has nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// New points so far.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// Bytes of the records so far.
    pub(crate) fn size_bytes(&self) -> usize {
        self.text.len()
    }

    /// Since when it gathers.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Takes a batch into the group. A failure is acknowledged at once.
    pub(crate) fn add(
        &mut self,
        day: &Day,
        allocator: &mut IdAllocator,
        connection: &Connection,
        known: &mut ChunkTimes,
        write: Write,
    ) -> Result<(), StorageError> {
        let Write { samples, received_ms, ack } = write;
        let mut stored = Stored::default();
        for AgentSamples { agent: name, sets } in samples {
            let cell = match day.agent(&name) {
                Some(cell) => cell,
                None => {
                    let id = allocator.next_agent;
                    allocator.next_agent += 1;
                    allocator.unsaved.push(IdRow::Agent(id, Arc::clone(&name)));
                    day.add_agent(AgentDay::new(id, Arc::clone(&name)))
                }
            };
            if cell.lock().pending.is_empty() {
                self.touched.push(Arc::clone(&cell));
            }
            let mut new_sets = Vec::new();
            for set in sets {
                let context = Context { day, cell: &cell, connection, received_ms };
                let added =
                    self.add_set(&context, allocator, known, set, &mut stored, &mut new_sets);
                if let Err(error) = added {
                    ack.finish(Err(error.repeat()));
                    return Err(error);
                }
            }
            if !new_sets.is_empty() {
                self.observed.push((name, new_sets));
            }
        }
        self.acks.push((ack, stored));
        Ok(())
    }

    fn add_set(
        &mut self,
        context: &Context<'_>,
        allocator: &mut IdAllocator,
        known: &mut ChunkTimes,
        set: SampleSet,
        stored: &mut Stored,
        new_sets: &mut Vec<SampleSet>,
    ) -> Result<(), StorageError> {
        let ts = set.timestamp_ms;
        let (series_list, values, again) = {
            let mut agent = context.cell.lock();
            let (series_list, values) = fit(&mut agent, allocator, set, stored);
            let again = (!agent.is_newest(ts)).then(|| {
                let covered = agent.is_covered(ts);
                (
                    agent.duplicates_at(ts, &series_list.entries),
                    covered,
                    ids_of(&agent, &series_list),
                )
            });
            (series_list, values, again)
        };
        let (series_list, values) = match again {
            None => (series_list, values),
            Some((mut found, covered, ids)) => {
                if covered {
                    context.find_in_chunks(known, ts, &ids, &mut found)?;
                }
                stored.duplicate += found.iter().filter(|&&known| known).count();
                without(series_list, values, &found)
            }
        };
        if values.is_empty() {
            return Ok(());
        }
        stored.new += values.len();
        self.points += values.len();
        let id = allocator.next_record;
        allocator.next_record += 1;
        let from = self.text.len();
        wal::encode_values(&mut self.text, &values);
        let mut agent = context.cell.lock();
        let series = match series_list.row.get() {
            Some(&row) => SeriesRef::Row(row),
            None => SeriesRef::Inline(wal::encode_ids(ids_of(&agent, &series_list))),
        };
        let text = from..self.text.len();
        let received = context.received_ms.unwrap_or(ts);
        self.records.push(Record { id, agent: agent.id, ts, received, series, text });
        let place = agent.values.add(&values);
        if self.is_observed {
            let series = Arc::clone(&series_list.source);
            new_sets.push(SampleSet { timestamp_ms: ts, series, values });
        }
        agent.prepare(HeadRecord { ts, received, record_id: id, series_list, place });
        Ok(())
    }

    /// Writes the records.
    pub(crate) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO samples (id, agent, timestamp, received, series, data, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for record in &self.records {
            let &Record { id, agent, ts, received, .. } = record;
            let bytes = self.text.get(record.text.clone()).unwrap_or_default();
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            let series = match &record.series {
                SeriesRef::Row(row) => ValueRef::Integer(*row),
                SeriesRef::Inline(list) => ValueRef::Text(list.as_bytes()),
            };
            let crc = wal::row_sum([id, agent.into(), ts, received], series, bytes);
            let series = ToSqlOutput::Borrowed(series);
            insert.execute(params![id, agent, ts, received, series, text, crc])?;
        }
        Ok(())
    }

    /// After the commit: makes the points readable. Gives the bytes that they take in memory, the
    /// agents that got some, the acknowledgements, and what to show the observer.
    pub(crate) fn publish(self) -> Published {
        let bytes = self.touched.iter().map(|cell| cell.lock().publish()).sum();
        Published { bytes, touched: self.touched, acks: self.acks, observed: self.observed }
    }

    /// After a failure: forgets everything, and gives the acknowledgements.
    pub(crate) fn roll_back(self) -> Vec<PartialAck> {
        self.touched.iter().for_each(|cell| cell.lock().roll_back());
        self.acks.into_iter().map(|(ack, _)| ack).collect()
    }
}

/// What a committed group leaves to do.
pub(crate) struct Published {
    /// Bytes that the heads have gained.
    pub bytes: usize,
    /// Agents that got points.
    pub touched: Vec<AgentCell>,
    /// Acknowledgements, with what became of each batch.
    pub acks: Vec<(PartialAck, Stored)>,
    /// New samples for the observer, by agent.
    pub observed: Vec<(Arc<str>, Vec<SampleSet>)>,
}

struct Context<'a> {
    day: &'a Day,
    cell: &'a AgentCell,
    connection: &'a Connection,
    received_ms: Option<i64>,
}

fn ids_of(agent: &AgentDay, series_list: &DaySeriesList) -> Vec<u32> {
    let id = |&place: &u32| agent.entries.get(place as usize).map(|entry| entry.id);
    series_list.entries.iter().filter_map(id).collect()
}

/// Finds the places of a sample set's series, and adds those that the day has not seen. Points for
/// which there is no room are rejected; of a series that the list names twice the first stays.
fn fit(
    agent: &mut AgentDay,
    allocator: &mut IdAllocator,
    set: SampleSet,
    stored: &mut Stored,
) -> (Arc<DaySeriesList>, Vec<f64>) {
    let alike = set.series.len() == set.values.len();
    if alike
        && let Some(series_list) = agent.known_list(&set.series)
        && set.values.iter().all(|value| value.is_finite())
    {
        if series_list.row.get().is_none() {
            // It came before: from now on records name its row.
            let row = allocator.next_list;
            allocator.next_list += 1;
            let list = wal::encode_ids(ids_of(agent, &series_list));
            allocator.unsaved.push(IdRow::List(row, agent.id, list));
            let _ = series_list.row.set(row);
        }
        return (series_list, set.values);
    }
    let mut seen = HashSet::with_capacity(set.values.len());
    let (mut series, mut places, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (one, &value) in set.series.iter().zip(&set.values) {
        let place = match agent.place_of(one.number) {
            Some(place) => Some(place),
            None if agent.has_room() && *one.key.agent == *agent.name => {
                let id = allocator.next_series;
                allocator.next_series += 1;
                allocator.unsaved.push(IdRow::Series(id, agent.id, Arc::clone(one)));
                Some(agent.add_entry(Arc::clone(one), id))
            }
            None => None,
        };
        match place {
            Some(place) if value.is_finite() && seen.insert(place) => {
                series.push(Arc::clone(one));
                places.push(place);
                values.push(value);
            }
            Some(place) if seen.contains(&place) => stored.duplicate += 1,
            _ => stored.rejected += 1,
        }
    }
    let whole = series.len() == set.series.len() && alike;
    let source = if whole { set.series } else { SeriesList::from(series) };
    let series_list =
        Arc::new(DaySeriesList { source, entries: places.into(), row: OnceLock::new() });
    if whole {
        agent.remember(&series_list);
    }
    (series_list, values)
}

/// A list and its values without the points that are duplicates.
fn without(
    series_list: Arc<DaySeriesList>,
    values: Vec<f64>,
    known: &[bool],
) -> (Arc<DaySeriesList>, Vec<f64>) {
    if known.iter().all(|&known| !known) {
        return (series_list, values);
    }
    let fresh = || known.iter().map(|&known| !known);
    fn kept<T: Clone>(items: &[T], fresh: impl Iterator<Item = bool>) -> Vec<T> {
        items.iter().zip(fresh).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect()
    }
    let source: SeriesList = kept(&series_list.source, fresh()).into();
    let entries = kept(&series_list.entries, fresh()).into();
    let values = kept(&values, fresh());
    (Arc::new(DaySeriesList { source, entries, row: OnceLock::new() }), values)
}

impl Context<'_> {
    /// Marks the series that have a packed point at `ts`.
    fn find_in_chunks(
        &self,
        known: &mut ChunkTimes,
        ts: i64,
        ids: &[u32],
        found: &mut [bool],
    ) -> Result<(), StorageError> {
        let sql = |error| file::classify(error, &self.day.path);
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, start, end, count FROM chunks
                 WHERE series = ?1 AND start <= ?2 AND end >= ?2",
            )
            .map_err(sql)?;
        for (&series, found) in ids.iter().zip(found) {
            if *found {
                continue;
            }
            let mut rows = query.query(params![series, ts]).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                let read = || -> Result<(i64, Meta), rusqlite::Error> {
                    let count = row.get::<_, i64>(3)?;
                    Ok((row.get(0)?, bare_meta(series, row.get(1)?, row.get(2)?, count)))
                };
                let (id, meta) = read().map_err(sql)?;
                let times = known.of_chunk(self.day, self.connection, id, &meta)?;
                *found |= times.binary_search(&ts).is_ok();
            }
        }
        Ok(())
    }
}

fn bare_meta(series: u32, start: i64, end: i64, count: i64) -> Meta {
    let count = usize::try_from(count).unwrap_or(0);
    Meta { series, start, end, count, min: 0.0, max: 0.0, sum: 0.0, first: 0.0, last: 0.0, lag: 0 }
}

/// Times of chunks that were searched for duplicates.
#[derive(Default)]
pub(crate) struct ChunkTimes {
    by_chunk: HashMap<i64, Arc<[i64]>>,
    times: usize,
}

/// Times remembered, 2 MB: a batch that is sent again asks about the same chunks for every record.
const CHUNK_TIMES_MAX: usize = 256 * 1_024;

impl ChunkTimes {
    /// The times of a chunk.
    pub(crate) fn of_chunk(
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
            .map_err(|error| file::classify(error, &day.path))?;
        let times: Arc<[i64]> = codec::decode_times(meta, packed.as_deref())
            .map_err(|error| file::damaged(&day.path, error.to_string()))?
            .into();
        if self.times + times.len() > CHUNK_TIMES_MAX {
            self.clear();
        }
        self.times += times.len();
        self.by_chunk.insert(id, Arc::clone(&times));
        Ok(times)
    }

    /// Forgets all: chunks are about to be replaced, and ids may be reused.
    pub(crate) fn clear(&mut self) {
        self.by_chunk.clear();
        self.times = 0;
    }
}
