//! Channels, recipients, silence windows, the outbox and the delivery log.

/// An outbox row is one notification for one channel; it goes when the delivery has succeeded or
/// its time is up, and each attempt leaves a row in `notification_logs`.
pub const SCHEMA: &str = "
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
  time_zone TEXT,
  agent_pattern TEXT,
  metric_pattern TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE outbox (
  id TEXT PRIMARY KEY,
  channel_id TEXT,
  rule_id TEXT NOT NULL,
  severity TEXT NOT NULL,
  kind TEXT NOT NULL,
  event_id TEXT NOT NULL,
  payload TEXT NOT NULL,
  state TEXT NOT NULL,
  due_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  created_ms INTEGER NOT NULL
);
CREATE INDEX outbox_due ON outbox (state, due_ms);
CREATE TABLE notification_logs (
  id TEXT PRIMARY KEY,
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
";
