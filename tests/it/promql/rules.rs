//! Rules in PromQL, from the API to the alert and its end.

use std::time::Duration;

use serde_json::{Value, json};

use super::{data, get, server};
use crate::support::grpc::now_ms;
use crate::support::server::Server;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(30);
const RULES: &str = "/v1/alerts/rules";

/// Writes one sample of `temperature` for each host at now.
fn write(server: &Server, token: &str, values: &[(&str, f64)]) {
    let series: Vec<data::Series> = values
        .iter()
        .map(|(host, value)| {
            let labels = [("__name__", "temperature"), ("agent", host), ("room", "b2")];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (labels.to_vec(), vec![(now_ms(), *value)])
        })
        .collect();
    let bearer = format!("Bearer {token}");
    let status = data::write(&server.url(), &bearer, super::TYPE, &data::request(&series));
    assert_eq!(status, 204);
}

fn active(server: &mut Server) -> Vec<Value> {
    server.get("/v1/alerts/active").as_array().expect("a list").clone()
}

#[test]
fn a_rule_in_promql_fires_for_each_series_and_ends() {
    let (mut server, token) = server("");
    write(&server, &token, &[("a", 41.0), ("b", 20.0), ("c", 55.5)]);
    let wrong = json!({"name": "hot", "rule_type": "promql", "config_json": {"expr": "sum(x"}});
    let answer = server.call("POST", RULES, Some(wrong));
    assert_eq!(answer.status, 400, "{answer:?}");
    let said = answer.body["err_msg"].as_str().unwrap_or_default().to_owned();
    assert!(said.starts_with("`expr` 1:6: parse error: "), "{said}");
    let config = json!({
        "expr": "temperature > 40", "interval_secs": 1,
        "message": "{{ $labels.agent }} in {{ $labels.room }} has {{ $value }} degrees",
        "alert_labels": {"team": "facility"},
    });
    let rule = json!({
        "name": "hot", "rule_type": "promql", "severity": "critical", "config_json": config,
    });
    let made = server.call("POST", RULES, Some(rule));
    assert_eq!((made.status, &made.data()["metric"]), (201, &json!("*")), "{made:?}");
    let fired = wait_for("two alerts", SOON, || {
        Some(active(&mut server)).filter(|active| active.len() == 2)
    });
    let mut messages: Vec<&str> =
        fired.iter().filter_map(|event| event["message"].as_str()).collect();
    messages.sort_unstable();
    let wanted = ["a in b2 has 41 degrees (rule hot)", "c in b2 has 55.5 degrees (rule hot)"];
    assert_eq!(messages, wanted);
    assert_eq!(fired[0]["labels"], json!({"room": "b2", "team": "facility"}));
    assert_eq!(
        (&fired[0]["metric_name"], &fired[0]["threshold"]),
        (&json!("temperature"), &json!(40.0))
    );

    let shown = get(&server.url(), &token, "rules", &[]);
    let shown = &shown["data"]["groups"][0]["rules"][0];
    assert_eq!(
        (&shown["query"], &shown["health"], &shown["state"]),
        (&json!("temperature > 40"), &json!("ok"), &json!("firing"))
    );
    write(&server, &token, &[("a", 21.0), ("c", 60.0)]);
    let left =
        wait_for("one end", SOON, || Some(active(&mut server)).filter(|active| active.len() == 1));
    assert_eq!(left[0]["agent_id"], "c");
    let history = server.get("/v1/alerts/history");
    let ended = |event: &&Value| {
        event["message"].as_str().is_some_and(|text| {
            text.starts_with("temperature{room=\"b2\",team=\"facility\"} on a no longer matches")
        })
    };
    assert!(history.as_array().expect("a list").iter().any(|event| ended(&event)), "{history}");
    // A backtest evaluates at whole seconds, so it may have missed what was over within one.
    let mut test = json!({"rule_type": "promql", "config_json": config});
    test["name"] = json!("try");
    let tried = server.post("/v1/alerts/rules/test", test);
    assert!(tried["total"].as_u64() >= Some(1), "{tried}");

    let removed = server.call("DELETE", "/v1/alerts/rules/hot", None);
    assert_eq!(removed.status, 200, "{removed:?}");
    assert!(active(&mut server).is_empty());
}

#[test]
fn a_rule_that_cannot_be_evaluated_says_why() {
    let (mut server, token) = server("");
    write(&server, &token, &[("a", 1.0), ("b", 1.0)]);
    let config = json!({"expr": "temperature * on (room) temperature", "interval_secs": 1});
    server.post(RULES, json!({"name": "no", "rule_type": "promql", "config_json": config}));
    let rule = wait_for("an error", SOON, || {
        let shown = get(&server.url(), &token, "rules", &[]);
        let rule = shown["data"]["groups"][0]["rules"][0].clone();
        (rule["health"] == "err").then_some(rule)
    });
    let said = rule["lastError"].as_str().expect("a text");
    assert!(said.contains("many-to-many matching not allowed"), "{said}");
    assert!(server.log().contains("failed to evaluate the rule no: "));
}
