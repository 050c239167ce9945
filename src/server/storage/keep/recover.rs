//! Reads a day file back into memory: its series with their sums from the chunks' index, and the
//! head from the frames that are not packed.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::day::file;
use crate::server::storage::day::head::{AgentDay, DayLayout, Tick};
use crate::server::storage::day::head_values::Values;
use crate::server::storage::day::ids;
use crate::server::storage::day::{Cell, Day};
use crate::server::storage::series::Interner;
use crate::server::storage::write::wal;
use crate::server::storage::{SeriesList, StorageError};

/// Agents and series of the file by their ids.
#[derive(Default)]
struct Known {
    agents: HashMap<u32, (Cell, i64)>,
    series: HashMap<u32, (u32, u32)>,
}

/// Reads a day's file into `day`. Gives the bytes of its head.
///
/// # Errors
///
/// When the file is damaged or can't be read.
pub fn load(day: &Day, interner: &Interner) -> Result<usize, StorageError> {
    let connection = file::open_writer(&day.path)?;
    day.made();
    let sql = |error| file::classify(error, &day.path);
    let mut known = Known::default();
    load_agents(&connection, day, &mut known)?;
    load_series(&connection, day, interner, &mut known)?;
    load_chunks(&connection, day, &known)?;
    let bytes = load_frames(&connection, day, &known)?;
    let max = |table: &str| -> Result<i64, StorageError> {
        let query = format!("SELECT coalesce(max(id), 0) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0)).map_err(sql)
    };
    let small = |id: i64| {
        u32::try_from(id.saturating_add(1))
            .map_err(|_| file::damaged(&day.path, "an id is out of range"))
    };
    let newest_packed = known.agents.values().map(|(_, packed)| *packed).max().unwrap_or(0);
    let first: i64 = connection
        .query_row("SELECT coalesce(min(id), 1) FROM samples", [], |row| row.get(0))
        .map_err(sql)?;
    let mut books = day.books.lock();
    books.next_agent = small(max("agents")?)?;
    books.next_series = small(max("series")?)?;
    books.next_layout = max("layouts")?.saturating_add(1);
    books.next_frame = max("samples")?.max(newest_packed).saturating_add(1);
    books.log_first = first;
    Ok(bytes)
}

fn load_agents(connection: &Connection, day: &Day, known: &mut Known) -> Result<(), StorageError> {
    ids::agents(connection, &day.path, None, |agent| {
        let cell = day.add_agent(AgentDay::new(agent.id, agent.name.into()));
        known.agents.insert(agent.id, (cell, agent.packed));
        Ok(())
    })
}

fn load_series(
    connection: &Connection,
    day: &Day,
    interner: &Interner,
    known: &mut Known,
) -> Result<(), StorageError> {
    ids::series(connection, &day.path, None, |row| {
        let labels = Labels::from_json(&row.labels)
            .ok_or_else(|| file::damaged(&day.path, "a series' labels are no labels"))?;
        let (cell, _) = known
            .agents
            .get(&row.agent)
            .ok_or_else(|| file::damaged(&day.path, "a series has no agent"))?;
        let mut agent = cell.lock();
        let key = SeriesKey { agent: (&*agent.name).into(), metric: row.metric.into(), labels };
        let series = interner.resolve(key)?;
        let place = agent.add_entry(series, row.id);
        known.series.insert(row.id, (row.agent, place));
        Ok(())
    })
}

/// Counts and bounds, from the index alone.
fn load_chunks(connection: &Connection, day: &Day, known: &Known) -> Result<(), StorageError> {
    let sql = |error| file::classify(error, &day.path);
    let mut query = connection
        .prepare("SELECT series, start, end, count, last FROM chunks ORDER BY series, start")
        .map_err(sql)?;
    let mut rows = query.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let read = || -> Result<(u32, i64, i64, u32, f64), rusqlite::Error> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        };
        let (series, start, end, count, last) = read().map_err(sql)?;
        let found = known.series.get(&series).and_then(|(agent, place)| {
            known.agents.get(agent).map(|(cell, _)| (cell, *place as usize))
        });
        let (cell, place) =
            found.ok_or_else(|| file::damaged(&day.path, "a chunk has no series"))?;
        let mut agent = cell.lock();
        if let Some(entry) = agent.entries.get_mut(place) {
            entry.count = entry.count.saturating_add(count);
            entry.first = entry.first.min(start);
            entry.packed_last = entry.packed_last.max(end);
            if end >= entry.last {
                (entry.last, entry.last_value) = (end, last);
            }
        }
        agent.max_ts = agent.max_ts.max(end);
        if !(agent.is_covered(start) && agent.is_covered(end)) {
            agent.cover(start, end);
        }
    }
    Ok(())
}

fn load_layouts(
    connection: &Connection,
    day: &Day,
    known: &Known,
) -> Result<HashMap<i64, Arc<DayLayout>>, StorageError> {
    let bad = || file::damaged(&day.path, "a layout's row makes no sense");
    let mut lists = HashMap::new();
    ids::layouts(connection, &day.path, |id, agent, list| {
        let (cell, _) = known.agents.get(&agent).ok_or_else(bad)?;
        let layout = layout_of(&cell.lock(), known, list).ok_or_else(bad)?;
        let _ = layout.row.set(id);
        lists.insert(id, Arc::new(layout));
        Ok(())
    })?;
    Ok(lists)
}

fn load_frames(connection: &Connection, day: &Day, known: &Known) -> Result<usize, StorageError> {
    let sql = |error| file::classify(error, &day.path);
    let bad = || file::damaged(&day.path, "a frame is not what was written");
    let lists = load_layouts(connection, day, known)?;
    let mut bytes = 0;
    let query = format!("SELECT {} FROM samples ORDER BY id", wal::COLUMNS);
    let mut frames = connection.prepare(&query).map_err(sql)?;
    let mut rows = frames.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (id, agent): (i64, u32) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
        let (cell, packed) = known.agents.get(&agent).ok_or_else(bad)?;
        if id <= *packed {
            continue;
        }
        let stored = wal::Stored::read(row).map_err(sql)?.ok_or_else(bad)?;
        let mut agent = cell.lock();
        let layout = match stored.series {
            ValueRef::Integer(row) => Arc::clone(lists.get(&row).ok_or_else(bad)?),
            other => {
                let list = other.as_str().map_err(|_| bad())?;
                Arc::new(layout_of(&agent, known, list).ok_or_else(bad)?)
            }
        };
        let ts = stored.timestamp;
        if stored.values.len() != layout.entries.len() || file::day_of(ts) != day.number {
            return Err(bad());
        }
        let values = Values::new(&stored.values);
        let tick = Tick { ts, received: stored.received, frame: id, layout, values };
        bytes += tick.size_bytes();
        agent.take(tick);
    }
    Ok(bytes)
}

fn layout_of(agent: &AgentDay, known: &Known, list: &str) -> Option<DayLayout> {
    let ids = wal::decode_ids(list)?;
    let place = |id: &u32| {
        known.series.get(id).filter(|(owner, _)| *owner == agent.id).map(|&(_, place)| place)
    };
    let entries: Box<[u32]> = ids.iter().map(place).collect::<Option<_>>()?;
    let series =
        |&place: &u32| agent.entries.get(place as usize).map(|entry| Arc::clone(&entry.series));
    let source: SeriesList = entries.iter().map(series).collect::<Option<Vec<_>>>()?.into();
    Some(DayLayout { source, entries, row: OnceLock::new() })
}
