//! Channels, silence windows and deliveries, over the API and the wire.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint, closed_port};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(20);
const CONFIG: &str = "/v1/notifications/channels/config";

fn webhook(name: &str, url: &str) -> Value {
    json!({"name": name, "channel_type": "webhook", "config_json": "{}", "recipients": [url]})
}

/// A rule that fires at once when `cpu.usage` of any agent is over 90.
fn hot_rule(server: &mut Server) {
    let config = json!({"operator": "greater_than", "value": 90.0, "duration_secs": 0});
    server.post(
        "/v1/alerts/rules",
        json!({
            "name": "Hot", "rule_type": "threshold", "metric": "cpu.usage",
            "severity": "critical", "config_json": config.to_string(), "silence_secs": 0,
        }),
    );
}

fn report(server: &Server, agent: &str, value: f64) {
    let points = batch(agent, now_ms(), &[("cpu.usage", value)]);
    let reply = Client::to(server.grpc_port).report(&points).unwrap();
    assert!(reply.success, "{}", reply.message);
}

#[test]
fn a_channel_is_made_shown_changed_tried_and_removed() {
    let endpoint = Endpoint::start(|request, _| match request.header("x-key") {
        "key-123456" => Act::Answer(200, "taken".to_owned()),
        other => Act::Answer(403, format!("no `{other}`")),
    });
    let mut server = Server::start("aggregation_window_secs = 0");
    let mut body = webhook("chat", &endpoint.url("/hook"));
    body["config_json"] = json!({"headers": {"X-Key": "key-123456"}});
    let made = server.post(CONFIG, body.clone());
    assert_eq!(made["config_json"], r#"{"headers":{"X-Key":"***"}}"#);
    assert_eq!(made["recipient_type"], "url");
    assert_eq!(made["min_severity"], "info");
    let again = server.call("POST", CONFIG, Some(body));
    assert_eq!((again.status, again.code()), (409, 1005), "{again:?}");
    let path = format!("{CONFIG}/chat");
    let masked = json!({"description": "the team's", "config_json": made["config_json"]});
    let changed = server.call("PUT", &path, Some(masked));
    assert_eq!(changed.data()["description"], "the team's", "{changed:?}");
    let tried = server.post("/v1/notifications/channels/chat/test", json!({}));
    assert_eq!(tried["answer"], "taken", "the stored key was kept");
    assert_eq!(endpoint.requests()[0].json()["status"], "test");
    let wrong = json!({"config_json": {"headers": {"X-Key": "wrong-key"}}});
    assert_eq!(server.call("PUT", &path, Some(wrong)).status, 200);
    let refused = server.call("POST", "/v1/notifications/channels/chat/test", None);
    assert_eq!((refused.status, refused.code()), (424, 1013), "{refused:?}");
    let said = refused.body["err_msg"].as_str().unwrap();
    assert!(said.contains("HTTP 403; it answered: no `***`"), "{said}");
    let id = made["id"].as_str().unwrap();
    let recipients = format!("/v1/notifications/channels/{id}/recipients");
    let set = json!({"recipients": ["https://a.example/", "https://b.example/"]});
    // The stored key was made for the old address.
    let kept = server.call("PUT", &recipients, Some(set.clone()));
    assert_eq!((kept.status, kept.code()), (400, 1001), "{kept:?}");
    let plain = json!({"config_json": {"headers": {}}});
    assert_eq!(server.call("PUT", &path, Some(plain)).status, 200);
    assert_eq!(server.call("PUT", &recipients, Some(set)).status, 200);
    assert_eq!(server.get(&recipients), json!(["https://a.example/", "https://b.example/"]));
    let bad = server.call("PUT", &recipients, Some(json!({"recipients": ["nobody"]})));
    assert_eq!((bad.status, bad.code()), (400, 1001), "{bad:?}");
    let listed = server.call("GET", "/v1/notifications/channels?limit=1", None);
    assert_eq!((listed.total, listed.data()[0]["id"].as_str()), (Some(1), Some(id)));
    assert!(listed.data()[0].get("config_json").is_none());
    assert_eq!(server.call("DELETE", &path, None).status, 200);
    assert_eq!(server.call("GET", &path, None).code(), 1004);
}

#[test]
fn a_channel_that_can_not_work_is_refused_by_its_field() {
    let mut server = Server::start("");
    let cases = [
        (json!({"channel_type": "webhook", "config_json": "{}"}), "name"),
        (json!({"name": "a", "channel_type": "pager", "config_json": "{}"}), "channel_type"),
        (json!({"name": "a", "channel_type": "sms", "config_json": "{}"}), "gateway_url"),
        (json!({"name": "a", "channel_type": "webhook", "config_json": "{"}), "config_json"),
        (
            json!({"name": "a", "channel_type": "webhook",
                "config_json": {"body_template": "{{host}}"}}),
            "{{host}}",
        ),
        (
            json!({"name": "a", "channel_type": "email", "config_json": {"smtp_host": "localhost",
                "smtp_port": "25", "from_name": "x", "from_email": "a@example.com"}}),
            "smtp_port",
        ),
        (json!({"name": "a", "channel_type": "webhook", "config_json": "{}", "x": 1}), "x"),
    ];
    for (body, field) in cases {
        let answer = server.call("POST", CONFIG, Some(body));
        let said = answer.body["err_msg"].as_str().unwrap_or_default();
        assert_eq!((answer.status, answer.code()), (400, 1001), "{said}");
        assert!(said.contains(field), "`{field}` is not in: {said}");
    }
    assert_eq!(server.get("/v1/notifications/channels"), json!([]));
}

#[test]
fn silence_windows_come_and_go() {
    const PATH: &str = "/v1/notifications/silence-windows";
    let mut server = Server::start("time_zone = 'UTC'");
    let daily = json!({"start_time": "02:00", "end_time": "04:00", "recurrence": "daily"});
    let made = server.post(PATH, daily);
    assert_eq!(made["recurrence"], "daily");
    let once = server.post(PATH, json!({"start_time": "02:00", "end_time": "04:00"}));
    assert_eq!(once["recurrence"], Value::Null);
    assert!(once["date"].is_string(), "{once}");
    let weekly = json!({"start_time": "22:00", "end_time": "06:00", "recurrence": "weekly",
        "days": ["sat"], "time_zone": "Europe/Berlin"});
    assert_eq!(server.post(PATH, weekly)["days"], json!(["sat"]));
    let bad = json!({"start_time": "2 am", "end_time": "04:00"});
    let refused = server.call("POST", PATH, Some(bad));
    assert_eq!(refused.code(), 1001);
    assert!(refused.body["err_msg"].as_str().unwrap().starts_with("start_time: "));
    assert_eq!(server.call("GET", PATH, None).total, Some(3));
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path, None).status, 200);
    assert_eq!(server.call("DELETE", &path, None).status, 404);
    assert_eq!(server.call("GET", PATH, None).total, Some(2));
}

#[test]
fn an_alert_over_the_wire_is_told_and_its_recovery_too() {
    let endpoint = Endpoint::start(|_, _| Act::Answer(200, "thanks".to_owned()));
    let mut server = Server::start("aggregation_window_secs = 0");
    server.post(CONFIG, webhook("chat", &endpoint.url("/")));
    hot_rule(&mut server);
    report(&server, "web-1", 95.0);
    let told = endpoint.wait(1)[0].json();
    assert_eq!(
        (&told["status"], &told["alerts"][0]["agent_id"]),
        (&json!("firing"), &json!("web-1"))
    );
    report(&server, "web-1", 10.0);
    assert_eq!(endpoint.wait(2)[1].json()["status"], "resolved");
    let event = told["alerts"][0]["id"].as_str().unwrap();
    let path = format!("/v1/notifications/logs?alert_event_id={event}&status=success");
    let found = wait_for("the delivery log", LIMIT, || {
        let answer = server.call("GET", &path, None);
        (answer.total == Some(1)).then(|| answer.data().clone())
    });
    assert_eq!(found["total"], 1);
    assert_eq!(found["items"][0]["channel_name"], "chat");
    assert_eq!(found["items"][0]["http_status_code"], 200);
    assert_eq!(found["items"][0]["response_body"], "thanks");
    let path = "/v1/notifications/logs/summary?start_time=0&channel_type=webhook";
    let summary = wait_for("both in the summary", LIMIT, || {
        Some(server.get(path)).filter(|summary| summary["total"] == 2)
    });
    assert_eq!((&summary["success"], &summary["failed"]), (&json!(2), &json!(0)));
    let none = server.get("/v1/notifications/logs?agent_id=web-2&end_time=2100-01-01T00:00:00Z");
    assert_eq!(none, json!({"items": [], "total": 0}));
    assert_eq!(server.call("GET", "/v1/notifications/logs?status=lost", None).code(), 1001);
}

#[test]
fn an_alert_whose_endpoint_is_down_survives_sigkill() {
    let port = closed_port();
    let mut server = Server::start("aggregation_window_secs = 0");
    server.post(CONFIG, webhook("chat", &format!("http://127.0.0.1:{port}/")));
    hot_rule(&mut server);
    report(&server, "web-1", 95.0);
    wait_for("a first attempt", LIMIT, || {
        let logs = server.get("/v1/notifications/logs?status=failed");
        (logs["total"].as_i64() >= Some(1)).then_some(())
    });
    server.kill_and_restart();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let endpoint = Endpoint::start_on(listener, None, |_, _| Act::Answer(200, String::new()));
    assert_eq!(endpoint.wait(1)[0].json()["status"], "firing");
    report(&server, "web-1", 10.0);
    assert_eq!(endpoint.wait(2)[1].json()["status"], "resolved");
    // What a crash leaves between an answer and its note is sent again; so wait for the note.
    wait_for("both in the log", LIMIT, || {
        let logs = server.get("/v1/notifications/logs?status=success");
        (logs["total"] == 2).then_some(())
    });
    server.kill_and_restart();
    report(&server, "web-2", 95.0);
    let third = &endpoint.wait(3)[2].json();
    assert_eq!(third["alerts"][0]["agent_id"], "web-2", "what was sent is not sent again");
}

#[test]
fn init_channels_makes_what_is_missing_beside_a_running_server() {
    let mut server = Server::start("");
    let run = |seed: &str| {
        Command::new(program())
            .arg("init-channels")
            .arg(server.dir.path().join("server.toml"))
            .arg(seed)
            .output()
            .unwrap()
    };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/channels.seed.example.json");
    let first = run(example);
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success() && said.contains("made channel `ops-email` (email)"), "{said}");
    let second = run(example);
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(second.status.success(), "{said}");
    assert!(said.contains("skipped channel `ops-email` (email): the name exists"), "{said}");
    let broken = server.dir.path().join("seed.json");
    std::fs::write(
        &broken,
        r#"{"channels": [{"name": "x", "channel_type": "sms",
        "config": {"gateway_url": "https://sms.example.com/"}}]}"#,
    )
    .unwrap();
    let third = run(broken.to_str().unwrap());
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert_eq!(third.status.code(), Some(oxmon::base::exit::Exit::Config as i32), "{said}");
    assert!(said.contains("channels[0] `x`: config_json: api_key: is missing"), "{said}");
    assert_eq!(server.call("GET", "/v1/notifications/channels", None).total, Some(7));
    let shown = server.get(&format!("{CONFIG}/ops-email"));
    assert!(!shown.to_string().contains("change-me"), "{shown}");
}
