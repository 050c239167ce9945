//! Channels, recipients, silence windows, the outbox and the delivery log.
//!
//! The way of an alert through these tables, each step one transaction:
//!
//! ```text
//! state change  →  notices              (waits for its group, or for a window's end)
//! routing       →  notifications        (what is notified, once for all channels)
//!                  notification_events  (which events and agents it is about)
//!                  notification_told    (who must hear of the recovery)
//!                  outbox               (one row for each channel)
//! each attempt  →  notification_logs, and the outbox row goes or gets a later time
//! ```

pub(crate) mod channels;
pub(crate) mod logs;
pub(crate) mod outbox;
pub(crate) mod pending;
pub(crate) mod sent;
pub(crate) mod silence;

/// Times named `_ms` are Unix milliseconds, `created_at` and `updated_at` Unix seconds.
pub(crate) const SCHEMA: &str = "
CREATE TABLE notification_channels (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  channel_type TEXT NOT NULL,
  description TEXT,
  min_severity TEXT NOT NULL,
  enabled INTEGER NOT NULL,
  config_json TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE notification_recipients (
  channel_id TEXT NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  recipient TEXT NOT NULL,
  PRIMARY KEY (channel_id, position)
) WITHOUT ROWID;
CREATE TABLE silence_windows (
  id TEXT PRIMARY KEY,
  start_time TEXT NOT NULL,
  end_time TEXT NOT NULL,
  recurrence TEXT,
  days TEXT,
  date TEXT,
  end_date TEXT,
  time_zone TEXT,
  agent_pattern TEXT,
  metric_pattern TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE notices (
  id INTEGER PRIMARY KEY,
  alert_key TEXT NOT NULL,
  rule_id TEXT NOT NULL,
  severity TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  due_ms INTEGER NOT NULL,
  event TEXT NOT NULL
);
CREATE INDEX notices_due ON notices (due_ms);
CREATE INDEX notices_key ON notices (alert_key);
CREATE INDEX notices_group ON notices (rule_id, severity, kind);
CREATE TABLE notifications (
  id TEXT PRIMARY KEY,
  rule_id TEXT NOT NULL,
  rule_name TEXT NOT NULL,
  severity TEXT NOT NULL,
  kind TEXT NOT NULL,
  events TEXT NOT NULL,
  created_ms INTEGER NOT NULL
);
CREATE TABLE notification_events (
  notification_id TEXT NOT NULL REFERENCES notifications(id) ON DELETE CASCADE,
  event_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  PRIMARY KEY (notification_id, event_id)
) WITHOUT ROWID;
CREATE INDEX notification_events_event ON notification_events (event_id);
CREATE INDEX notification_events_agent ON notification_events (agent_id);
CREATE TABLE notification_told (
  alert_key TEXT NOT NULL,
  channel_id TEXT NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
  PRIMARY KEY (alert_key, channel_id)
) WITHOUT ROWID;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  channel_id TEXT NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
  notification_id TEXT NOT NULL REFERENCES notifications(id),
  rule_id TEXT NOT NULL,
  due_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  served TEXT NOT NULL DEFAULT '[]',
  created_ms INTEGER NOT NULL
);
CREATE INDEX outbox_due ON outbox (due_ms);
CREATE INDEX outbox_channel ON outbox (channel_id);
CREATE INDEX outbox_order ON outbox (channel_id, rule_id, id);
CREATE INDEX outbox_notification ON outbox (notification_id);
CREATE TABLE notification_logs (
  id TEXT PRIMARY KEY,
  notification_id TEXT,
  alert_event_id TEXT NOT NULL,
  rule_id TEXT NOT NULL,
  rule_name TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  channel_name TEXT NOT NULL,
  channel_type TEXT NOT NULL,
  severity TEXT NOT NULL,
  status TEXT NOT NULL,
  error_message TEXT,
  duration_ms INTEGER NOT NULL,
  recipient_count INTEGER NOT NULL,
  retry_count INTEGER NOT NULL,
  http_status_code INTEGER,
  request_body TEXT,
  response_body TEXT,
  recipient_details TEXT,
  api_message_id TEXT,
  api_error_code TEXT,
  created_at_ms INTEGER NOT NULL
);
CREATE INDEX notification_logs_at ON notification_logs (created_at_ms);
CREATE INDEX notification_logs_event ON notification_logs (alert_event_id);
CREATE INDEX notification_logs_notification ON notification_logs (notification_id);
";

/// Silences from a moment to another, with a comment and who made them.
pub(crate) const SCHEMA_SILENCES: &str = "
ALTER TABLE silence_windows ADD COLUMN starts_at_ms INTEGER;
ALTER TABLE silence_windows ADD COLUMN ends_at_ms INTEGER;
ALTER TABLE silence_windows ADD COLUMN comment TEXT;
ALTER TABLE silence_windows ADD COLUMN created_by TEXT;
";

/// What version 2 adds: what was really sent of each alert, and which recipients missed a firing.
pub(crate) const SCHEMA_2: &str = "
CREATE TABLE notification_sent (
  alert_key TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  severity TEXT NOT NULL,
  sent_ms INTEGER NOT NULL,
  recovered_ms INTEGER
) WITHOUT ROWID;
CREATE TABLE notification_missed (
  alert_key TEXT NOT NULL,
  channel_id TEXT NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
  recipient TEXT NOT NULL,
  PRIMARY KEY (alert_key, channel_id, recipient)
) WITHOUT ROWID;
";
