//! Events and states as they stand in `cert.db`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::{Labels, SeriesKey};
use crate::model::severity::Severity;

/// An event as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct EventJson {
    id: String,
    rule_id: String,
    rule_name: String,
    agent_id: String,
    metric_name: String,
    severity: Severity,
    message: String,
    labels: BTreeMap<String, String>,
    value: f64,
    threshold: f64,
    timestamp_ms: i64,
    predicted_breach_ms: Option<i64>,
    first_triggered_at_ms: i64,
    status: i64,
    resolved_at_ms: Option<i64>,
}

/// An event as JSON. Its numbers are those of points and rules, which are finite.
pub fn to_json(event: &AlertEvent) -> String {
    let event = event.clone();
    let json = EventJson {
        id: event.id,
        rule_id: event.rule_id,
        rule_name: event.rule_name,
        agent_id: event.agent_id,
        metric_name: event.metric_name,
        severity: event.severity,
        message: event.message,
        labels: event.labels.to_map(),
        value: event.value,
        threshold: event.threshold,
        timestamp_ms: event.timestamp_ms,
        predicted_breach_ms: event.predicted_breach_ms,
        first_triggered_at_ms: event.first_triggered_at_ms,
        status: event.status as i64,
        resolved_at_ms: event.resolved_at_ms,
    };
    // Plain data always serialises.
    serde_json::to_string(&json).unwrap_or_default()
}

/// An event from its JSON; `None` for anything else.
pub fn from_json(text: &str) -> Option<AlertEvent> {
    let json: EventJson = serde_json::from_str(text).ok()?;
    Some(AlertEvent {
        id: json.id,
        rule_id: json.rule_id,
        rule_name: json.rule_name,
        agent_id: json.agent_id,
        metric_name: json.metric_name,
        severity: json.severity,
        message: json.message,
        labels: Labels::from_pairs(json.labels),
        value: json.value,
        threshold: json.threshold,
        timestamp_ms: json.timestamp_ms,
        predicted_breach_ms: json.predicted_breach_ms,
        first_triggered_at_ms: json.first_triggered_at_ms,
        status: AlertStatus::from_number(json.status)?,
        resolved_at_ms: json.resolved_at_ms,
    })
}

/// Whether an event says that an alert is over, rather than that one began.
pub fn is_recovery(event: &AlertEvent) -> bool {
    event.status == AlertStatus::Resolved && event.resolved_at_ms == Some(event.timestamp_ms)
}

/// The key of an alert's row.
pub fn row_key(rule_id: &str, key: &SeriesKey) -> [String; 4] {
    [rule_id.to_owned(), key.agent.to_string(), key.metric.to_string(), key.labels.to_json()]
}

/// The series of an alert's row; `None` when its labels can't be read.
pub fn series_of([_, agent, metric, labels]: &[String; 4]) -> Option<SeriesKey> {
    let labels = Labels::from_json(labels)?;
    Some(SeriesKey { agent: agent.as_str().into(), metric: metric.as_str().into(), labels })
}
