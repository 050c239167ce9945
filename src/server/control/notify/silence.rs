//! Rows of silence windows.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::server::storage::{Listing, Page};

/// One window as it is stored. `server::notify::mute` explains the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "server::notify::mute documents every field")]
pub(crate) struct SilenceRow {
    pub id: String,
    pub start_time: String,
    pub end_time: String,
    pub recurrence: Option<String>,
    pub days: Option<String>,
    pub date: Option<String>,
    pub end_date: Option<String>,
    pub time_zone: Option<String>,
    pub agent_pattern: Option<String>,
    pub metric_pattern: Option<String>,
    pub(crate) starts_at_ms: Option<i64>,
    pub(crate) ends_at_ms: Option<i64>,
    pub(crate) comment: Option<String>,
    pub(crate) created_by: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

const COLUMNS: &str = "id, start_time, end_time, recurrence, days, date, end_date, time_zone, \
                       agent_pattern, metric_pattern, created_at, updated_at, starts_at_ms, \
                       ends_at_ms, comment, created_by";

fn from_row(row: &Row<'_>) -> Result<SilenceRow, rusqlite::Error> {
    Ok(SilenceRow {
        id: row.get(0)?,
        start_time: row.get(1)?,
        end_time: row.get(2)?,
        recurrence: row.get(3)?,
        days: row.get(4)?,
        date: row.get(5)?,
        end_date: row.get(6)?,
        time_zone: row.get(7)?,
        agent_pattern: row.get(8)?,
        metric_pattern: row.get(9)?,
        created_at: row.get(10)?,
        updated_at: row.get(11)?,
        starts_at_ms: row.get(12)?,
        ends_at_ms: row.get(13)?,
        comment: row.get(14)?,
        created_by: row.get(15)?,
    })
}

/// Windows, oldest first; all of them without a page.
pub(crate) fn list(
    db: &Connection,
    page: Option<Page>,
) -> Result<Listing<SilenceRow>, rusqlite::Error> {
    let total = count(db)?;
    let (limit, offset) = page.map_or((-1, 0), |page| (page.limit as i64, page.offset as i64));
    let sql = format!("SELECT {COLUMNS} FROM silence_windows ORDER BY id LIMIT ?1 OFFSET ?2");
    let mut query = db.prepare_cached(&sql)?;
    let items = query.query_map([limit, offset], from_row)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total })
}

/// How many windows there are.
pub(crate) fn count(db: &Connection) -> Result<u64, rusqlite::Error> {
    db.query_row("SELECT COUNT(*) FROM silence_windows", [], |row| row.get(0))
        .map(i64::unsigned_abs)
}

/// The window with this id.
pub(crate) fn find(db: &Connection, id: &str) -> Result<Option<SilenceRow>, rusqlite::Error> {
    let sql = format!("SELECT {COLUMNS} FROM silence_windows WHERE id = ?1");
    db.query_row(&sql, [id], from_row).optional()
}

/// Writes a window, in place of the one with its id.
pub(crate) fn insert(tx: &Transaction<'_>, window: &SilenceRow) -> Result<(), rusqlite::Error> {
    tx.execute(
        "INSERT OR REPLACE INTO silence_windows (id, start_time, end_time, recurrence, days, date, end_date,
           time_zone, agent_pattern, metric_pattern, created_at, updated_at, starts_at_ms,
           ends_at_ms, comment, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            window.id,
            window.start_time,
            window.end_time,
            window.recurrence,
            window.days,
            window.date,
            window.end_date,
            window.time_zone,
            window.agent_pattern,
            window.metric_pattern,
            window.created_at,
            window.updated_at,
            window.starts_at_ms,
            window.ends_at_ms,
            window.comment,
            window.created_by,
        ],
    )?;
    Ok(())
}

/// Has what windows hold back looked at again at once, since they have changed.
pub(crate) fn look_again(tx: &Transaction<'_>, now_ms: i64) -> Result<(), rusqlite::Error> {
    tx.execute("UPDATE notices SET due_ms = ?1 WHERE state = 'silenced'", [now_ms])?;
    Ok(())
}

/// Removes a window. What it held back is looked at again at once, since another window may hold
/// it still.
pub(crate) fn remove(tx: &Transaction<'_>, id: &str, now_ms: i64) -> Result<(), rusqlite::Error> {
    tx.execute("DELETE FROM silence_windows WHERE id = ?1", [id])?;
    look_again(tx, now_ms)
}
