//! Alert events in the day files.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::storage::day::Day;
use crate::server::storage::day::file;
use crate::server::storage::{EventFilter, Listing, Page, StorageError};

/// Writes an event, or replaces the one with its id.
pub(super) fn put(connection: &Connection, event: &AlertEvent) -> Result<(), rusqlite::Error> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO alert_events
           (id, rule_id, rule_name, agent_id, metric_name, severity, message, labels, value,
            threshold, timestamp, predicted_breach, first_triggered_at, status, resolved_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    put.execute(params![
        event.id,
        event.rule_id,
        event.rule_name,
        event.agent_id,
        event.metric_name,
        event.severity.name(),
        event.message,
        event.labels.to_json(),
        event.value,
        event.threshold,
        event.timestamp_ms,
        event.predicted_breach_ms,
        event.first_triggered_at_ms,
        event.status as i64,
        event.resolved_at_ms,
    ])?;
    Ok(())
}

/// Whether a day has any event.
///
/// # Errors
///
/// When the file can't be read.
pub(super) fn any(connection: &Connection, path: &Path) -> Result<bool, StorageError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM alert_events)";
    let found = connection.query_row(sql, [], |row| row.get(0));
    found.map_err(|error| file::classify(error, path))
}

const COLUMNS: &str = "id, rule_id, rule_name, agent_id, metric_name, severity, message, labels,
    value, threshold, timestamp, predicted_breach, first_triggered_at, status, resolved_at";

fn event(row: &Row<'_>) -> Result<Option<AlertEvent>, rusqlite::Error> {
    let severity: String = row.get(5)?;
    let labels: String = row.get(7)?;
    let status: i64 = row.get(13)?;
    let (Ok(severity), Some(labels), Some(status)) = (
        severity.parse::<Severity>(),
        Labels::from_json(&labels),
        AlertStatus::from_number(status),
    ) else {
        return Ok(None);
    };
    Ok(Some(AlertEvent {
        id: row.get(0)?,
        rule_id: row.get(1)?,
        rule_name: row.get(2)?,
        agent_id: row.get(3)?,
        metric_name: row.get(4)?,
        severity,
        message: row.get(6)?,
        labels,
        value: row.get(8)?,
        threshold: row.get(9)?,
        timestamp_ms: row.get(10)?,
        predicted_breach_ms: row.get(11)?,
        first_triggered_at_ms: row.get(12)?,
        status,
        resolved_at_ms: row.get(14)?,
        facts: None,
    }))
}

fn select(
    connection: &Connection,
    day: &Day,
    tail: &str,
    values: &[Value],
) -> Result<Vec<AlertEvent>, StorageError> {
    let read = || -> Result<Vec<Option<AlertEvent>>, rusqlite::Error> {
        let sql = format!("SELECT {COLUMNS} FROM alert_events {tail}");
        let mut query = connection.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(values), event)?;
        rows.collect()
    };
    let rows = read().map_err(|error| file::classify(error, &day.path))?;
    let whole = || file::damaged(&day.path, "an alert event can't be read");
    rows.into_iter().map(|row| row.ok_or_else(whole)).collect()
}

/// The event with an id, in whichever day.
pub(super) fn find(days: &[Arc<Day>], id: &str) -> Result<Option<AlertEvent>, StorageError> {
    for day in days.iter().rev().filter(|day| day.is_created()) {
        let values = [Value::Text(id.to_owned())];
        let found = day.read(|connection| select(connection, day, "WHERE id = ?1", &values))?;
        if let Some(event) = found.into_iter().next() {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// The condition of a filter, with the values of its parameters.
fn conditions(filter: &EventFilter, from: i64, to: i64) -> (String, Vec<Value>) {
    let mut wheres = vec!["timestamp >= ? AND timestamp <= ?"];
    let mut values = vec![Value::Integer(from), Value::Integer(to)];
    for (condition, value) in [
        ("agent_id = ?", &filter.agent),
        ("instr(agent_id, ?) > 0", &filter.agent_part),
        ("rule_id = ?", &filter.rule_id),
        ("instr(rule_name, ?) > 0", &filter.rule_part),
        ("metric_name = ?", &filter.metric),
        ("severity = ?", &filter.severity.map(|severity| severity.name().to_owned())),
    ] {
        if let Some(value) = value {
            wheres.push(condition);
            values.push(Value::Text(value.clone()));
        }
    }
    if let Some(status) = filter.status {
        wheres.push("status = ?");
        values.push(Value::Integer(status as i64));
    }
    (format!("WHERE {}", wheres.join(" AND ")), values)
}

/// A page of events, newest first.
pub(super) fn list(
    days: &[Arc<Day>],
    filter: &EventFilter,
    page: Page,
) -> Result<Listing<AlertEvent>, StorageError> {
    let from = filter.from_ms.unwrap_or(i64::MIN);
    let to = filter.to_ms.unwrap_or(i64::MAX);
    let (wheres, values) = conditions(filter, from, to);
    let mut out = Listing { items: Vec::new(), total: 0 };
    let mut skip = page.offset as u64;
    let touched =
        |day: &&Arc<Day>| day.start_ms() <= to && day.end_ms() >= from && day.is_created();
    for day in days.iter().rev().filter(touched) {
        let limit = page.limit - out.items.len();
        let (count, items) = day.read(|connection| {
            let sql = format!("SELECT count(*) FROM alert_events {wheres}");
            let count: i64 = connection
                .prepare_cached(&sql)
                .and_then(|mut query| query.query_row(params_from_iter(&values), |row| row.get(0)))
                .map_err(|error| file::classify(error, &day.path))?;
            let count = count.max(0) as u64;
            if limit == 0 || skip >= count {
                return Ok((count, Vec::new()));
            }
            let tail =
                format!("{wheres} ORDER BY timestamp DESC, id DESC LIMIT {limit} OFFSET {skip}");
            Ok((count, select(connection, day, &tail, &values)?))
        })?;
        out.total += count;
        skip = skip.saturating_sub(count);
        out.items.extend(items);
    }
    Ok(out)
}
