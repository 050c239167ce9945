#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn build(value: Value) -> Result<Rule, FieldError> {
    let draft = Draft::from_map(value.as_object().unwrap())?;
    Rule::build("r".to_owned(), draft, Origin::Api, (1, 1))
}

fn base() -> Value {
    json!({
        "name": "full", "type": "threshold", "metric": "disk.used_percent",
        "operator": "greater_than", "value": 90,
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut rule = base();
    rule[field] = value;
    rule
}

fn key(agent: &str, metric: &str, labels: Labels) -> SeriesKey {
    SeriesKey { agent: agent.into(), metric: metric.into(), labels }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let rule = build(base()).unwrap();
    let draft = &rule.draft;
    assert_eq!(draft.agent_pattern, "*");
    assert_eq!((draft.severity, draft.enabled), (Severity::Warning, true));
    assert_eq!(draft.silence_secs, 600);
    assert_eq!(rule.config_json(), r#"{"operator":"greater_than","value":90}"#);
}

#[test]
fn config_json_is_an_object_or_a_string_that_holds_one() {
    let config = json!({"operator": "less_than", "value": 5, "duration_secs": 60});
    let rule = |config: Value| json!({"name": "n", "rule_type": "threshold", "metric": "m", "config_json": config});
    let object = build(rule(config.clone())).unwrap();
    let text = build(rule(json!(config.to_string()))).unwrap();
    assert!(object.evaluates_like(&text));
    let error = build(rule(json!("[1]"))).unwrap_err();
    assert_eq!(error.field, "config_json");
    let mut both = rule(config);
    both["value"] = json!(6);
    assert_eq!(build(both).unwrap_err().field, "value");
}

#[test]
fn patterns_narrow_agents_and_labels() {
    let mut rule = with("labels", json!({"mount": "/data*"}));
    rule["agent_pattern"] = json!("web-*");
    let rule = build(rule).unwrap();
    let data = || Labels::one("mount", "/data/a/b");
    assert!(rule.wants(&key("web-1", "disk.used_percent", data())));
    assert!(!rule.wants(&key("db-1", "disk.used_percent", data())));
    assert!(!rule.wants(&key("web-1", "disk.total", data())));
    assert!(!rule.wants(&key("web-1", "disk.used_percent", Labels::one("mount", "/"))));
    assert!(!rule.wants(&key("web-1", "disk.used_percent", Labels::none())));
}

#[test]
fn what_can_not_work_is_refused_by_field() {
    let refused = |field: &str, value: Value| build(with(field, value)).unwrap_err().field;
    for (field, value) in [
        ("name", json!("")),
        ("agent_pattern", json!("")),
        ("agent_pattern", json!("web-[")),
        ("agent_pattern", json!(5)),
        ("metric", json!("")),
        ("metric", json!("*")),
        ("metric", json!("cpu.*")),
        ("severity", json!("fatal")),
        ("enabled", json!("yes")),
        ("silence_secs", json!(-1)),
        ("operator", json!("above")),
        ("duration_secs", json!(-1)),
        ("labels", json!("x")),
        ("name", json!("a\nb")),
    ] {
        assert_eq!(refused(field, value.clone()), field, "{value}");
    }
    assert_eq!(refused("labels", json!({"mount": "["})), "labels.mount");
    assert_eq!(refused("type", json!("magic")), "rule_type");
    assert_eq!(refused("values", json!(1)), "values");
    assert_eq!(refused("rule_type", json!("threshold")), "type");
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let draft = build(base()).unwrap().draft;
    let changes = json!({"severity": "critical"});
    let changed = draft.changed(changes.as_object().unwrap()).unwrap();
    assert_eq!(changed.severity, Severity::Critical);
    assert_eq!(changed.config, draft.config);
    let changes = json!({"config_json": {"operator": "less_than", "value": 1}});
    let changed = draft.changed(changes.as_object().unwrap()).unwrap();
    assert_eq!(changed.config.get("operator"), Some(&json!("less_than")));
    assert_eq!(changed.name, draft.name);
}

#[test]
fn the_certificate_checker_is_no_silent_host() {
    let rule = json!({"name": "n", "type": "no_data", "metric": "*", "duration_secs": 60});
    assert!(!build(rule.clone()).unwrap().wants_agent(CERT_AGENT));
    assert!(build(rule.clone()).unwrap().wants_agent("web"));
    let mut named = rule;
    named["agent_pattern"] = json!(CERT_AGENT);
    assert!(build(named).unwrap().wants_agent(CERT_AGENT));
}

#[test]
fn names_that_nobody_knows_are_named() {
    let map = json!({"name": "x", "metrc": "y"});
    let error = check_names(map.as_object().unwrap(), &[]).unwrap_err();
    assert!(error.to_string().contains("did you mean `metric`?"), "{error}");
}
