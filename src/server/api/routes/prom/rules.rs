//! oxmon's rules and the alerts that fire, in Prometheus' form.

use serde_json::{Value, json};

use super::reply;
use crate::base::clock::rfc3339;
use crate::model::alert::AlertEvent;
use crate::server::alert::query::Health;
use crate::server::alert::rule::Rule;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;

/// Every rule that is in force, in one group for each place that rules come from.
pub(super) fn rules(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rules = call.app.alerts.rules();
    let active = call.app.alerts.active();
    let group = |origin: &str| {
        let of_origin = rules.enabled().filter(|rule| rule.origin.name() == origin);
        let health = |rule: &Rule| call.app.alerts.queries().health(&rule.id);
        let rules: Vec<Value> =
            of_origin.map(|rule| one_rule(rule, &active, health(rule))).collect();
        json!({
            "name": origin, "file": origin, "interval": 0, "limit": 0, "evaluationTime": 0,
            "lastEvaluation": rfc3339(call.now_ms), "rules": rules,
        })
    };
    let groups: Vec<Value> = ["file", "api"].into_iter().map(group).collect();
    let groups: Vec<&Value> = groups.iter().filter(|group| group["rules"] != json!([])).collect();
    reply(Ok(text(&json!({ "groups": groups }))))
}

fn one_rule(rule: &Rule, active: &[AlertEvent], health: Option<Health>) -> Value {
    let draft = &rule.draft;
    let alerts: Vec<Value> =
        active.iter().filter(|event| event.rule_id == rule.id).map(one_alert).collect();
    let state = if alerts.is_empty() { "inactive" } else { "firing" };
    let query = match rule.evaluator.query() {
        Some(query) => query.expr.to_string(),
        None => format!("{} of {} on {}", draft.rule_type, draft.metric, draft.agent_pattern),
    };
    let secs = |name: &str| draft.config.get(name).cloned().unwrap_or(json!(0));
    let mut labels = json!({ "severity": draft.severity.name() });
    if let (Some(labels), Some(Value::Object(own))) =
        (labels.as_object_mut(), draft.config.get("alert_labels"))
    {
        labels.extend(own.clone());
    }
    let annotations = match draft.config.get("message") {
        Some(message) => json!({ "summary": message }),
        None => json!({ "config": rule.config_json() }),
    };
    let mut out = json!({
        "type": "alerting", "name": draft.name, "state": state, "health": "ok", "query": query,
        "duration": secs("duration_secs"), "keepFiringFor": secs("keep_firing_secs"),
        "evaluationTime": 0, "labels": labels, "annotations": annotations, "alerts": alerts,
    });
    match health {
        Some(health) => {
            out["lastEvaluation"] = json!(rfc3339(health.at_ms));
            out["evaluationTime"] = json!(health.took.as_secs_f64());
            if let Some(error) = health.error {
                (out["health"], out["lastError"]) = (json!("err"), json!(error));
            }
        }
        None if rule.evaluator.query().is_some() => out["health"] = json!("unknown"),
        None => {}
    }
    out
}

/// The alerts that fire.
pub(super) fn alerts(call: &Call<'_>) -> Result<Reply, ApiError> {
    let alerts: Vec<Value> = call.app.alerts.active().iter().map(one_alert).collect();
    reply(Ok(text(&json!({ "alerts": alerts }))))
}

fn one_alert(event: &AlertEvent) -> Value {
    let mut labels = event.labels.to_map();
    labels.insert("alertname".to_owned(), event.rule_name.clone());
    labels.insert("agent".to_owned(), event.agent_id.clone());
    labels.insert("metric".to_owned(), event.metric_name.clone());
    labels.insert("severity".to_owned(), event.severity.name().to_owned());
    json!({
        "state": "firing", "activeAt": rfc3339(event.first_triggered_at_ms),
        "value": event.value.to_string(),
        "labels": labels, "annotations": { "summary": event.message },
    })
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
