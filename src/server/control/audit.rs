//! The audit log: who changed what, from where, when, and with what outcome.

use rusqlite::{Connection, Row, ToSql, params};

use crate::base::limits::AUDIT_ROWS_MAX;
use crate::server::storage::{Listing, Page};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditRow {
    /// The id.
    pub id: String,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Who; of a failed login, the name that was given.
    pub username: String,
    /// The client's address.
    pub address: String,
    /// Method and path of the route: `PUT /v1/users/{id}`.
    pub action: String,
    /// The path as it was called.
    pub target: String,
    /// The HTTP status of the answer.
    pub outcome: u16,
    /// The request's trace id.
    pub trace_id: String,
}

/// Which entries a list is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditFilter {
    /// Exactly this user.
    pub username: Option<String>,
    /// This text somewhere in the action.
    pub action: Option<String>,
    /// Not before, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Not after, Unix milliseconds.
    pub to_ms: Option<i64>,
}

/// Adds an entry. Those from before `oldest_ms` go, and of more than [`AUDIT_ROWS_MAX`] a
/// hundredth: failed logins first, which a stranger can cause, then the oldest.
pub(crate) fn insert(db: &Connection, entry: &AuditRow, oldest_ms: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM audit_log WHERE at_ms < ?1", [oldest_ms])?;
    let rows: i64 = db.query_row("SELECT count(*) FROM audit_log", [], |row| row.get(0))?;
    if rows >= AUDIT_ROWS_MAX {
        db.execute(
            "DELETE FROM audit_log WHERE id IN (
               SELECT id FROM audit_log ORDER BY (outcome = 401) DESC, at_ms, id LIMIT ?1)",
            [rows - AUDIT_ROWS_MAX + AUDIT_ROWS_MAX / 100],
        )?;
    }
    db.execute(
        "INSERT INTO audit_log (id, at_ms, username, address, action, target, outcome, trace_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            entry.id,
            entry.at_ms,
            entry.username,
            entry.address,
            entry.action,
            entry.target,
            entry.outcome,
            entry.trace_id
        ],
    )?;
    Ok(())
}

/// Entries, newest first.
pub(crate) fn list(
    db: &Connection,
    filter: &AuditFilter,
    page: Page,
) -> rusqlite::Result<Listing<AuditRow>> {
    let condition = "(?1 IS NULL OR username = ?1)
        AND (?2 IS NULL OR instr(action, ?2) > 0)
        AND at_ms >= ifnull(?3, at_ms) AND at_ms <= ifnull(?4, at_ms)";
    let filters: [&dyn ToSql; 4] =
        [&filter.username, &filter.action, &filter.from_ms, &filter.to_ms];
    let sql = format!("SELECT count(*) FROM audit_log WHERE {condition}");
    let total: i64 = db.query_row(&sql, &filters[..], |row| row.get(0))?;
    let sql = format!(
        "SELECT id, at_ms, username, address, action, target, outcome, trace_id FROM audit_log
         WHERE {condition} ORDER BY at_ms DESC, id DESC LIMIT ?5 OFFSET ?6"
    );
    let (limit, offset) = (page.limit as i64, page.offset as i64);
    let mut all = filters.to_vec();
    all.extend([&limit as &dyn ToSql, &offset]);
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(&all[..], entry_of)?;
    Ok(Listing { items: rows.collect::<Result<_, _>>()?, total: total.max(0) as u64 })
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        id: row.get(0)?,
        at_ms: row.get(1)?,
        username: row.get(2)?,
        address: row.get(3)?,
        action: row.get(4)?,
        target: row.get(5)?,
        outcome: row.get(6)?,
        trace_id: row.get(7)?,
    })
}
