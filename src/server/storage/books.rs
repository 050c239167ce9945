//! Ids: which ones come next, and the rows that give them their meaning.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::server::storage::{Series, frame};

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
            Self::Layout(id, agent, list) => connection
                .prepare_cached(
                    "INSERT INTO layouts (id, agent, series, crc) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![id, agent, list, layout_sum(*id, *agent, list)]),
        }?;
        Ok(())
    }
}

/// `agents.crc`. What is packed goes on, and is not in it.
pub fn agent_sum(id: u32, name: &str) -> i32 {
    frame::checksum(&[id.into()], &[name.as_bytes()])
}

/// `series.crc`.
pub fn series_sum(id: u32, agent: u32, metric: &str, labels: &str) -> i32 {
    frame::checksum(&[id.into(), agent.into()], &[metric.as_bytes(), labels.as_bytes()])
}

/// `layouts.crc`.
pub fn layout_sum(id: i64, agent: u32, list: &str) -> i32 {
    frame::checksum(&[id, agent.into()], &[list.as_bytes()])
}
