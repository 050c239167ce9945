//! Ids: which ones come next, and the rows that give them their meaning.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::server::storage::Series;

/// What the writer must know to name rows, kept while no writer runs.
#[derive(Debug, Default)]
pub struct Books {
    /// Id of the next row of `agents`.
    pub next_agent: u32,
    /// Id of the next row of `series`.
    pub next_series: u32,
    /// Id of the next row of `layouts`.
    pub next_layout: i64,
    /// Id of the next row of `samples`.
    pub next_frame: i64,
    /// First row of `samples` that may still be there.
    pub log_first: i64,
    /// Rows that memory has and the file has not, because their transaction failed.
    pub unsaved: Vec<Row>,
}

impl Books {
    /// The books of an empty file.
    pub fn new() -> Self {
        Self {
            next_agent: 1,
            next_series: 1,
            next_layout: 1,
            next_frame: 1,
            log_first: 1,
            unsaved: Vec::new(),
        }
    }
}

/// A row that gives an id its meaning.
#[derive(Debug)]
pub enum Row {
    /// Of `agents`.
    Agent(u32, Arc<str>),
    /// Of `series`, with its agent's id.
    Series(u32, u32, Arc<Series>),
    /// Of `layouts`, with its agent's id and the list.
    Layout(i64, u32, String),
}

impl Row {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// SQLite's.
    pub fn save(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        match self {
            Self::Agent(id, name) => connection
                .prepare_cached("INSERT INTO agents (id, name) VALUES (?1, ?2)")?
                .execute(params![id, &**name]),
            Self::Series(id, agent, series) => connection
                .prepare_cached(
                    "INSERT INTO series (id, agent, metric, labels) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![id, agent, series.key.metric, series.key.labels.to_json()]),
            Self::Layout(id, agent, list) => connection
                .prepare_cached("INSERT INTO layouts (id, agent, series) VALUES (?1, ?2, ?3)")?
                .execute(params![id, agent, list]),
        }?;
        Ok(())
    }
}
