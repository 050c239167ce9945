//! An alert's event: what a rule found on one series at one time.

use serde::{Deserialize, Deserializer, Serialize};

use crate::base::ids::stable_id;
use crate::model::series::Labels;
use crate::model::severity::Severity;

/// The state of an alert. The numbers are those of the API and the databases
/// (docs/compatibility.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i64", try_from = "i64")]
#[repr(i64)]
pub enum AlertStatus {
    /// The condition holds, and nobody has acknowledged it.
    Firing = 1,
    /// The condition holds, and somebody has acknowledged it.
    Acknowledged = 2,
    /// The alert has ended.
    Resolved = 3,
}

impl AlertStatus {
    /// The status with this number.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Firing),
            2 => Some(Self::Acknowledged),
            3 => Some(Self::Resolved),
            _ => None,
        }
    }
}

impl From<AlertStatus> for i64 {
    fn from(status: AlertStatus) -> Self {
        status as Self
    }
}

impl TryFrom<i64> for AlertStatus {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        Self::from_number(number).ok_or_else(|| format!("unknown alert status {number}"))
    }
}

/// How a value compares with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Greater.
    Over,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Under,
    /// Less or equal.
    AtMost,
}

/// What makes an alert fire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Cause {
    /// A value beyond its threshold.
    Threshold {
        /// On which side of it.
        relation: Relation,
    },
    /// A change of more percent than the threshold.
    Change {
        /// The value at the window's start.
        from: f64,
        /// The window, milliseconds.
        window_ms: i64,
    },
    /// A trend that reaches the threshold.
    Trend,
    /// A certificate with few days left.
    CertExpiry,
    /// A certificate that is not valid.
    CertInvalid {
        /// What its check found.
        reason: String,
    },
    /// No report for too many seconds.
    NoData {
        /// How far the agent's clock is ahead of the server's, milliseconds, where it is wrong.
        clock_ahead_ms: Option<i64>,
    },
    /// A PromQL expression that gives a result.
    Query {
        /// The expression, shortened.
        expr: String,
        /// The rule's own message, filled in.
        text: Option<String>,
    },
    /// Nothing: someone tries a channel.
    Test {
        /// The channel's name.
        channel: String,
    },
}

/// How an alert ended without a value that recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A person resolved it.
    By(String),
    /// Its rule, series or agent is gone.
    Because(String),
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// CPU time, 100 for each core that is fully used.
    Cpu,
    /// Resident memory, bytes.
    Memory,
    /// Bytes read and written a second.
    Io,
}

/// The process that uses the most of what an alert is about.
#[derive(Debug, Clone, PartialEq)]
pub struct TopProcess {
    /// Of what.
    pub of: Usage,
    /// How much of it.
    pub used: f64,
    /// Its name.
    pub name: String,
    /// Its id.
    pub pid: u32,
    /// Whose it is.
    pub user: String,
}

/// What a message says, in parts, so that a notification can be worded in any language. Pending
/// notifications and `cert.db` have it; the history keeps the message alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Why it fires or fired.
    pub cause: Cause,
    /// How it ended; `None` while it fires, and after a recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The process that uses the most, where a snapshot of the host is stored; looked up for each
    /// attempt to notify.
    #[serde(skip)]
    pub process: Option<TopProcess>,
}

/// One row of the alert history, kept in the day file of its `timestamp_ms`. As JSON it is also
/// what `cert.db` holds of it: in `alert_state`, in `alert_journal`, and in the notifications that
/// are pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// Unique id.
    pub id: String,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's name when it fired.
    pub rule_name: String,
    /// The agent.
    pub agent_id: String,
    /// The metric.
    pub metric_name: String,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence for people.
    pub message: String,
    /// The series' labels.
    pub labels: Labels,
    /// The value that was evaluated. NaN, which is null in JSON, where it was not finite.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// What the value was compared with; NaN as for `value`.
    #[serde(deserialize_with = "number")]
    pub threshold: f64,
    /// When it fired or ended, Unix milliseconds.
    pub timestamp_ms: i64,
    /// When a trend is expected to breach, Unix milliseconds.
    pub predicted_breach_ms: Option<i64>,
    /// Since when the condition held, Unix milliseconds.
    pub first_triggered_at_ms: i64,
    /// The alert's state. Pending notifications of older versions leave it out.
    #[serde(default = "firing")]
    pub status: AlertStatus,
    /// When it ended, Unix milliseconds.
    #[serde(default)]
    pub resolved_at_ms: Option<i64>,
    /// What the message says, in parts. Older versions, and rows of the history, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Box<Facts>>,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn firing() -> AlertStatus {
    AlertStatus::Firing
}

impl AlertEvent {
    /// The event as JSON.
    pub fn to_json(&self) -> String {
        // Plain data always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The event from its JSON; `None` for anything else.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether this is the event of an alert's end. The event that fired stays another one.
    pub fn is_recovery(&self) -> bool {
        self.status == AlertStatus::Resolved && self.resolved_at_ms == Some(self.timestamp_ms)
    }

    /// The alert that the event belongs to: rule, agent, metric and labels, hashed. Severity is
    /// not part of it, so an alert that escalates stays the same alert.
    pub fn alert_key(&self) -> String {
        stable_id(&[&self.rule_id, &self.agent_id, &self.metric_name, &self.labels.to_json()])
    }

    /// `disk.used_percent{mount="/"}`
    pub fn series(&self) -> String {
        if self.labels.is_empty() {
            return self.metric_name.clone();
        }
        format!("{}{{{}}}", self.metric_name, self.labels)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What `alert_state.detail` and `alert_journal.event` have held since the first release.
    const STORED: &str = r#"{"id":"e1","rule_id":"r1","rule_name":"Disk full","agent_id":"web-1","metric_name":"disk.used_percent","severity":"critical","message":"96.5, over 90","labels":{"disk":"sda","mount":"/"},"value":96.5,"threshold":90.0,"timestamp_ms":1770625800000,"predicted_breach_ms":null,"first_triggered_at_ms":1770625740000,"status":1,"resolved_at_ms":null}"#;
    /// What `notices.event` and `notifications.events` have held: without the last two, and with
    /// null for numbers that are not finite.
    const PENDING: &str = r#"{"id":"e1","rule_id":"r1","rule_name":"Disk full","agent_id":"web-1","metric_name":"disk.used_percent","severity":"critical","message":"96.5, over 90","labels":{"disk":"sda","mount":"/"},"value":null,"threshold":90.0,"timestamp_ms":1770625800000,"predicted_breach_ms":1770629400000,"first_triggered_at_ms":1770625740000}"#;

    fn event() -> AlertEvent {
        AlertEvent {
            id: "e1".to_owned(),
            rule_id: "r1".to_owned(),
            rule_name: "Disk full".to_owned(),
            agent_id: "web-1".to_owned(),
            metric_name: "disk.used_percent".to_owned(),
            severity: Severity::Critical,
            message: "96.5, over 90".to_owned(),
            labels: Labels::from_pairs([("mount", "/"), ("disk", "sda")]),
            value: 96.5,
            threshold: 90.0,
            timestamp_ms: 1_770_625_800_000,
            predicted_breach_ms: None,
            first_triggered_at_ms: 1_770_625_740_000,
            status: AlertStatus::Firing,
            resolved_at_ms: None,
            facts: None,
        }
    }

    #[test]
    fn facts_are_stored_beside_the_message() {
        let cause = Cause::Threshold { relation: Relation::Over };
        let facts = Facts {
            cause,
            end: Some(End::Because("the rule was deleted".to_owned())),
            process: None,
        };
        let told = AlertEvent { facts: Some(Box::new(facts)), ..event() };
        let text = told.to_json();
        let wanted = r#""facts":{"cause":{"type":"threshold","relation":"over"},"end":{"because":"the rule was deleted"}}}"#;
        assert!(text.ends_with(wanted), "{text}");
        assert_eq!(AlertEvent::from_json(&text), Some(told));
    }

    #[test]
    fn the_stored_json_stays_what_it_is() {
        assert_eq!(event().to_json(), STORED);
        assert_eq!(AlertEvent::from_json(STORED), Some(event()));
        let resolved = AlertEvent {
            status: AlertStatus::Resolved,
            resolved_at_ms: Some(1_770_625_800_000),
            ..event()
        };
        let text = resolved.to_json();
        assert!(text.ends_with(r#""status":3,"resolved_at_ms":1770625800000}"#), "{text}");
        assert!(resolved.is_recovery() && !event().is_recovery());
        assert_eq!(AlertEvent::from_json(&STORED.replace(":1,\"res", ":4,\"res")), None);
        assert_eq!(AlertEvent::from_json("{}"), None);
    }

    #[test]
    fn pending_notifications_of_older_versions_are_read() {
        let read = AlertEvent::from_json(PENDING).unwrap();
        assert!(read.value.is_nan());
        assert_eq!((read.status, read.resolved_at_ms), (AlertStatus::Firing, None));
        assert_eq!(read.predicted_breach_ms, Some(1_770_629_400_000));
        assert!(read.to_json().contains(r#""value":null,"threshold":90.0"#));
        assert_eq!(read.alert_key(), event().alert_key());
    }
}
