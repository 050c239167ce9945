//! Reads a day file back into memory: its series with their sums from the chunks' index, and the
//! head from the WAL records that are not packed.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::day::file;
use crate::server::storage::day::head::{AgentDay, DaySeriesList, HeadRecord};
use crate::server::storage::day::ids;
use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::series::SeriesCatalog;
use crate::server::storage::write::wal;
use crate::server::storage::{SeriesList, StorageError};

/// Agents and series of the file by their ids.
#[derive(Default)]
struct Loaded {
    agents: HashMap<u32, (AgentCell, i64)>,
    series: HashMap<u32, (u32, u32)>,
}

/// Reads a day's file into `day`. Gives the bytes of its head.
///
/// # Errors
///
/// When the file is damaged or can't be read.
pub(crate) fn load(day: &Day, catalog: &SeriesCatalog) -> Result<usize, StorageError> {
    let connection = file::open_writer(&day.path)?;
    day.mark_created();
    let sql = |error| file::classify(error, &day.path);
    let mut loaded = Loaded::default();
    load_agents(&connection, day, &mut loaded)?;
    load_series(&connection, day, catalog, &mut loaded)?;
    load_chunks(&connection, day, &loaded)?;
    let bytes = load_records(&connection, day, &loaded)?;
    let max = |table: &str| -> Result<i64, StorageError> {
        let query = format!("SELECT coalesce(max(id), 0) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0)).map_err(sql)
    };
    let small = |id: i64| {
        u32::try_from(id.saturating_add(1))
            .map_err(|_| file::damaged(&day.path, "an id is out of range"))
    };
    let newest_packed = loaded.agents.values().map(|(_, packed)| *packed).max().unwrap_or(0);
    let first: i64 = connection
        .query_row("SELECT coalesce(min(id), 1) FROM samples", [], |row| row.get(0))
        .map_err(sql)?;
    let mut allocator = day.allocator.lock();
    allocator.next_agent = small(max("agents")?)?;
    allocator.next_series = small(max("series")?)?;
    allocator.next_list = max("layouts")?.saturating_add(1);
    allocator.next_record = max("samples")?.max(newest_packed).saturating_add(1);
    allocator.wal_first = first;
    Ok(bytes)
}

fn load_agents(
    connection: &Connection,
    day: &Day,
    loaded: &mut Loaded,
) -> Result<(), StorageError> {
    ids::agents(connection, &day.path, None, |agent| {
        let cell = day.add_agent(AgentDay::new(agent.id, agent.name.into()));
        loaded.agents.insert(agent.id, (cell, agent.packed));
        Ok(())
    })
}

fn load_series(
    connection: &Connection,
    day: &Day,
    catalog: &SeriesCatalog,
    loaded: &mut Loaded,
) -> Result<(), StorageError> {
    ids::series(connection, &day.path, None, |row| {
        let labels = Labels::from_json(&row.labels).ok_or_else(|| {
            file::damaged(&day.path, "the labels of a series are not a JSON object of texts")
        })?;
        let (cell, _) = loaded
            .agents
            .get(&row.agent)
            .ok_or_else(|| file::damaged(&day.path, "a series has no agent"))?;
        let mut agent = cell.lock();
        let key = SeriesKey { agent: (&*agent.name).into(), metric: row.metric.into(), labels };
        let series = catalog.restore(key)?;
        let place = agent.add_entry(series, row.id);
        loaded.series.insert(row.id, (row.agent, place));
        Ok(())
    })
}

/// Counts and bounds, from the index alone.
fn load_chunks(connection: &Connection, day: &Day, loaded: &Loaded) -> Result<(), StorageError> {
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
        let found = loaded.series.get(&series).and_then(|(agent, place)| {
            loaded.agents.get(agent).map(|(cell, _)| (cell, *place as usize))
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
        agent.appear();
        agent.arrived_ms = agent.arrived_ms.max(end);
        if !agent.is_span_covered(start, end) {
            agent.cover(start, end);
        }
    }
    Ok(())
}

fn load_lists(
    connection: &Connection,
    day: &Day,
    loaded: &Loaded,
) -> Result<HashMap<i64, Arc<DaySeriesList>>, StorageError> {
    let bad = || file::damaged(&day.path, "a row of layouts is not what was written");
    let mut lists = HashMap::new();
    ids::series_lists(connection, &day.path, |id, agent, list| {
        let (cell, _) = loaded.agents.get(&agent).ok_or_else(bad)?;
        let series_list = list_of(&cell.lock(), loaded, list).ok_or_else(bad)?;
        let _ = series_list.row.set(id);
        lists.insert(id, Arc::new(series_list));
        Ok(())
    })?;
    Ok(lists)
}

fn load_records(
    connection: &Connection,
    day: &Day,
    loaded: &Loaded,
) -> Result<usize, StorageError> {
    let sql = |error| file::classify(error, &day.path);
    let bad = || file::damaged(&day.path, "a WAL record is not what was written");
    let lists = load_lists(connection, day, loaded)?;
    let mut bytes = 0;
    let query = format!("SELECT {} FROM samples ORDER BY id", wal::COLUMNS);
    let mut frames = connection.prepare(&query).map_err(sql)?;
    let mut rows = frames.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (id, agent): (i64, u32) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
        let (cell, packed) = loaded.agents.get(&agent).ok_or_else(bad)?;
        if id <= *packed {
            continue;
        }
        let stored = wal::WalRecord::read(row).map_err(sql)?.ok_or_else(bad)?;
        let mut agent = cell.lock();
        let series_list = match stored.series {
            ValueRef::Integer(row) => Arc::clone(lists.get(&row).ok_or_else(bad)?),
            other => {
                let list = other.as_str().map_err(|_| bad())?;
                Arc::new(list_of(&agent, loaded, list).ok_or_else(bad)?)
            }
        };
        let ts = stored.timestamp;
        if stored.values.len() != series_list.entries.len() || file::day_of(ts) != day.number {
            return Err(bad());
        }
        let place = agent.values.add(&stored.values);
        let record =
            HeadRecord { ts, received: stored.received, record_id: id, series_list, place };
        bytes += record.size_bytes(&agent.values);
        agent.take(record);
    }
    Ok(bytes)
}

fn list_of(agent: &AgentDay, loaded: &Loaded, list: &str) -> Option<DaySeriesList> {
    let ids = wal::decode_ids(list)?;
    let place = |id: &u32| {
        loaded.series.get(id).filter(|(owner, _)| *owner == agent.id).map(|&(_, place)| place)
    };
    let entries: Box<[u32]> = ids.iter().map(place).collect::<Option<_>>()?;
    let series =
        |&place: &u32| agent.entries.get(place as usize).map(|entry| Arc::clone(&entry.series));
    let source: SeriesList = entries.iter().map(series).collect::<Option<Vec<_>>>()?.into();
    Some(DaySeriesList { source, entries, row: OnceLock::new() })
}
