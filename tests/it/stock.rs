//! Alerts on everything that an agent measures, and the stock rules: live, and in a backtest.

use std::time::Duration;

use oxmon::agent::collectors::{Metric, OWN_METRICS, SPECS};
use oxmon::base::clock::{MINUTE_MS, SECOND_MS, rfc3339};
use serde_json::{Value, json};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);
const RULES: &str = "/v1/alerts/rules";

fn metrics() -> impl Iterator<Item = &'static Metric> {
    SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS)
}

/// Sends one value of each metric, with the labels that the agent gives it.
fn send(client: &Client, at_ms: i64, values: &[(&str, f64)]) {
    let mut sent = batch("web-01", at_ms, values);
    for point in &mut sent.data_points {
        let metric = metrics().find(|metric| metric.name == point.metric_name);
        for label in metric.map_or(&[][..], |metric| metric.labels) {
            point.labels.insert((*label).into(), "one".into());
        }
    }
    assert!(client.report(&sent).unwrap().success);
}

fn active(server: &mut Server, count: u64) {
    let answer = wait_for("the alerts", SOON, || {
        let answer = server.call("GET", "/v1/alerts/active?limit=1000", None);
        (answer.total == Some(count)).then_some(answer)
    });
    assert_eq!(answer.status, 200);
}

#[test]
fn every_metric_can_have_a_rule_and_a_backtest() {
    let mut server = Server::start("");
    let over = json!({"operator": "greater_than", "value": 0.5, "duration_secs": 0});
    for metric in metrics() {
        let rule = json!({"name": metric.name, "rule_type": "threshold", "metric": metric.name,
                          "config_json": over});
        server.post(RULES, rule);
    }
    let client = Client::to(server.grpc_port);
    let all = |value: f64| metrics().map(|metric| (metric.name, value)).collect::<Vec<_>>();
    let now = now_ms();
    send(&client, now - MINUTE_MS, &all(0.0));
    send(&client, now, &all(1.0));
    active(&mut server, metrics().count() as u64);
    for metric in metrics() {
        let found = server.post(
            &format!("{RULES}/test"),
            json!({"name": "what-if", "rule_type": "threshold", "metric": metric.name,
                   "config_json": over, "timestamp__gte": rfc3339(now - 5 * MINUTE_MS),
                   "timestamp__lte": rfc3339(now + SECOND_MS)}),
        );
        assert_eq!(found["total"], 1, "{}: {found}", metric.name);
        let labels = found["alerts"][0]["labels"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(labels, metric.labels.len(), "{}: {found}", metric.name);
    }
}

#[test]
fn every_stock_rule_fires_on_what_the_agent_reports() {
    let mut server = Server::start("");
    let stock = server.get("/v1/alerts/stock-rules");
    let stock: Vec<&Value> = stock.as_array().unwrap().iter().collect();
    let of_agent: Vec<&&Value> = stock
        .iter()
        .filter(|rule| metrics().any(|metric| rule["metric"] == metric.name))
        .filter(|rule| rule["rule_type"] == "threshold")
        .collect();
    // The others are about every metric, certificates, a trend, and the engine of [remote].
    assert_eq!(of_agent.len(), stock.len() - 4, "{stock:?}");
    let client = Client::to(server.grpc_port);
    for rule in &of_agent {
        server.post(RULES, (***rule).clone());
    }
    let values = |breach: bool| {
        let mut values = Vec::new();
        for rule in &of_agent {
            let config: Value =
                serde_json::from_str(rule["config_json"].as_str().unwrap()).unwrap();
            let bound = config["value"].as_f64().unwrap();
            let below = config["operator"].as_str().unwrap().starts_with("less");
            let value = if below == breach { bound - 1.0 } else { bound + 1.0 };
            values.push((rule["metric"].as_str().unwrap(), value));
        }
        values.sort_by_key(|(metric, _)| *metric);
        values.dedup_by_key(|(metric, _)| *metric);
        values
    };
    let (start, now) = (now_ms() - 70 * MINUTE_MS, now_ms());
    send(&client, start - MINUTE_MS, &values(false));
    let mut at = start;
    while at < now {
        send(&client, at, &values(true));
        at += 20 * SECOND_MS;
    }
    active(&mut server, of_agent.len() as u64);
    for rule in &of_agent {
        let mut body = (***rule).clone();
        body["timestamp__gte"] = json!(rfc3339(start - 5 * MINUTE_MS));
        body["timestamp__lte"] = json!(rfc3339(now));
        let found = server.post(&format!("{RULES}/test"), body);
        assert_eq!(found["total"], 1, "{rule}: {found}");
    }
}
