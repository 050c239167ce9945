//! Rows of what people wrote about alerts.

use rusqlite::{Connection, Transaction, params};

/// The schema's step.
pub(crate) const SCHEMA: &str = "
CREATE TABLE alert_comments (
  id TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  username TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX alert_comments_event ON alert_comments (event_id);
";

/// What somebody wrote about an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommentRow {
    /// The id.
    pub(crate) id: String,
    /// The alert's event.
    pub(crate) event_id: String,
    /// Who wrote it.
    pub(crate) username: String,
    /// The text.
    pub(crate) text: String,
    /// When, Unix milliseconds.
    pub(crate) created_at_ms: i64,
}

/// The comments on an event, oldest first.
pub(crate) fn list(db: &Connection, event_id: &str) -> rusqlite::Result<Vec<CommentRow>> {
    let mut query = db.prepare_cached(
        "SELECT id, event_id, username, text, created_at_ms FROM alert_comments
         WHERE event_id = ?1 ORDER BY created_at_ms, id",
    )?;
    let rows = query.query_map([event_id], |row| {
        Ok(CommentRow {
            id: row.get(0)?,
            event_id: row.get(1)?,
            username: row.get(2)?,
            text: row.get(3)?,
            created_at_ms: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// How many comments an event has.
pub(crate) fn count(db: &Connection, event_id: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT COUNT(*) FROM alert_comments WHERE event_id = ?1";
    db.query_row(sql, [event_id], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Writes a comment, and drops those from before `oldest_ms`, as the audit log does.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    row: &CommentRow,
    oldest_ms: i64,
) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM alert_comments WHERE created_at_ms < ?1", [oldest_ms])?;
    tx.execute(
        "INSERT INTO alert_comments (id, event_id, username, text, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![row.id, row.event_id, row.username, row.text, row.created_at_ms],
    )?;
    Ok(())
}
