//! What the engine of `[remote]` does not have yet, and until when it has everything.

use rusqlite::{Connection, OptionalExtension as _, Result, params};

/// Times of samples that were stored and not sent, by agent; and notes of the forwarder.
pub(crate) const SCHEMA: &str = "
CREATE TABLE remote_gaps (
  -- The node of a ring that lacks them; empty for an engine of several addresses.
  target TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  -- Unix milliseconds, both inclusive.
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  PRIMARY KEY (target, agent_id, from_ms)
) WITHOUT ROWID;
CREATE TABLE remote_notes (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What arrived before this time, Unix milliseconds, was sent or is in `remote_gaps`.
pub(crate) const SENT_TO: &str = "sent_to_ms";
/// 1 from a stop to the next start: nothing arrived after `sent_to_ms`.
pub(crate) const STOPPED: &str = "stopped";

/// Days before this time, Unix milliseconds, are no longer here.
pub(crate) const HOT_FROM: &str = "hot_from_ms";

/// The note until when everything at a target was counted, Unix milliseconds.
pub(crate) fn audited_to(target: &str) -> String {
    format!("audited_to_ms {target}")
}

/// The note that a target lacks something of a day, by its number since 1970.
pub(crate) fn short_day(target: &str, day: i64) -> String {
    format!("short {day} {target}")
}

/// A row of `remote_gaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRow {
    /// The node, or the empty text.
    pub(crate) target: String,
    /// The agent.
    pub(crate) agent: String,
    /// First and last time, Unix milliseconds.
    pub(crate) times: (i64, i64),
}

/// Every gap, by target, agent and time.
pub(crate) fn gaps(db: &Connection) -> Result<Vec<GapRow>> {
    let sql = "SELECT target, agent_id, from_ms, to_ms FROM remote_gaps
               ORDER BY target, agent_id, from_ms";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        let times = (row.get(2)?, row.get(3)?);
        Ok(GapRow { target: row.get(0)?, agent: row.get(1)?, times })
    })?;
    rows.collect()
}

/// Replaces the gaps of an agent at a target.
pub(crate) fn put_gaps(
    tx: &Connection,
    target: &str,
    agent: &str,
    ranges: &[(i64, i64)],
) -> Result<()> {
    let mut delete =
        tx.prepare_cached("DELETE FROM remote_gaps WHERE target = ?1 AND agent_id = ?2")?;
    delete.execute(params![target, agent])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO remote_gaps (target, agent_id, from_ms, to_ms) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (from, to) in ranges {
        insert.execute(params![target, agent, from, to])?;
    }
    Ok(())
}

/// A note, where it was written.
pub(crate) fn note(db: &Connection, name: &str) -> Result<Option<i64>> {
    let sql = "SELECT value FROM remote_notes WHERE name = ?1";
    db.query_row(sql, [name], |row| row.get(0)).optional()
}

/// Writes a note.
pub(crate) fn put_note(tx: &Connection, name: &str, value: i64) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO remote_notes (name, value) VALUES (?1, ?2)";
    tx.execute(sql, params![name, value]).map(drop)
}
