//! What the engine lost is found and sent again; days leave only once they are audited; then they
//! are read from the engine.

use std::time::Duration;

use serde_json::Value;

use super::real::Engine;
use super::{SOON, batch, figure};
use crate::promql::get;
use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;
use oxmon::base::clock::{DAY_MS, rfc3339};
use oxmon::wire::batch_to_proto;

/// Everything that REST and PromQL answer about one agent over `from` to `to`, for comparison.
fn answers(server: &mut Server, token: &str, from_ms: i64, to_ms: i64) -> Vec<Value> {
    let time = |ms: i64| rfc3339(ms);
    let (from, to) = (time(from_ms), time(to_ms));
    let mut all = Vec::new();
    for metric in ["cpu.usage", "disk.used_percent"] {
        let span = format!("timestamp__gte={from}&timestamp__lte={to}");
        for path in [
            format!("/v1/metrics/range?agent_id=load-001&metric_name={metric}&{span}&step=3600"),
            format!("/v1/metrics/summary?agent_id=load-001&metric_name={metric}&{span}"),
            format!("/v1/metrics?agent_id__eq=load-001&metric_name__eq={metric}&{span}&limit=1000"),
            format!(
                "/v1/metrics?agent_id__eq=load-001&metric_name__eq={metric}&{span}&limit=7&offset=30"
            ),
            format!("/v1/metrics/names?{span}&limit=1000"),
            format!("/v1/metrics/agents?{span}&limit=1000"),
        ] {
            let answer = server.call("GET", &path, None);
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let mut data = answer.data().clone();
            for row in data.as_array_mut().into_iter().flatten() {
                if let Some(row) = row.as_object_mut() {
                    // An id of its own, and the accuracy of the arrival, differ.
                    row.remove("id");
                    row.remove("created_at");
                }
            }
            all.push(serde_json::json!([path, answer.total, data]));
        }
    }
    let secs = |ms: i64| (ms / 1_000).to_string();
    let (start, end) = (secs(from_ms), secs(to_ms));
    for query in [
        "oxmon_cpu_usage",
        "sum by (agent) (rate(node_load1[2h]))",
        "count(oxmon_disk_used_percent)",
    ] {
        let parameters: &[(&str, &str)] =
            &[("query", query), ("start", &start), ("end", &end), ("step", "3600")];
        let answer = get(&server.url(), token, "query_range", parameters);
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        all.push(serde_json::json!([query, answer["data"]]));
    }
    all
}

/// Whether two answers say the same; sums may differ in the last digits.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn old_days_leave_once_they_are_audited_and_are_read_from_the_engine() {
    let Some(mut engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) else { return };
    let config = format!(
        "retention_days = 6\n[remote]\nwrite_urls = [\"{}\"]\nread_urls = [\"{}\"]\n\
         timeout_secs = 5\naudit_after_secs = 8\n",
        engine.write_url(),
        engine.url
    );
    let mut server = Server::start(&config);
    let client = Client::to(server.grpc_port);
    let (start, now) = (now_ms() - 4 * DAY_MS, now_ms());
    let step = 20 * 60_000;
    for number in 0..4 {
        let agent = format!("load-{number:03}");
        for at in (start..now).step_by(step) {
            let batch = batch(&agent, at + number * 7);
            assert!(client.report(&batch_to_proto(&batch)).expect("an answer").success);
        }
    }
    let made =
        server.post("/v1/auth/tokens", serde_json::json!({"name": "promql", "read_only": true}));
    let token = made["token"].as_str().expect("a token").to_owned();
    let (from, to) = (start - 60_000, now + 60_000);
    let before = answers(&mut server, &token, from, to);
    let days = |server: &mut Server| {
        server.get("/v1/system/storage")["partitions"].as_array().unwrap().len()
    };
    assert_eq!(days(&mut server), 5);
    // Two days stay here.
    assert!(server.stop().success());
    let file = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("audit_after", "hot_days = 1\naudit_after")).unwrap();
    server.restart();
    wait_for("old days to leave", SOON + SOON, || {
        std::thread::sleep(Duration::from_millis(200));
        (days(&mut server) == 2).then_some(())
    });
    assert_eq!(figure(&mut server, "oxmon_remote_missing_samples_total{target=\"engine\"}"), 0.0);
    let after = answers(&mut server, &token, from, to);
    for (before, after) in before.iter().zip(&after) {
        assert!(same(before, after), "before: {before:#}\nafter: {after:#}");
    }
    handed_over(&mut server, &token, (start, now));
    // An engine that is away makes old times an error that names it, and leaves new ones alone.
    engine.kill();
    let old = rfc3339(start);
    let path =
        format!("/v1/metrics/summary?agent_id=load-001&metric_name=cpu.usage&timestamp__gte={old}");
    let answer = server.call("GET", &path, None);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body["err_msg"].to_string().contains(&engine.url), "{}", answer.body);
    let new = rfc3339(now - 3_600_000);
    let path =
        format!("/v1/metrics/summary?agent_id=load-001&metric_name=cpu.usage&timestamp__gte={new}");
    assert_eq!(server.call("GET", &path, None).status, 200);
    let (start, end) = ((start / 1_000).to_string(), (now / 1_000).to_string());
    let parameters: &[(&str, &str)] =
        &[("query", "oxmon_cpu_usage"), ("start", &start), ("end", &end), ("step", "3600")];
    let answer = get(&server.url(), &token, "query_range", parameters);
    assert_eq!(answer["status"], "error", "{answer}");
    assert!(answer["error"].to_string().contains(&engine.url), "{answer}");
    lists_name_it(&server, &token, &engine.url, (&start, &end));
}

/// Lists of names over old days are errors too: none looks whole and is not.
fn lists_name_it(server: &Server, token: &str, engine: &str, (start, end): (&str, &str)) {
    let recent = (end.parse::<i64>().expect("a number") - 3_600).to_string();
    for list in ["series", "labels", "label/agent/values"] {
        let of = |from: &str| {
            let parameters = [("match[]", "oxmon_cpu_usage"), ("start", from), ("end", end)];
            get(&server.url(), token, list, &parameters)
        };
        let old = of(start);
        assert!(old["error"].to_string().contains(engine), "{list}: {old}");
        assert_eq!(of(&recent)["status"], "success", "{list}");
    }
}

/// Queries whose steps need old days are evaluated at the engine where that is asked for, give what
/// they give here, and the engine is really asked.
fn handed_over(server: &mut Server, token: &str, (start, end): (i64, i64)) {
    let queries = [
        "max_over_time(oxmon_cpu_usage[2h])",
        "sum without (agent) (count_over_time(node_load1[3h]))",
        "max_over_time(oxmon_cpu_usage{agent=\"load-001\"}[2h]) - min_over_time(node_load1[2h])",
        "topk(2, max_over_time(node_load1[1d]))",
        "sum by (agent) (max_over_time(oxmon_cpu_usage[80h]))",
        "max_over_time(oxmon_disk_used_percent{mount=\"/\"}[2h] offset 1h) > bool 0.08",
    ];
    let secs = |ms: i64| (ms / 1_000).to_string();
    let (first, last) = (secs(start), secs(end));
    let ask = |server: &Server, query: &str| {
        let step = ("step", "7200");
        let parameters = [("query", query), ("start", &*first), ("end", &*last), step];
        let range = get(&server.url(), token, "query_range", &parameters);
        let parameters = [("query", query), ("time", &*last)];
        let instant = get(&server.url(), token, "query", &parameters);
        assert!(
            range["status"] == "success" && instant["status"] == "success",
            "{range} {instant}"
        );
        assert_ne!(range["data"]["result"], serde_json::json!([]), "{query}");
        serde_json::json!([range["data"], instant["data"]])
    };
    let asked = |server: &mut Server| figure(server, "oxmon_remote_promql_queries_total");
    let here: Vec<Value> = queries.iter().map(|query| ask(server, query)).collect();
    assert_eq!(asked(server), 0.0);
    assert!(server.stop().success());
    let file = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("hot_days", "promql = \"engine\"\nhot_days")).unwrap();
    server.restart();
    for (query, here) in queries.iter().zip(here) {
        let there = ask(server, query);
        assert!(same(&here, &there), "{query}\nhere: {here:#}\nthere: {there:#}");
    }
    assert_eq!(asked(server), 7.0, "six over time, and one that reaches far back from now");
}

#[test]
fn what_an_engine_loses_after_it_took_it_is_sent_again() {
    let Some(engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) else { return };
    let config = format!(
        "[remote]\nwrite_urls = [\"{}\"]\nread_urls = [\"{}\"]\naudit_after_secs = 20\n",
        engine.write_url(),
        engine.url
    );
    let mut server = Server::start(&config);
    let client = Client::to(server.grpc_port);
    let base = now_ms() - 3 * 3_600_000;
    for at in 0..30 {
        for agent in ["load-001", "load-002"] {
            let batch = batch(agent, base + at * 60_000);
            assert!(client.report(&batch_to_proto(&batch)).expect("an answer").success);
        }
    }
    wait_for("the samples at the engine", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        (count(&engine.url) == 180).then_some(())
    });
    // It loses one agent's.
    let gone = format!(
        "{}/api/v1/admin/tsdb/delete_series?match[]=%7Bagent=%22load-001%22%7D",
        engine.url
    );
    ureq::post(&gone).send_empty().expect("it deletes");
    assert_eq!(count(&engine.url), 90);
    wait_for("the samples again", SOON + SOON + SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        (count(&engine.url) == 180).then_some(())
    });
    let short = "oxmon_remote_audits_total{outcome=\"short\",target=\"engine\"}";
    assert!(figure(&mut server, short) >= 1.0);
}

fn count(url: &str) -> usize {
    let query = "count_over_time({agent=~\"load-.*\"}[5h])";
    let now = (now_ms() / 1_000).to_string();
    let answer = get(
        url,
        "none",
        "query",
        &[("query", &format!("sum({query})")), ("time", &now), ("nocache", "1")],
    );
    let text = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0").to_owned();
    text.parse().expect("a number")
}
