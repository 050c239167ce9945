//! Alert rules made over the API or from a seed, and the state of every alert.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use serde::{Deserialize, Serialize};

/// `alert_state` is one row for each (rule, agent, labels) that is not simply ok. `alert_journal`
/// holds events between the transaction that decided them and their copy in a day file.
pub(crate) const SCHEMA: &str = "
CREATE TABLE alert_rules (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  rule_type TEXT NOT NULL,
  metric TEXT NOT NULL,
  agent_pattern TEXT NOT NULL,
  severity TEXT NOT NULL,
  enabled INTEGER NOT NULL,
  config_json TEXT NOT NULL,
  silence_secs INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE alert_state (
  rule_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  labels TEXT NOT NULL,
  state TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  event_id TEXT,
  last_notified_ms INTEGER,
  acknowledged INTEGER NOT NULL DEFAULT 0,
  detail TEXT,
  updated_ms INTEGER NOT NULL,
  PRIMARY KEY (rule_id, agent_id, metric, labels)
) WITHOUT ROWID;
CREATE TABLE alert_journal (
  event_id TEXT PRIMARY KEY,
  event TEXT NOT NULL
);
CREATE TABLE alert_watermark (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  at_ms INTEGER NOT NULL
);
";

/// A rule as it is in the table; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of alert_rules")]
pub(crate) struct RuleRow {
    pub id: String,
    pub name: String,
    pub rule_type: String,
    pub metric: String,
    pub agent_pattern: String,
    pub severity: String,
    pub enabled: bool,
    pub config_json: String,
    pub silence_secs: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

/// Every stored rule, oldest first.
pub(crate) fn rules(db: &Connection) -> Result<Vec<RuleRow>> {
    let mut query = db.prepare_cached(
        "SELECT id, name, rule_type, metric, agent_pattern, severity, enabled, config_json,
                silence_secs, created_at, updated_at
         FROM alert_rules ORDER BY created_at, id",
    )?;
    let rows = query.query_map([], |row| {
        Ok(RuleRow {
            id: row.get(0)?,
            name: row.get(1)?,
            rule_type: row.get(2)?,
            metric: row.get(3)?,
            agent_pattern: row.get(4)?,
            severity: row.get(5)?,
            enabled: row.get(6)?,
            config_json: row.get(7)?,
            silence_secs: row.get(8)?,
            created_at: row.get(9)?,
            updated_at: row.get(10)?,
        })
    })?;
    rows.collect()
}

/// Writes a rule, or replaces the one with its id.
///
/// # Errors
///
/// When the database fails, or another rule has the name.
pub(crate) fn put_rule(tx: &Connection, row: &RuleRow) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO alert_rules VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET name = ?2, rule_type = ?3, metric = ?4,
           agent_pattern = ?5, severity = ?6, enabled = ?7, config_json = ?8, silence_secs = ?9,
           updated_at = ?11",
    )?
    .execute(params![
        row.id,
        row.name,
        row.rule_type,
        row.metric,
        row.agent_pattern,
        row.severity,
        row.enabled,
        row.config_json,
        row.silence_secs,
        row.created_at,
        row.updated_at
    ])
    .map(drop)
}

/// Removes a rule; true when it was there.
pub(crate) fn drop_rule(tx: &Connection, id: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM alert_rules WHERE id = ?1", [id])? > 0)
}

/// Whether a rule of another id has this name.
pub(crate) fn name_taken(db: &Connection, name: &str, by_other_than: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM alert_rules WHERE name = ?1 AND id <> ?2)";
    db.query_row(sql, [name, by_other_than], |row| row.get(0))
}

/// The state of one alert; times are Unix milliseconds. As JSON it goes to other servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRow {
    /// The rule, agent, metric and labels (as JSON) that it is about.
    pub key: [String; 4],
    /// `ok`, `pending`, `firing` or `closed`.
    pub state: String,
    /// Since when the condition holds.
    pub since_ms: i64,
    /// The event that fired.
    pub event_id: Option<String>,
    /// When somebody was last notified of it.
    pub last_notified_ms: Option<i64>,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
    /// The event that fired, as JSON.
    pub detail: Option<String>,
    /// The time of the newest point that was evaluated when this was written.
    pub updated_ms: i64,
}

/// What an engine knows of an alert: times in Unix milliseconds, 0 where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    /// The rule, agent, metric and labels (as JSON).
    pub key: [String; 4],
    /// Since when it is pending.
    pub pending_since_ms: i64,
    /// Since when the condition of a firing alert holds.
    pub firing_since_ms: i64,
    /// When it fired.
    pub fired_ms: i64,
    /// When it was last notified, as the rule asks for it.
    pub notified_ms: i64,
    /// Whether that was sent.
    pub is_sent: bool,
    /// The value that fired.
    pub value: f64,
    /// What it was held against.
    pub threshold: f64,
    /// How bad it is: 1 to 3.
    pub severity: u8,
    /// The newest time that was evaluated.
    pub evaluated_ms: i64,
}

/// The state of every alert that is not simply ok.
pub(crate) fn states(db: &Connection) -> Result<Vec<StateRow>> {
    let mut query = db.prepare_cached(
        "SELECT rule_id, agent_id, metric, labels, state, since_ms, event_id, last_notified_ms,
                acknowledged, detail, updated_ms FROM alert_state",
    )?;
    let rows = query.query_map([], |row| {
        Ok(StateRow {
            key: [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?],
            state: row.get(4)?,
            since_ms: row.get(5)?,
            event_id: row.get(6)?,
            last_notified_ms: row.get(7)?,
            acknowledged: row.get(8)?,
            detail: row.get(9)?,
            updated_ms: row.get(10)?,
        })
    })?;
    rows.collect()
}

/// Writes the state of an alert.
pub(crate) fn put_state(tx: &Connection, row: &StateRow) -> Result<()> {
    let [rule, agent, metric, labels] = &row.key;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO alert_state VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        rule,
        agent,
        metric,
        labels,
        row.state,
        row.since_ms,
        row.event_id,
        row.last_notified_ms,
        row.acknowledged,
        row.detail,
        row.updated_ms
    ])
    .map(drop)
}

/// Forgets an alert that is simply ok.
pub(crate) fn drop_state(
    tx: &Connection,
    [rule, agent, metric, labels]: &[String; 4],
) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM alert_state
         WHERE rule_id = ?1 AND agent_id = ?2 AND metric = ?3 AND labels = ?4",
    )?
    .execute([rule, agent, metric, labels])
    .map(drop)
}

/// Forgets alerts that have been ok since before `before_ms`.
pub(crate) fn prune_states(tx: &Connection, before_ms: i64) -> Result<usize> {
    tx.execute("DELETE FROM alert_state WHERE state = 'ok' AND updated_ms < ?1", [before_ms])
}

/// Notes an event that must be copied to its day file; a newer version replaces an older.
pub(crate) fn put_journal(tx: &Connection, id: &str, event: &str) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO alert_journal VALUES (?1, ?2)")?
        .execute([id, event])
        .map(drop)
}

/// Events that must be copied: id and JSON, `limit` at the most.
pub(crate) fn journal(db: &Connection, limit: usize) -> Result<Vec<(String, String)>> {
    let mut query =
        db.prepare_cached("SELECT event_id, event FROM alert_journal ORDER BY rowid LIMIT ?1")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// An event that has not been copied yet, as JSON.
pub(crate) fn journalled(db: &Connection, id: &str) -> Result<Option<String>> {
    let sql = "SELECT event FROM alert_journal WHERE event_id = ?1";
    db.query_row(sql, [id], |row| row.get(0)).optional()
}

/// Removes an event that has been copied, unless it has changed since.
pub(crate) fn drop_journal(tx: &Connection, id: &str, event: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM alert_journal WHERE event_id = ?1 AND event = ?2")?
        .execute([id, event])
        .map(drop)
}

/// Until when every stored point has been evaluated, Unix milliseconds.
pub(crate) fn watermark(db: &Connection) -> Result<Option<i64>> {
    db.query_row("SELECT at_ms FROM alert_watermark", [], |row| row.get(0)).optional()
}

/// Says until when every stored point has been evaluated.
pub(crate) fn put_watermark(tx: &Connection, at_ms: i64) -> Result<()> {
    tx.execute("INSERT OR REPLACE INTO alert_watermark VALUES (1, ?1)", [at_ms]).map(drop)
}
