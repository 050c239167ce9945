//! An alert's event: what a rule said about one series at one time.

use crate::model::series::Labels;
use crate::model::severity::Severity;

/// Where an alert stands. The numbers are those of the API and the database
/// (docs/compatibility.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum AlertStatus {
    /// It holds, and nobody has said that they know.
    Firing = 1,
    /// It holds, and somebody knows.
    Acknowledged = 2,
    /// It no longer holds.
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

/// One row of the alert history. It lives in the day file of its `timestamp_ms`.
#[derive(Debug, Clone, PartialEq)]
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
    /// The value that decided.
    pub value: f64,
    /// What it was held against.
    pub threshold: f64,
    /// When it fired or resolved, Unix milliseconds.
    pub timestamp_ms: i64,
    /// When a trend is expected to breach, Unix milliseconds.
    pub predicted_breach_ms: Option<i64>,
    /// When the condition first held, Unix milliseconds.
    pub first_triggered_at_ms: i64,
    /// Where it stands.
    pub status: AlertStatus,
    /// When it was resolved, Unix milliseconds.
    pub resolved_at_ms: Option<i64>,
}
