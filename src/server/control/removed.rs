//! Agents that were removed while their points stay: they are left out of lists until they report
//! again.

use rusqlite::{Connection, params};

/// One row for each removed agent that has not reported since.
pub(crate) const SCHEMA: &str = "
CREATE TABLE removed_agents (
  agent_id TEXT PRIMARY KEY,
  -- Unix milliseconds.
  removed_at INTEGER NOT NULL
);
";

/// Notes that an agent was removed at `now_ms`.
pub(crate) fn put(db: &Connection, agent_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO removed_agents (agent_id, removed_at) VALUES (?1, ?2)";
    db.execute(sql, params![agent_id, now_ms])?;
    Ok(())
}

/// The agents that were removed, and when, Unix milliseconds.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let sql = "SELECT agent_id, removed_at FROM removed_agents ORDER BY agent_id";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Forgets that an agent was removed: it reports again, or nothing of it is stored.
pub(crate) fn delete(db: &Connection, agent_id: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM removed_agents WHERE agent_id = ?1", [agent_id])?;
    Ok(())
}
