//! What was sent of each alert last: the repeat interval starts with it.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::model::alert::AlertEvent;
use crate::model::severity::Severity;

/// The last firing of an alert that was handed to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The event's id.
    pub event_id: String,
    /// Its severity.
    pub severity: Severity,
    /// When it was sent, Unix milliseconds.
    pub sent_ms: i64,
    /// When its recovery was sent, Unix milliseconds; `None` while it has not been.
    pub recovered_ms: Option<i64>,
}

/// What was sent of an alert; `None` when nothing was.
pub(crate) fn find(db: &Connection, alert_key: &str) -> Result<Option<Sent>, rusqlite::Error> {
    let sql = "SELECT event_id, severity, sent_ms, recovered_ms FROM notification_sent
               WHERE alert_key = ?1";
    db.prepare_cached(sql)?
        .query_row([alert_key], |row| {
            let severity: String = row.get(1)?;
            Ok(Sent {
                event_id: row.get(0)?,
                severity: severity.parse().unwrap_or(Severity::Critical),
                sent_ms: row.get(2)?,
                recovered_ms: row.get(3)?,
            })
        })
        .optional()
}

/// Notes that a firing was sent.
pub(crate) fn put(
    tx: &Transaction<'_>,
    alert_key: &str,
    event: &AlertEvent,
    now_ms: i64,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("INSERT OR REPLACE INTO notification_sent VALUES (?1, ?2, ?3, ?4, NULL)")?
        .execute(params![alert_key, event.id, event.severity.name(), now_ms])?;
    Ok(())
}

/// Notes that the recovery was sent.
pub(crate) fn recovered(
    tx: &Transaction<'_>,
    alert_key: &str,
    now_ms: i64,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE notification_sent SET recovered_ms = ?2 WHERE alert_key = ?1")?
        .execute(params![alert_key, now_ms])?;
    Ok(())
}

/// Removes what was sent before `before_ms` of alerts that have ended.
pub(crate) fn purge(tx: &Transaction<'_>, before_ms: i64) -> Result<usize, rusqlite::Error> {
    tx.execute(
        "DELETE FROM notification_sent WHERE sent_ms < ?1
           AND alert_key NOT IN (SELECT alert_key FROM notification_told)",
        [before_ms],
    )
}
