//! Rules as their users write them: over the API, in the file, from a seed; and every type from a
//! point on the wire to an alert.

use std::process::Command;
use std::time::Duration;

use oxmon::base::clock::{MINUTE_MS, SECOND_MS, rfc3339};
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::{signal, wait_for};

const SOON: Duration = Duration::from_secs(20);
const RULES: &str = "/v1/alerts/rules";

const FILE_RULE: &str = r#"
[[alert.rules]]
name = "high-cpu"
type = "threshold"
metric = "cpu.usage"
agent_pattern = "*"
operator = "greater_than"
value = 90.0
duration_secs = 300
severity = "critical"
silence_secs = 600
"#;

fn rule(name: &str, kind: &str, metric: &str, config: &Value) -> Value {
    json!({"name": name, "rule_type": kind, "metric": metric, "config_json": config})
}

fn low_memory() -> Value {
    let config = json!({"operator": "less_than", "value": 5});
    rule("low-memory", "threshold", "memory.available", &config)
}

fn send(server: &Server, agent: &str, at_ms: i64, metric: &str, value: f64) {
    let reply = Client::to(server.grpc_port).report(&batch(agent, at_ms, &[(metric, value)]));
    assert!(reply.unwrap().success);
}

fn fires(server: &mut Server, rule: &str) -> Value {
    wait_for(rule, SOON, || {
        let active = server.get("/v1/alerts/active");
        let mut found = active.as_array().unwrap().iter();
        found.find(|event| event["rule_name"] == rule).cloned()
    })
}

fn ends(server: &mut Server, rule: &str) {
    wait_for("its end", SOON, || {
        let active = server.get("/v1/alerts/active");
        let mut found = active.as_array().unwrap().iter();
        found.all(|event| event["rule_name"] != rule).then_some(())
    });
}

#[test]
fn a_rule_is_made_shown_changed_and_removed() {
    let mut server = Server::start(FILE_RULE);
    let made = server.call("POST", RULES, Some(low_memory()));
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.data().clone();
    assert_eq!(
        (&made["source"], &made["severity"], &made["agent_pattern"]),
        (&json!("api"), &json!("warning"), &json!("*"))
    );
    assert_eq!((&made["silence_secs"], &made["enabled"]), (&json!(600), &json!(true)));
    assert_eq!(made["config_json"], r#"{"operator":"less_than","value":5}"#);
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("{RULES}/{id}");
    // Nobody reports here: only the answer that saves it warns of that.
    assert_eq!(made["warnings"].as_array().unwrap().len(), 1, "{made}");
    let mut shown = server.get(&path);
    assert_eq!(shown["warnings"], json!([]));
    shown["warnings"] = made["warnings"].clone();
    assert_eq!(shown, made);
    let listed = server.call("GET", &format!("{RULES}?limit=1"), None);
    assert_eq!((listed.total, listed.data()[0]["name"].as_str()), (Some(2), Some("high-cpu")));
    let details = server.get(&format!("{RULES}/config"));
    assert_eq!(details[0]["source"], "file");
    let changed = server.call("PUT", &path, Some(json!({"severity": "info"})));
    assert_eq!(changed.data()["severity"], "info");
    assert_eq!(changed.data()["config_json"], made["config_json"]);
    let off = server.call("PUT", &format!("{path}/enable"), Some(json!({"enabled": false})));
    assert_eq!(off.data()["enabled"], false);
    assert_eq!(server.call("GET", RULES, None).total, Some(1), "it is not in force");
    let details = server.call("GET", &format!("{RULES}/config"), None);
    assert_eq!(details.total, Some(2), "it is there still");
    assert_eq!(server.call("DELETE", &path, None).status, 200);
    let gone = server.call("GET", &path, None);
    assert_eq!((gone.status, gone.code()), (404, 1004));
}

#[test]
fn what_can_not_be_is_refused_with_its_reason() {
    let mut server = Server::start(FILE_RULE);
    server.post(RULES, low_memory());
    let mut refused = |method: &str, path: &str, body: Value, status: u16, reason: &str| {
        let answer = server.call(method, path, Some(body));
        let said = answer.body["err_msg"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, status, "{method} {path}: {said}");
        assert!(said.contains(reason), "{said}");
    };
    refused("POST", RULES, low_memory(), 409, "there is a rule `low-memory` already");
    let config = json!({"operator": "above", "value": 5});
    let above = rule("x", "threshold", "m", &config);
    refused("POST", RULES, above, 400, "`operator` must be greater_than or less_than");
    let config = json!({"rate_threshold": 5, "window_secs": -1});
    refused("POST", RULES, rule("x", "rate_of_change", "m", &config), 400, "`window_secs` must");
    let mut bad = low_memory();
    bad["name"] = json!("x");
    bad["agent_pattern"] = json!("web-[");
    refused("POST", RULES, bad, 400, "`agent_pattern` is not a valid glob");
    refused("POST", RULES, json!({"nme": "x"}), 400, "did you mean `name`?");
    refused("POST", RULES, rule("x", "magic", "m", &json!({})), 400, "`rule_type` must be");
    let file = format!("{RULES}/high-cpu");
    refused("PUT", &file, json!({"severity": "info"}), 409, "configuration file");
    refused("PUT", &format!("{file}/enable"), json!({"enabled": false}), 409, "SIGHUP");
    refused("PUT", &format!("{RULES}/nothing"), json!({}), 404, "there is no rule `nothing`");
    let deleted = server.call("DELETE", &file, None);
    assert_eq!((deleted.status, deleted.code()), (409, 1005), "{deleted:?}");
    let lost = server.call("POST", "/v1/alerts/history/nothing/acknowledge", None);
    assert_eq!((lost.status, lost.code()), (404, 1004));
}

#[test]
fn a_rule_of_the_file_that_can_not_work_stops_the_start_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::write(&path, FILE_RULE.replace("greater_than", "above")).unwrap();
    let out = Command::new(program()).arg(&path).output().unwrap();
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("server.toml:7: alert.rules.0.operator: must be"), "{said}");
}

#[test]
fn sighup_reads_the_files_rules_and_a_seeds() {
    let mut server = Server::start(FILE_RULE);
    let (dir, config) = (server.dir.path().to_owned(), server.dir.path().join("server.toml"));
    let seed = dir.join("rules.json");
    std::fs::write(&seed, json!({"rules": [low_memory()]}).to_string()).unwrap();
    let mut said = Vec::new();
    for _ in 0..2 {
        let out =
            Command::new(program()).arg("init-rules").args([&config, &seed]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        said.push(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    assert_eq!(said[0], "made rule `low-memory` (threshold)\n");
    assert_eq!(said[1], "skipped rule `low-memory` (threshold): the name exists\n");
    let text = std::fs::read_to_string(&config).unwrap().replace("high-cpu", "higher-cpu");
    std::fs::write(&config, text).unwrap();
    signal(&server.child, "HUP");
    wait_for("the new rules", SOON, || {
        let rules = server.get(RULES);
        let names: Vec<&str> =
            rules.as_array()?.iter().filter_map(|rule| rule["name"].as_str()).collect();
        (names == ["higher-cpu", "low-memory"]).then_some(())
    });
}

#[test]
fn sighup_keeps_the_alerts_of_rules_that_judge_as_before() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let other = FILE_RULE.replace("high-cpu", "full").replace("cpu.usage", "disk.used_percent");
    let rules = format!("aggregation_window_secs = 0\n{FILE_RULE}{other}")
        .replace("duration_secs = 300", "duration_secs = 0");
    let mut server = Server::start(&rules);
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": "{}",
               "recipients": [endpoint.url("/")]}),
    );
    let start = now_ms() - 20 * MINUTE_MS;
    send(&server, "web", start, "cpu.usage", 95.0);
    send(&server, "web", start, "disk.used_percent", 95.0);
    fires(&mut server, "high-cpu");
    fires(&mut server, "full");
    endpoint.wait(2);
    let path = server.dir.path().join("server.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    // One that can't work changes nothing.
    std::fs::write(&path, good.replacen("greater_than", "above", 1)).unwrap();
    signal(&server.child, "HUP");
    wait_for("the refusal", SOON, || server.log().contains("operator: must be").then_some(()));
    assert_eq!(server.call("GET", "/v1/alerts/active", None).total, Some(2));
    // Another bound for the second rule, another severity for the first.
    let (first, second) = good.split_at(good.rfind("[[alert.rules]]").unwrap());
    let changed = first.replace("critical", "info") + &second.replace("90.0", "80.0");
    std::fs::write(&path, changed).unwrap();
    signal(&server.child, "HUP");
    wait_for("the new bound", SOON, || {
        let full = fires(&mut server, "full");
        (full["threshold"] == 80.0).then_some(())
    });
    send(&server, "web", start + MINUTE_MS, "cpu.usage", 96.0);
    send(&server, "web", start + MINUTE_MS, "disk.used_percent", 96.0);
    let again = fires(&mut server, "full");
    assert_eq!(again["threshold"], 80.0);
    send(&server, "web", start + 2 * MINUTE_MS, "cpu.usage", 10.0);
    ends(&mut server, "high-cpu");
    let told: Vec<String> = endpoint
        .wait(3)
        .iter()
        .map(|request| request.json())
        .filter(|body| body["rule_name"] == "high-cpu")
        .map(|body| body["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["firing", "resolved"], "it was sent once, and so was its end");
}

#[test]
fn a_rate_of_change_fires_and_recovers() {
    let mut server = Server::start("");
    let config = json!({"rate_threshold": 20, "window_secs": 300});
    server.post(RULES, rule("spike", "rate_of_change", "memory.used_percent", &config));
    let start = now_ms() - 20 * MINUTE_MS;
    for (minute, value) in [(0, 50.0), (1, 55.0), (2, 67.5)] {
        send(&server, "db", start + minute * MINUTE_MS, "memory.used_percent", value);
    }
    let event = fires(&mut server, "spike");
    assert_eq!(
        event["message"],
        "memory.used_percent on db rose by 35% within 5m, from 50 to 67.5, more than 20% \
         (rule spike)"
    );
    send(&server, "db", start + 8 * MINUTE_MS, "memory.used_percent", 66.0);
    send(&server, "db", start + 9 * MINUTE_MS, "memory.used_percent", 66.0);
    ends(&mut server, "spike");
}

#[test]
fn a_trend_fires_with_its_date_and_recovers() {
    let mut server = Server::start("");
    let config = json!({"predict_threshold": 95, "horizon_secs": 86_400, "min_data_points": 10});
    server.post(RULES, rule("full", "trend_prediction", "disk.used_percent", &config));
    let start = now_ms() - 30 * MINUTE_MS;
    for minute in 0..12_i32 {
        let at = start + i64::from(minute) * MINUTE_MS;
        send(&server, "db", at, "disk.used_percent", 80.0 + 0.1 * f64::from(minute));
    }
    let event = fires(&mut server, "full");
    // 0.1 a minute from 80: 95 comes 150 minutes after the first point.
    let breach = event["predicted_breach"].as_str().unwrap();
    let expected = start + 150 * MINUTE_MS;
    let off = oxmon::base::clock::parse_rfc3339(breach).unwrap() - expected;
    assert!(off.abs() < SECOND_MS, "{breach}, {off} ms off");
    assert!(event["message"].as_str().unwrap().contains("fit R² 1.00"), "{event}");
    for minute in 12..24_i32 {
        let at = start + i64::from(minute) * MINUTE_MS;
        send(&server, "db", at, "disk.used_percent", 70.0 - f64::from(minute));
    }
    ends(&mut server, "full");
}

#[test]
fn a_certificate_alert_grows_from_warning_to_critical_and_ends() {
    let mut server = Server::start("");
    let mut body = rule(
        "cert",
        "cert_expiration",
        "certificate.days_until_expiry",
        &json!({"warning_days": 30, "critical_days": 7}),
    );
    body["agent_pattern"] = json!("cert-*");
    server.post(RULES, body);
    let start = now_ms() - 5 * MINUTE_MS;
    let send = |server: &Server, minute: i64, days: f64| {
        let at = start + minute * MINUTE_MS;
        let mut points = batch("cert-checker", at, &[("certificate.days_until_expiry", days)]);
        for point in &mut points.data_points {
            point.labels.insert("domain".to_owned(), "example.com".to_owned());
        }
        assert!(Client::to(server.grpc_port).report(&points).unwrap().success);
    };
    send(&server, 0, 20.0);
    assert_eq!(fires(&mut server, "cert")["severity"], "warning");
    send(&server, 1, 6.0);
    let critical = wait_for("the critical alert", SOON, || {
        let active = server.get("/v1/alerts/active");
        active.as_array()?.iter().find(|event| event["severity"] == "critical").cloned()
    });
    assert_eq!(critical["message"], "The certificate of example.com expires in 6 days (rule cert)");
    assert_eq!(server.call("GET", "/v1/alerts/active", None).total, Some(1));
    send(&server, 2, 89.0);
    ends(&mut server, "cert");
}

#[test]
fn history_and_summary_show_what_was() {
    let mut server = Server::start("");
    let config = json!({"operator": "greater_than", "value": 90});
    server.post(RULES, rule("hot", "threshold", "cpu.usage", &config));
    let at = now_ms() - 5 * MINUTE_MS;
    send(&server, "web", at, "cpu.usage", 95.0);
    let event = fires(&mut server, "hot");
    assert_eq!(event["timestamp"], rfc3339(at));
    let id = event["id"].as_str().unwrap().to_owned();
    let known = server.post(&format!("/v1/alerts/history/{id}/acknowledge"), json!({}));
    assert_eq!(known["status"], 2);
    let over = server.post(&format!("/v1/alerts/history/{id}/resolve"), json!({}));
    assert_eq!(over["status"], 3);
    assert!(over["resolved_at"].is_string());
    assert_eq!(server.get("/v1/alerts/active"), json!([]));
    let rows = wait_for("both events", SOON, || {
        let answer = server.call("GET", "/v1/alerts/history?agent_id__eq=web", None);
        (answer.total == Some(2)).then(|| answer.data().clone())
    });
    let message = rows[0]["message"].as_str().unwrap();
    assert!(message.contains("was resolved by admin"), "{message}");
    assert_eq!(rows[1]["id"], id.as_str());
    assert_eq!(server.get("/v1/alerts/history?severity__eq=critical"), json!([]));
    let summary = server.get("/v1/alerts/summary?hours=1");
    let expected = json!({
        "total": 1, "active_count": 0, "recovered_count": 1,
        "by_severity": {"info": 0, "warning": 1, "critical": 0},
        "by_agent": {"web": 1}, "by_metric": {"cpu.usage": 1}, "by_rule": {"hot": 1},
    });
    assert_eq!(summary, expected);
    assert_eq!(server.call("GET", "/v1/alerts/summary?hours=0", None).status, 400);
    let again = server.call("POST", &format!("/v1/alerts/history/{id}/resolve"), None);
    assert_eq!((again.status, again.data()["status"].as_i64()), (200, Some(3)), "{again:?}");
}

#[test]
fn a_backtest_names_time_host_and_length() {
    let mut server = Server::start("");
    let start = now_ms() - 10 * MINUTE_MS;
    for (minute, value) in [(0, 10.0), (1, 95.0), (2, 95.0), (3, 95.0), (4, 10.0)] {
        send(&server, "web", start + minute * MINUTE_MS, "cpu.usage", value);
    }
    let config = json!({"operator": "greater_than", "value": 90, "duration_secs": 60});
    let mut body = rule("what-if", "threshold", "cpu.usage", &config);
    body["timestamp__gte"] = json!(rfc3339(start));
    body["timestamp__lte"] = json!(rfc3339(now_ms()));
    let found = server.post(&format!("{RULES}/test"), body);
    assert_eq!((&found["total"], &found["points_evaluated"]), (&json!(1), &json!(5)));
    let alert = &found["alerts"][0];
    assert_eq!((&alert["agent_id"], &alert["duration_secs"]), (&json!("web"), &json!(120)));
    assert_eq!(alert["fired_at"], rfc3339(start + 2 * MINUTE_MS));
    assert_eq!(alert["resolved_at"], rfc3339(start + 4 * MINUTE_MS));
    assert_eq!(alert["notified"], true);
    let bad = json!({"timestamp__gte": "yesterday", "rule_type": "threshold", "metric": "m"});
    let refused = server.call("POST", &format!("{RULES}/test"), Some(bad));
    assert_eq!(refused.status, 400, "{refused:?}");
}

#[test]
fn a_rule_on_a_metric_that_nobody_reports_is_saved_with_a_warning() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    let sent = batch("web-01", now_ms(), &[("cpu.usage", 1.0)]);
    assert!(client.report(&sent).unwrap().success);
    let mut save = |name: &str, metric: &str, pattern: &str, config: serde_json::Value| {
        let body = json!({"name": name, "rule_type": config["type"], "metric": metric,
                          "agent_pattern": pattern, "config_json": config["fields"]});
        server.post("/v1/alerts/rules", body)
    };
    let over = json!({"type": "threshold", "fields": {"operator": "greater_than", "value": 90}});
    let gone = json!({"type": "no_data", "fields": {"duration_secs": 60}});
    assert_eq!(save("known", "cpu.usage", "*", over.clone())["warnings"], json!([]));
    assert_eq!(save("whole", "*", "*", gone)["warnings"], json!([]));
    let made = save("typo", "cpu.usgae", "*", over.clone());
    assert_eq!(made["warnings"], json!(["No agent reports the metric `cpu.usgae`."]));
    let other = save("other", "cpu.usage", "db-*", over)["warnings"][0].clone();
    assert!(other.as_str().unwrap().starts_with("No agent that the rule is about"), "{other}");
    let path = format!("/v1/alerts/rules/{}", made["id"].as_str().unwrap());
    let fixed = server.call("PUT", &path, Some(json!({"metric": "cpu.usage"})));
    assert_eq!((fixed.status, &fixed.data()["warnings"]), (200, &json!([])), "{fixed:?}");
}
