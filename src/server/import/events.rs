//! Alert events of one day file of the first release.

use std::collections::HashMap;

use rusqlite::{Connection, Row};

use crate::base::clock::SECOND_MS;
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::import::folder::select;
use crate::server::ingest::admit::AcceptedTimes;
use crate::server::storage::{StorageError, Store};

/// Events written at once.
const AT_ONCE: usize = 1_000;

/// Columns, and what stands for those that early releases lack.
const COLUMNS: [(&str, &str); 15] = [
    ("id", "NULL"),
    ("rule_id", "''"),
    ("rule_name", "''"),
    ("agent_id", "''"),
    ("metric_name", "''"),
    ("severity", "'info'"),
    ("message", "''"),
    ("value", "0.0"),
    ("threshold", "0.0"),
    ("timestamp", "0"),
    ("predicted_breach", "NULL"),
    ("labels", "'{}'"),
    ("first_triggered_at", "NULL"),
    ("status", "NULL"),
    ("updated_at", "NULL"),
];

/// What became of events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Events that are new.
    pub new: u64,
    /// Events that were there already, which stay as they are.
    pub existing: u64,
    /// Events of days that are not kept.
    pub too_old: u64,
}

/// Brings the alert events of a file over. `names` are the rules' names by their ids.
///
/// # Errors
///
/// When the file can't be read or the store fails.
pub(super) fn run(
    store: &dyn Store,
    window: &AcceptedTimes,
    connection: &Connection,
    names: &HashMap<String, String>,
    counts: &mut Counts,
) -> Result<(), StorageError> {
    let Some(sql) = select(connection, "alert_events", &COLUMNS)? else { return Ok(()) };
    let mut query = connection.prepare(&format!("{sql} ORDER BY rowid"))?;
    let rows = query.query_map([], |row| event(row, names))?;
    let mut waiting = Vec::new();
    for row in rows {
        let event = row?;
        if window.check(event.timestamp_ms, 0.0).is_err() {
            counts.too_old += 1;
        } else if store.event(&event.id)?.is_some() {
            counts.existing += 1;
        } else {
            counts.new += 1;
            waiting.push(event);
        }
        if waiting.len() >= AT_ONCE {
            store.put_events(&waiting)?;
            waiting.clear();
        }
    }
    store.put_events(&waiting)
}

fn event(row: &Row<'_>, names: &HashMap<String, String>) -> rusqlite::Result<AlertEvent> {
    let rule_id: String = row.get(1)?;
    let mut rule_name: String = row.get(2)?;
    if rule_name.is_empty() {
        rule_name = names.get(&rule_id).cloned().unwrap_or_else(|| rule_id.clone());
    }
    let timestamp_ms: i64 = row.get(9)?;
    let severity: String = row.get(5)?;
    let labels: String = row.get(11)?;
    let status: Option<String> = row.get(13)?;
    let updated_secs: Option<i64> = row.get(14)?;
    let status = match status.as_deref() {
        Some("acknowledged") => AlertStatus::Acknowledged,
        Some("resolved") => AlertStatus::Resolved,
        _ => AlertStatus::Firing,
    };
    let ended_ms = updated_secs.map_or(timestamp_ms, |secs| secs.saturating_mul(SECOND_MS));
    Ok(AlertEvent {
        id: row.get(0)?,
        rule_id,
        rule_name,
        agent_id: row.get(3)?,
        metric_name: row.get(4)?,
        severity: severity.to_lowercase().parse().unwrap_or(Severity::Info),
        message: row.get(6)?,
        labels: Labels::from_json(&labels).unwrap_or_default(),
        value: row.get(7)?,
        threshold: row.get(8)?,
        timestamp_ms,
        predicted_breach_ms: row.get(10)?,
        first_triggered_at_ms: row.get::<_, Option<i64>>(12)?.unwrap_or(timestamp_ms),
        status,
        resolved_at_ms: (status == AlertStatus::Resolved).then_some(ended_ms.max(timestamp_ms)),
        facts: None,
    })
}
