//! Alert rules made over the API or from a seed, and where every alert stands.

/// `alert_state` is one row for each (rule, agent, labels) that is not simply ok. `alert_journal`
/// holds events between the transaction that decided them and their copy in a day file.
pub const SCHEMA: &str = "
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
";
