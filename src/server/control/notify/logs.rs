//! The delivery log: one row for each attempt and each notification that a window held back.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};

use crate::server::storage::{Listing, Page};

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Every recipient has it.
    Success,
    /// Somebody has it not.
    Failed,
    /// A silence window held it back.
    Suppressed,
}

impl Status {
    /// The names on the wire and in the database.
    pub(crate) const NAMES: [&'static str; 3] = ["success", "failed", "suppressed"];

    /// The name on the wire and in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Suppressed => "suppressed",
        }
    }
}

/// One row. Texts are cut to their limits and hold no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/api-reference.md documents the fields of Delivery")]
pub(crate) struct LogRow {
    pub id: String,
    pub notification_id: Option<String>,
    pub alert_event_id: String,
    pub rule_id: String,
    pub rule_name: String,
    pub agent_id: String,
    pub channel_id: String,
    pub channel_name: String,
    pub channel_type: String,
    pub severity: String,
    pub status: String,
    pub error_message: Option<String>,
    pub duration_ms: i64,
    pub recipient_count: i64,
    pub retry_count: i64,
    pub http_status_code: Option<i64>,
    pub request_body: Option<String>,
    pub response_body: Option<String>,
    pub recipient_details: Option<String>,
    pub api_message_id: Option<String>,
    pub api_error_code: Option<String>,
    pub created_at_ms: i64,
}

const COLUMNS: &str = "id, notification_id, alert_event_id, rule_id, rule_name, agent_id, \
    channel_id, channel_name, channel_type, severity, status, error_message, duration_ms, \
    recipient_count, retry_count, http_status_code, request_body, response_body, \
    recipient_details, api_message_id, api_error_code, created_at_ms";

fn from_row(row: &Row<'_>) -> Result<LogRow, rusqlite::Error> {
    Ok(LogRow {
        id: row.get(0)?,
        notification_id: row.get(1)?,
        alert_event_id: row.get(2)?,
        rule_id: row.get(3)?,
        rule_name: row.get(4)?,
        agent_id: row.get(5)?,
        channel_id: row.get(6)?,
        channel_name: row.get(7)?,
        channel_type: row.get(8)?,
        severity: row.get(9)?,
        status: row.get(10)?,
        error_message: row.get(11)?,
        duration_ms: row.get(12)?,
        recipient_count: row.get(13)?,
        retry_count: row.get(14)?,
        http_status_code: row.get(15)?,
        request_body: row.get(16)?,
        response_body: row.get(17)?,
        recipient_details: row.get(18)?,
        api_message_id: row.get(19)?,
        api_error_code: row.get(20)?,
        created_at_ms: row.get(21)?,
    })
}

/// Writes a row.
pub(crate) fn insert(tx: &Transaction<'_>, row: &LogRow) -> Result<(), rusqlite::Error> {
    let marks: Vec<String> = (1..=22).map(|index| format!("?{index}")).collect();
    let sql = format!("INSERT INTO notification_logs ({COLUMNS}) VALUES ({})", marks.join(", "));
    tx.prepare_cached(&sql)?.execute(params![
        row.id,
        row.notification_id,
        row.alert_event_id,
        row.rule_id,
        row.rule_name,
        row.agent_id,
        row.channel_id,
        row.channel_name,
        row.channel_type,
        row.severity,
        row.status,
        row.error_message,
        row.duration_ms,
        row.recipient_count,
        row.retry_count,
        row.http_status_code,
        row.request_body,
        row.response_body,
        row.recipient_details,
        row.api_message_id,
        row.api_error_code,
        row.created_at_ms,
    ])?;
    Ok(())
}

/// Which rows a list is about. `None` means any; times are inclusive Unix milliseconds. An event
/// or an agent is found in whatever notification lists it.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "named as the columns that they are held against")]
pub(crate) struct LogFilter {
    pub channel_id: Option<String>,
    pub channel_type: Option<String>,
    pub status: Option<String>,
    pub alert_event_id: Option<String>,
    pub rule_id: Option<String>,
    pub agent_id: Option<String>,
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
}

impl LogFilter {
    fn sql(&self) -> (String, Vec<Value>) {
        let about = |column: &str, own: &str| {
            format!(
                "({own} = ? OR notification_id IN
                   (SELECT notification_id FROM notification_events WHERE {column} = ?))"
            )
        };
        let exact = |column: &str| format!("{column} = ?");
        let conditions = [
            (&self.channel_id, exact("channel_id"), 1),
            (&self.channel_type, exact("channel_type"), 1),
            (&self.status, exact("status"), 1),
            (&self.rule_id, exact("rule_id"), 1),
            (&self.alert_event_id, about("event_id", "alert_event_id"), 2),
            (&self.agent_id, about("agent_id", "agent_id"), 2),
        ];
        let mut sql = String::from("1");
        let mut values = Vec::new();
        for (value, condition, times) in conditions {
            let Some(value) = value else { continue };
            sql.push_str(" AND ");
            sql.push_str(&condition);
            values.extend((0..times).map(|_| Value::Text(value.clone())));
        }
        for (time, condition) in [(self.from_ms, ">="), (self.to_ms, "<=")] {
            let Some(time) = time else { continue };
            sql.push_str(&format!(" AND created_at_ms {condition} ?"));
            values.push(Value::Integer(time));
        }
        (sql, values)
    }
}

/// Rows, newest first.
pub(crate) fn list(
    db: &Connection,
    filter: &LogFilter,
    page: Page,
) -> Result<Listing<LogRow>, rusqlite::Error> {
    let (condition, mut values) = filter.sql();
    let sql = format!("SELECT COUNT(*) FROM notification_logs WHERE {condition}");
    let total =
        db.query_row(&sql, params_from_iter(&values), |row| row.get(0)).map(i64::unsigned_abs)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM notification_logs WHERE {condition}
         ORDER BY created_at_ms DESC, id DESC LIMIT ? OFFSET ?"
    );
    values.extend([Value::Integer(page.limit as i64), Value::Integer(page.offset as i64)]);
    let mut query = db.prepare(&sql)?;
    let items = query.query_map(params_from_iter(&values), from_row)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total })
}

/// Number of rows by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/api-reference.md names them")]
pub(crate) struct LogSummary {
    pub total: u64,
    pub success: u64,
    pub failed: u64,
    pub suppressed: u64,
}

/// Rows counted.
pub(crate) fn summary(db: &Connection, filter: &LogFilter) -> Result<LogSummary, rusqlite::Error> {
    let (condition, values) = filter.sql();
    let sql = format!(
        "SELECT COUNT(*), TOTAL(status = 'success'), TOTAL(status = 'failed'),
           TOTAL(status = 'suppressed') FROM notification_logs WHERE {condition}"
    );
    db.query_row(&sql, params_from_iter(&values), |row| {
        let count = |index: usize| row.get::<_, f64>(index).map(|number| number as u64);
        Ok(LogSummary {
            total: row.get::<_, i64>(0)?.unsigned_abs(),
            success: count(1)?,
            failed: count(2)?,
            suppressed: count(3)?,
        })
    })
}

/// Removes rows from before `before_ms`, and notifications that nothing needs any more, a part of
/// them at a time so that other writers get their turn; gives how many rows went.
pub(crate) fn purge(tx: &Transaction<'_>, before_ms: i64) -> Result<usize, rusqlite::Error> {
    let logs = tx.execute(
        "DELETE FROM notification_logs WHERE id IN
           (SELECT id FROM notification_logs WHERE created_at_ms < ?1 LIMIT 2000)",
        [before_ms],
    )?;
    let notifications = tx.execute(
        "DELETE FROM notifications WHERE id IN (
           SELECT id FROM notifications n WHERE n.created_ms < ?1
           AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.notification_id = n.id)
           AND NOT EXISTS (SELECT 1 FROM notification_logs l WHERE l.notification_id = n.id)
           LIMIT 200)",
        [before_ms],
    )?;
    Ok(logs + notifications)
}
