//! Points over the API: one by one, summed up, and in buckets.

use std::time::Duration;

use oxmon::base::clock::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, parse_rfc3339, rfc3339};
use oxmon::wire::pb::metrics::MetricBatchProto;
use serde_json::{Value, json};

use crate::support::access::{Least, check, check_bad};
use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

fn send(server: &Server, batches: &[MetricBatchProto]) {
    let client = Client::to(server.grpc_port);
    for batch in batches {
        let reply = client.report(batch).unwrap();
        assert!(reply.success, "{}", reply.message);
    }
}

fn labelled(
    agent: &str,
    at: i64,
    metric: &str,
    label: (&str, &str),
    value: f64,
) -> MetricBatchProto {
    let mut sent = batch(agent, at, &[(metric, value)]);
    sent.data_points[0].labels.insert(label.0.into(), label.1.into());
    sent
}

/// The last whole hour that has ended, so that a whole hour lies between it and now.
fn whole_hour() -> i64 {
    now_ms().div_euclid(HOUR_MS) * HOUR_MS - HOUR_MS
}

/// A column of a list.
fn column<'a>(rows: &'a Value, name: &str) -> Vec<&'a Value> {
    rows.as_array().expect("a list").iter().map(|row| &row[name]).collect()
}

#[test]
fn points_are_listed_newest_first_with_every_bit() {
    let mut server = Server::start("");
    assert_eq!(server.get("/v1/metrics"), json!([]));
    let at = whole_hour() + 123;
    let odd = [0.1 + 0.2, -1.0 / 3.0, 5e-324, 1.797_693_134_862_315_7e308, 9_007_199_254_740_993.0];
    let batches: Vec<_> = (0..).zip(odd).map(|(n, v)| batch("a", at + n, &[("m", v)])).collect();
    send(&server, &batches);
    send(&server, &[labelled("b", at - 3 * DAY_MS, "n", ("mount", "/"), 7.0)]);
    let before = now_ms();
    let answer = server.call("GET", "/v1/metrics?agent_id__eq=a", None);
    assert_eq!(answer.total, Some(5));
    let values: Vec<u64> =
        column(answer.data(), "value").iter().map(|v| v.as_f64().unwrap().to_bits()).collect();
    let expected: Vec<u64> = odd.iter().rev().map(|value| value.to_bits()).collect();
    assert_eq!(values, expected);
    assert_eq!(answer.data()[4]["timestamp"], rfc3339(at));

    let rows = server.get("/v1/metrics?metric_name__eq=n");
    let row = &rows[0];
    assert_eq!(row["labels"], json!({"mount": "/"}));
    assert_eq!((&row["agent_id"], &row["metric_name"]), (&json!("b"), &json!("n")));
    let created = parse_rfc3339(row["created_at"].as_str().unwrap()).unwrap();
    assert!((created - before).abs() < MINUTE_MS, "{row}");
    assert_eq!(server.get("/v1/metrics?metric_name__eq=n")[0]["id"], row["id"]);
    let all = server.get("/v1/metrics");
    let mut ids: Vec<&str> = column(&all, "id").iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[5]), (6, row["id"].as_str().unwrap()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each point has its own id");
}

#[test]
fn lists_of_points_are_filtered_and_paged() {
    let mut server = Server::start("");
    let at = whole_hour();
    let batches: Vec<_> = (0..10)
        .map(|n| batch("a", at + n * SECOND_MS, &[("m", n as f64), ("n", -n as f64)]))
        .collect();
    send(&server, &batches);
    let (from, to) = (rfc3339(at + 2 * SECOND_MS), rfc3339(at + 5 * SECOND_MS));
    for (query, total, values) in [
        ("metric_name__eq=m&limit=3".to_owned(), 10, vec![9.0, 8.0, 7.0]),
        ("metric_name__eq=m&limit=3&offset=8".to_owned(), 10, vec![1.0, 0.0]),
        ("metric_name__eq=m&offset=10".to_owned(), 10, vec![]),
        (
            format!("metric_name__eq=m&timestamp__gte={from}&timestamp__lte={to}"),
            4,
            vec![5.0, 4.0, 3.0, 2.0],
        ),
        (format!("timestamp__lte={from}&metric_name__eq=n"), 3, vec![-2.0, -1.0, 0.0]),
        (format!("timestamp__gte={to}&limit=1&metric_name__eq=m"), 5, vec![9.0]),
        ("agent_id__eq=other".to_owned(), 0, vec![]),
        ("metric_name__eq=".to_owned(), 0, vec![]),
    ] {
        let answer = server.call("GET", &format!("/v1/metrics?{query}"), None);
        let found: Vec<f64> =
            column(answer.data(), "value").iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!((found, answer.total), (values, Some(total)), "{query}");
    }
    assert_eq!(server.call("GET", "/v1/metrics", None).total, Some(20));
    let local = "2026-02-09T16:30:00%2B08:00";
    assert_eq!(
        server.call("GET", &format!("/v1/metrics?timestamp__gte={local}"), None).status,
        200
    );
}

#[test]
fn names_and_agents_are_those_with_points_in_the_time() {
    let mut server = Server::start("");
    let now = now_ms();
    send(
        &server,
        &[
            batch("b", now, &[("z", 1.0), ("y", 1.0)]),
            batch("a", now - HOUR_MS, &[("x", 1.0)]),
            batch("old", now - 2 * DAY_MS, &[("w", 1.0)]),
        ],
    );
    assert_eq!(server.get("/v1/metrics/names"), json!(["x", "y", "z"]));
    assert_eq!(server.get("/v1/metrics/agents"), json!(["a", "b"]));
    let (from, to) = (rfc3339(now - 3 * DAY_MS), rfc3339(now - 30 * MINUTE_MS));
    let time = format!("timestamp__gte={from}&timestamp__lte={to}");
    assert_eq!(server.get(&format!("/v1/metrics/names?{time}")), json!(["w", "x"]));
    assert_eq!(server.get(&format!("/v1/metrics/agents?{time}")), json!(["a", "old"]));
    let day_before = format!("timestamp__lte={}", rfc3339(now - 2 * DAY_MS));
    assert_eq!(server.get(&format!("/v1/metrics/agents?{day_before}")), json!(["old"]));
    let answer = server.call("GET", "/v1/metrics/names?limit=1&offset=1", None);
    assert_eq!((answer.data(), answer.total), (&json!(["y"]), Some(3)));
    let answer = server.call("GET", "/v1/metrics/agents?limit=1&offset=1", None);
    assert_eq!((answer.data(), answer.total), (&json!(["b"]), Some(2)));
}

#[test]
fn a_summary_is_over_all_series_of_a_metric() {
    let mut server = Server::start("");
    let now = now_ms();
    send(
        &server,
        &[
            batch("a", now - 2 * HOUR_MS, &[("m", 1_000.0)]),
            labelled("a", now - 10 * MINUTE_MS, "m", ("core", "0"), -2.0),
            labelled("a", now - 10 * MINUTE_MS, "m", ("core", "1"), 4.0),
            batch("a", now, &[("m", 10.0), ("n", 99.0)]),
            batch("b", now, &[("m", 77.0)]),
        ],
    );
    let path = "/v1/metrics/summary?agent_id=a&metric_name=m";
    assert_eq!(server.get(path), json!({"min": -2.0, "max": 10.0, "avg": 4.0, "count": 3}));
    let whole = format!("{path}&timestamp__gte={}", rfc3339(now - DAY_MS));
    assert_eq!(server.get(&whole), json!({"min": -2.0, "max": 1000.0, "avg": 253.0, "count": 4}));
    let hour = format!("{path}&timestamp__lte={}", rfc3339(now - 90 * MINUTE_MS));
    assert_eq!(server.get(&hour)["count"], 1, "the hour before the end");
    let nothing = json!({"min": 0.0, "max": 0.0, "avg": 0.0, "count": 0});
    assert_eq!(server.get("/v1/metrics/summary?agent_id=a&metric_name=none"), nothing);
}

#[test]
fn a_real_agents_values_are_in_every_view() {
    let mut server = Server::start("");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let path = "/v1/metrics/range?agent_id=web-01&metric_name=load.uptime&step=1";
    let buckets = wait_for("three buckets", Duration::from_secs(20), || {
        let answer = server.call("GET", path, None);
        answer.data()[0]["buckets"].as_array().filter(|found| found.len() >= 3).cloned()
    });
    for pair in buckets.windows(2) {
        assert!(pair[0]["last"].as_f64() < pair[1]["last"].as_f64(), "{pair:?}");
    }
    let summary = server.get("/v1/metrics/summary?agent_id=web-01&metric_name=load.uptime");
    assert!(summary["count"].as_u64().unwrap() >= 3, "{summary}");
    assert_eq!(summary["min"], buckets[0]["min"], "the first is the least");
    let names = server.get("/v1/metrics/names?limit=100");
    assert!(column_has(&names, "load.uptime") && column_has(&names, "agent.collect_ms"), "{names}");
    assert_eq!(server.get("/v1/metrics/agents"), json!(["web-01"]));
}

fn column_has(names: &Value, name: &str) -> bool {
    names.as_array().is_some_and(|names| names.iter().any(|other| other == name))
}

#[test]
fn points_take_a_login_and_each_parameter_is_checked() {
    let mut server = Server::start("");
    server.get("/v1/metrics");
    let summary = "/v1/metrics/summary?agent_id=a&metric_name=m";
    for path in ["/v1/metrics", "/v1/metrics/names", "/v1/metrics/agents", summary] {
        check(&mut server, Least::Viewer, "GET", path, None);
    }
    let reversed = "timestamp__gte=2026-02-02T00:00:00Z&timestamp__lte=2026-02-01T00:00:00Z";
    let mut cases: Vec<(String, &str)> = Vec::new();
    for path in ["/v1/metrics?", "/v1/metrics/names?", "/v1/metrics/agents?"] {
        for (query, word) in [("limit=x", "limit"), ("limit=-1", "limit"), ("offset=x", "offset")] {
            cases.push((format!("{path}{query}"), word));
        }
    }
    for path in
        ["/v1/metrics?", "/v1/metrics/names?", "/v1/metrics/agents?", &format!("{summary}&")]
    {
        for name in ["timestamp__gte", "timestamp__lte"] {
            for value in ["yesterday", "2026-02-30T00:00:00Z", "1770625800", ""] {
                cases.push((format!("{path}{name}={value}"), name));
            }
        }
        cases.push((format!("{path}{reversed}"), "timestamp__gte"));
        cases.push((format!("{path}nothing=1"), "nothing"));
        cases.push((format!("{path}{reversed}&{reversed}"), "duplicate"));
    }
    cases.push((format!("/v1/metrics?agent_id__eq={}", "x".repeat(1_025)), "agent_id__eq"));
    cases.push((format!("/v1/metrics?metric_name__eq={}", "x".repeat(1_025)), "metric_name__eq"));
    cases.push(("/v1/metrics?offset=1000001".to_owned(), "timestamp__lte"));
    cases.push(("/v1/metrics/summary?metric_name=m".to_owned(), "agent_id"));
    cases.push(("/v1/metrics/summary?agent_id=a".to_owned(), "metric_name"));
    let cases: Vec<_> = cases.iter().map(|(path, word)| (path.as_str(), None, *word)).collect();
    check_bad(&mut server, "GET", &cases);
    assert_eq!(server.call("GET", "/v1/metrics?offset=1000000", None).data(), &json!([]));
    assert_eq!(server.call("POST", "/v1/metrics", Some(json!({}))).status, 405);
    assert_eq!(server.call("GET", "/v1/metrics/nothing", None).code(), 1004);
}
