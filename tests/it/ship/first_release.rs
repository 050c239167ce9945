//! The examples of the first oxmon's README, word for word: what its users have in their files and
//! scripts works as it stands.

use std::process::{Command, Stdio};
use std::time::Duration;

use oxmon::base::clock::{MINUTE_MS, SECOND_MS};
use serde_json::{Value, json};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::wait_for;

const CONFIG: &str = include_str!("../../fixtures/first_release/server.toml");
const SCRIPT: &str = include_str!("../../fixtures/first_release/channels.sh");

/// Sends one point with its labels.
fn send(server: &Server, agent: &str, at_ms: i64, metric: &str, label: (&str, &str), value: f64) {
    let mut points = batch(agent, at_ms, &[(metric, value)]);
    if !label.0.is_empty() {
        points.data_points[0].labels.insert(label.0.to_owned(), label.1.to_owned());
    }
    assert!(Client::to(server.grpc_port).report(&points).unwrap().success);
}

#[test]
fn the_four_rules_are_taken_and_fire() {
    let mut server = Server::start(CONFIG);
    assert_eq!(server.get("/v1/system/config")["notification_aggregation_window_secs"], 60);
    let rules = server.get("/v1/alerts/rules/config");
    let shown: Vec<Value> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let config: Value =
                serde_json::from_str(rule["config_json"].as_str().unwrap()).unwrap();
            json!([rule["name"], rule["rule_type"], rule["severity"], rule["silence_secs"], config])
        })
        .collect();
    let expected = json!([
        ["high-cpu", "threshold", "critical", 600,
         {"operator": "greater_than", "value": 90.0, "duration_secs": 300}],
        ["memory-spike", "rate_of_change", "warning", 600,
         {"rate_threshold": 20.0, "window_secs": 300}],
        ["disk-full-prediction", "trend_prediction", "info", 3600,
         {"predict_threshold": 95.0, "horizon_secs": 86_400, "min_data_points": 10}],
        ["cert-expiry", "cert_expiration", "critical", 86_400,
         {"warning_days": 30, "critical_days": 7}],
    ]);
    let mut expected = expected.as_array().unwrap().clone();
    let mut shown = shown;
    let by_name = |a: &Value, b: &Value| a[0].as_str().cmp(&b[0].as_str());
    expected.sort_by(by_name);
    shown.sort_by(by_name);
    assert_eq!(shown, expected);

    let start = now_ms() - 20 * MINUTE_MS;
    for step in 0..=32_i32 {
        let at = start + i64::from(step) * 10 * SECOND_MS;
        let memory = if step < 10 { 50.0 } else { 70.0 };
        send(&server, "web-01", at, "cpu.usage", ("", ""), 95.0);
        send(&server, "web-01", at, "memory.used_percent", ("", ""), memory);
        let disk = 80.0 + 0.05 * f64::from(step);
        send(&server, "web-01", at, "disk.used_percent", ("mount", "/"), disk);
    }
    let domain = ("domain", "example.com");
    send(&server, "cert-checker", start, "certificate.days_until_expiry", domain, 6.0);
    let fired = wait_for("all four", Duration::from_secs(20), || {
        let active = server.get("/v1/alerts/active");
        let mut names: Vec<String> = active
            .as_array()?
            .iter()
            .map(|event| format!("{} {}", event["rule_name"], event["severity"]))
            .collect();
        names.sort();
        (names.len() == 4).then_some(names)
    });
    assert_eq!(
        fired,
        [
            "\"cert-expiry\" \"critical\"",
            "\"disk-full-prediction\" \"info\"",
            "\"high-cpu\" \"critical\"",
            "\"memory-spike\" \"warning\"",
        ]
    );
}

/// The commands of the script with these comments above them.
fn command(comment: &str) -> String {
    let start = SCRIPT.find(comment).unwrap_or_else(|| panic!("no `{comment}`"));
    let rest = &SCRIPT[start + comment.len()..];
    rest[..rest.find("\n\n").unwrap_or(rest.len())].trim().to_owned()
}

/// Runs a command as it stands, but for the server's address and the id; nobody's mail server is
/// asked.
fn run(server: &mut Server, comment: &str, id: &str) -> Value {
    server.get("/v1/alerts/rules");
    let text = command(comment)
        .replace("http://localhost:8080", &server.url())
        .replace("<id>", id)
        .replace("smtp.example.com", "127.0.0.1");
    let out = Command::new("bash")
        .args(["-euc", &text])
        .env("TOKEN", server.token().expect("a login"))
        .stdin(Stdio::null())
        .output()
        .expect("bash and curl run");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{said}\n{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{text}\n{said}\n{error}"))
}

#[test]
fn the_scripts_for_channels_and_silence_windows_work() {
    let mut server = Server::start("");
    let made = run(&mut server, "# Create a channel\n", "");
    assert_eq!((&made["err_code"], &made["data"]["name"]), (&json!(0), &json!("ops-email")));
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let listed = run(&mut server, "# List channels with recipients\n", &id);
    assert_eq!(listed["data"][0]["recipients"], json!(["ops@example.com", "admin@example.com"]));
    assert_eq!(listed["data"][0]["min_severity"], "warning");
    let changed = run(&mut server, "# Update recipients\n", &id);
    assert_eq!(changed["err_code"], 0, "{changed}");
    let path = format!("/v1/notifications/channels/{id}/recipients");
    let recipients = json!(["ops@example.com", "admin@example.com", "oncall@example.com"]);
    assert_eq!(server.get(&path), recipients);
    let tried = run(&mut server, "# Send test notification\n", &id);
    assert_eq!(tried["err_code"], 1013, "there is no mail server: {tried}");

    let window = run(&mut server, "# Create a silence window\n", "");
    let expected = json!(["02:00", "04:00", "daily"]);
    let data = &window["data"];
    assert_eq!(json!([data["start_time"], data["end_time"], data["recurrence"]]), expected);
    let id = data["id"].as_str().unwrap().to_owned();
    let listed = run(&mut server, "# List silence windows\n", "");
    assert_eq!(listed["data"][0]["id"], id.as_str());
    let deleted = run(&mut server, "# Delete a silence window\n", &id);
    assert_eq!(deleted["err_code"], 0, "{deleted}");
    assert_eq!(run(&mut server, "# List silence windows\n", "")["data"], json!([]));
}

#[test]
fn the_fields_of_the_tables_are_those_that_are_needed() {
    let mut server = Server::start("");
    let full = [
        (
            "email",
            json!({"smtp_host": "127.0.0.1", "smtp_port": 587, "from_name": "oxmon",
                   "from_email": "alerts@example.com"}),
        ),
        ("sms", json!({"gateway_url": "http://127.0.0.1/", "api_key": "k"})),
        ("dingtalk", json!({"webhook_url": "http://127.0.0.1/"})),
        ("weixin", json!({"webhook_url": "http://127.0.0.1/"})),
        ("webhook", json!({"url": "http://127.0.0.1/"})),
    ];
    let seed = server.dir.path().join("channels.seed.json");
    let init = |server: &Server, channel: &Value| {
        std::fs::write(&seed, json!({"channels": [channel]}).to_string()).unwrap();
        Command::new(program())
            .arg("init-channels")
            .args([&server.dir.path().join("server.toml"), &seed])
            .output()
            .unwrap()
    };
    for (kind, config) in full {
        for field in config.as_object().unwrap().keys() {
            let mut less = config.clone();
            less.as_object_mut().unwrap().remove(field);
            let channel = json!({"name": kind, "channel_type": kind, "config_json": less});
            let path = "/v1/notifications/channels/config";
            let refused = server.call("POST", path, Some(channel.clone()));
            let said = refused.body["err_msg"].as_str().unwrap_or_default().to_owned();
            assert_eq!(refused.status, 400, "{kind} without {field}: {said}");
            assert!(said.contains(&format!("{field}: is missing")), "{said}");
            let out = init(&server, &channel);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success() && said.contains(&format!("{field}: is missing")));
        }
        let config = config.to_string();
        let channel = json!({"name": kind, "channel_type": kind, "config_json": config});
        let out = init(&server, &channel);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(server.call("GET", "/v1/notifications/channels", None).total, Some(5));
}
