//! Ids: which ones come next, and the rows that give them their meaning.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Row as SqlRow, params};

use crate::server::storage::day::file;
use crate::server::storage::write::wal;
use crate::server::storage::{Series, StorageError};

/// What the writer must know to name rows, kept while no writer runs.
#[derive(Debug, Default)]
pub(crate) struct IdAllocator {
    /// Id of the next row of `agents`.
    pub next_agent: u32,
    /// Id of the next row of `series`.
    pub next_series: u32,
    /// Id of the next row of `layouts`.
    pub next_list: i64,
    /// Id of the next row of `samples`.
    pub next_record: i64,
    /// First row of `samples` that may still be there.
    pub wal_first: i64,
    /// Rows that memory has and the file has not, because their transaction failed.
    pub unsaved: Vec<IdRow>,
}

impl IdAllocator {
    /// The allocator of an empty file.
    pub(crate) fn new() -> Self {
        Self {
            next_agent: 1,
            next_series: 1,
            next_list: 1,
            next_record: 1,
            wal_first: 1,
            unsaved: Vec::new(),
        }
    }
}

/// A row that gives an id its meaning.
#[derive(Debug)]
pub(crate) enum IdRow {
    /// Of `agents`.
    Agent(u32, Arc<str>),
    /// Of `series`, with its agent's id.
    Series(u32, u32, Arc<Series>),
    /// Of `layouts`, with its agent's id and the list.
    List(i64, u32, String),
}

impl IdRow {
    /// Whether it belongs to the agent with this id.
    pub(crate) fn is_of(&self, agent_id: u32) -> bool {
        match self {
            Self::Agent(id, _) | Self::Series(_, id, _) | Self::List(_, id, _) => *id == agent_id,
        }
    }

    /// Writes it.
    pub(crate) fn save(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        match self {
            Self::Agent(id, name) => connection
                .prepare_cached("INSERT INTO agents (id, name, crc) VALUES (?1, ?2, ?3)")?
                .execute(params![id, &**name, agent_sum(*id, name)]),
            Self::Series(id, agent, series) => {
                let (metric, labels) = (&series.key.metric, series.key.labels.to_json());
                connection
                    .prepare_cached(
                        "INSERT INTO series (id, agent, metric, labels, crc)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        id,
                        agent,
                        metric,
                        labels,
                        series_sum(*id, *agent, metric, &labels)
                    ])
            }
            Self::List(id, agent, list) => connection
                .prepare_cached(
                    "INSERT INTO layouts (id, agent, series, crc) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![id, agent, list, list_sum(*id, *agent, list)]),
        }?;
        Ok(())
    }
}

/// Deletes an agent with its series, records and chunks, in one transaction.
pub(crate) fn delete_agent(connection: &mut Connection, id: u32) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for sql in [
        "DELETE FROM chunks WHERE series IN (SELECT id FROM series WHERE agent = ?1)",
        "DELETE FROM samples WHERE agent = ?1",
        "DELETE FROM layouts WHERE agent = ?1",
        "DELETE FROM series WHERE agent = ?1",
        "DELETE FROM agents WHERE id = ?1",
    ] {
        transaction.execute(sql, [id])?;
    }
    transaction.commit()
}

/// A row of `agents` as it was read.
pub(crate) struct AgentRow {
    /// Its id in the file.
    pub id: u32,
    /// The agent.
    pub name: String,
    /// Id of the last of its records that is packed.
    pub packed: i64,
}

/// Gives every agent of a file, or the one of this name, to `take`.
///
/// # Errors
///
/// When the file can't be read, a row is not what was written, or `take` fails.
pub(crate) fn agents(
    connection: &Connection,
    path: &Path,
    name: Option<&str>,
    take: impl FnMut(AgentRow) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let query = "SELECT id, name, packed, crc FROM agents WHERE ?1 IS NULL OR name = ?1";
    let read = |row: &SqlRow<'_>| {
        let agent = AgentRow { id: row.get(0)?, name: row.get(1)?, packed: row.get(2)? };
        let sum = agent_sum(agent.id, &agent.name);
        Ok((agent, sum == row.get::<_, i32>(3)?))
    };
    for_each_row(connection, path, query, name, read, take)
}

/// A row of `series` as it was read.
pub(crate) struct SeriesRow {
    /// Its id in the file.
    pub id: u32,
    /// Its agent's id.
    pub agent: u32,
    /// The metric.
    pub metric: String,
    /// The labels, a JSON object.
    pub labels: String,
}

/// Gives every series of a file, or those of this metric, to `take`.
///
/// # Errors
///
/// When the file can't be read, a row is not what was written, or `take` fails.
pub(crate) fn series(
    connection: &Connection,
    path: &Path,
    metric: Option<&str>,
    take: impl FnMut(SeriesRow) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let query = "SELECT id, agent, metric, labels, crc FROM series WHERE ?1 IS NULL OR metric = ?1";
    let read = |row: &SqlRow<'_>| {
        let (id, agent, metric, labels) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let series = SeriesRow { id, agent, metric, labels };
        let sum = series_sum(id, agent, &series.metric, &series.labels);
        Ok((series, sum == row.get::<_, i32>(4)?))
    };
    for_each_row(connection, path, query, metric, read, take)
}

/// Gives the id, the agent's id and the list of every row of `layouts` to `take`.
///
/// # Errors
///
/// When the file can't be read, a row is not what was written, or `take` fails.
pub(crate) fn series_lists(
    connection: &Connection,
    path: &Path,
    mut take: impl FnMut(i64, u32, &str) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let query = "SELECT id, agent, series, crc FROM layouts WHERE ?1 IS NULL";
    let read = |row: &SqlRow<'_>| {
        let (id, agent, list): (i64, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sum = list_sum(id, agent, &list);
        Ok(((id, agent, list), sum == row.get::<_, i32>(3)?))
    };
    for_each_row(connection, path, query, None, read, |(id, agent, list)| take(id, agent, &list))
}

/// Gives each row of a query to `take`, after `read` has compared its checksum.
fn for_each_row<T>(
    connection: &Connection,
    path: &Path,
    query: &str,
    only: Option<&str>,
    read: impl Fn(&SqlRow<'_>) -> Result<(T, bool), rusqlite::Error>,
    mut take: impl FnMut(T) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let sql = |error| file::classify(error, path);
    let mut query = connection.prepare(query).map_err(sql)?;
    let mut rows = query.query([only]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (row, is_whole) = read(row).map_err(sql)?;
        if !is_whole {
            return Err(file::damaged(
                path,
                "a row of agents, series or layouts is not what was written",
            ));
        }
        take(row)?;
    }
    Ok(())
}

/// `agents.crc`. What is packed goes on, and is not in it.
fn agent_sum(id: u32, name: &str) -> i32 {
    wal::checksum(&[id.into()], &[name.as_bytes()])
}

/// `series.crc`.
fn series_sum(id: u32, agent: u32, metric: &str, labels: &str) -> i32 {
    wal::checksum(&[id.into(), agent.into()], &[metric.as_bytes(), labels.as_bytes()])
}

/// `layouts.crc`.
fn list_sum(id: i64, agent: u32, list: &str) -> i32 {
    wal::checksum(&[id, agent.into()], &[list.as_bytes()])
}
