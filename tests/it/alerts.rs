//! Alerts from a point on the wire to a message at the receiver, through restarts and kills.

use std::time::Duration;

use oxmon::base::clock::{MINUTE_MS, SECOND_MS};
use serde_json::{Value, json};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(20);

/// A body that says all that the tests look at.
const TEMPLATE: &str = r#"{"agent":"{{agent_id}}","metric":"{{metric}}","value":"{{value}}","severity":"{{severity}}","status":"{{status}}","rule":"{{rule_name}}","message":"{{message}}"}"#;

fn webhook(server: &mut Server, name: &str, url: &str, extra: Value) -> Value {
    let mut config = json!({"body_template": TEMPLATE});
    if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
        config.extend(extra.clone());
    }
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": name, "channel_type": "webhook", "config_json": config, "recipients": [url]}),
    )
}

fn rule(server: &mut Server, name: &str, kind: &str, metric: &str, config: Value) -> Value {
    server.post(
        "/v1/alerts/rules",
        json!({"name": name, "rule_type": kind, "metric": metric, "severity": "critical",
               "config_json": config.to_string(), "silence_secs": 0}),
    )
}

fn over_90(server: &mut Server) {
    rule(
        server,
        "high-cpu",
        "threshold",
        "cpu.usage",
        json!({"operator": "greater_than", "value": 90.0, "duration_secs": 60}),
    );
}

/// Reports one value of `cpu.usage` every ten seconds of the last `minutes`.
fn report(server: &Server, agent: &str, minutes: i64, value: f64) {
    let client = Client::to(server.grpc_port);
    let now = now_ms();
    for back in (0..=minutes * 6).rev() {
        let at = now - back * 10 * SECOND_MS;
        assert!(client.report(&batch(agent, at, &[("cpu.usage", value)])).unwrap().success);
    }
}

fn active(server: &mut Server) -> Vec<Value> {
    server.get("/v1/alerts/active?limit=1000").as_array().unwrap().clone()
}

fn bodies_with<'a>(bodies: &'a [Value], agent: &str) -> Vec<&'a Value> {
    bodies.iter().filter(|body| body.to_string().contains(agent)).collect()
}

#[test]
fn a_threshold_goes_from_pending_to_firing_to_recovery_and_is_told_once_each() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 0\n");
    webhook(&mut server, "hook", &sink.url("/ok"), json!({}));
    over_90(&mut server);
    let client = Client::to(server.grpc_port);
    let start = now_ms() - 5 * MINUTE_MS;
    let send = |offset_secs: i64, value: f64| {
        let at = start + offset_secs * SECOND_MS;
        assert!(client.report(&batch("web-01", at, &[("cpu.usage", value)])).unwrap().success);
    };
    for offset in (0..50).step_by(10) {
        send(offset, 95.0);
    }
    assert_eq!(active(&mut server).len(), 0, "it has not held for a minute yet");
    for offset in (50..=120).step_by(10) {
        send(offset, 96.5);
    }
    let event = wait_for("the alert", SOON, || active(&mut server).first().cloned());
    assert_eq!(event["agent_id"], "web-01");
    assert_eq!(event["status"], 1);
    assert_eq!(event["threshold"], 90.0);
    assert!(event["message"].as_str().unwrap().contains("cpu.usage"), "{event}");
    wait_for("the first message", SOON, || (sink.bodies().len() == 1).then_some(()));
    let told = sink.bodies().remove(0);
    assert_eq!((&told["agent"], &told["rule"]), (&json!("web-01"), &json!("high-cpu")), "{told}");
    assert_eq!(told["severity"], "critical");

    let id = event["id"].as_str().unwrap();
    let answer = server.post(&format!("/v1/alerts/history/{id}/acknowledge"), json!({}));
    assert_eq!(answer["status"], 2);

    send(130, 20.0);
    wait_for("the recovery", SOON, || active(&mut server).is_empty().then_some(()));
    wait_for("its message", SOON, || (sink.bodies().len() == 2).then_some(()));
    assert!(sink.bodies()[1].to_string().contains("resolved"), "{:?}", sink.bodies());
    let history = server.get("/v1/alerts/history");
    assert!(!history.as_array().unwrap().is_empty());
    delivered(&mut server, 2);
    assert_eq!(server.get("/v1/notifications/logs?status=failed")["total"], 0);
}

/// Waits until so many messages are in the log as delivered: the receiver has them sooner.
fn delivered(server: &mut Server, count: u64) {
    wait_for("the delivery log", SOON, || {
        let logs = server.get("/v1/notifications/logs?status=success&limit=1");
        (logs["total"] == count).then_some(())
    });
}

#[test]
fn one_full_mount_among_five_fires_for_that_mount_alone() {
    let mut server = Server::start("aggregation_window_secs = 0\n");
    rule(
        &mut server,
        "disk-full",
        "threshold",
        "disk.used_percent",
        json!({"operator": "greater_equal", "value": 95.0, "duration_secs": 0}),
    );
    let at = now_ms();
    let mut sent = batch("web-01", at, &[("disk.used_percent", 40.0); 5]);
    for (point, mount) in sent.data_points.iter_mut().zip(["/", "/a", "/b", "/data", "/home"]) {
        point.labels.insert("mount".into(), mount.into());
        if mount == "/data" {
            point.value = 95.0;
        }
    }
    assert!(Client::to(server.grpc_port).report(&sent).unwrap().success);
    let events = wait_for("the alert", SOON, || {
        let events = active(&mut server);
        (!events.is_empty()).then_some(events)
    });
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["labels"], json!({"mount": "/data"}));
}

#[test]
fn a_restart_and_a_kill_neither_repeat_nor_forget() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 0\n");
    webhook(&mut server, "hook", &sink.url("/ok"), json!({}));
    over_90(&mut server);
    report(&server, "web-01", 3, 99.0);
    wait_for("the first message", SOON, || (sink.bodies().len() == 1).then_some(()));

    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    server.kill_and_restart();
    assert_eq!(active(&mut server).len(), 1, "it still fires");
    report(&server, "web-02", 3, 99.0);
    wait_for("the second agent's message", SOON, || {
        (!bodies_with(&sink.bodies(), "web-02").is_empty()).then_some(())
    });
    assert_eq!(bodies_with(&sink.bodies(), "web-01").len(), 1, "it notifies once");

    // The recovery comes while nobody looks: stored just before a kill.
    let client = Client::to(server.grpc_port);
    let at = now_ms() + SECOND_MS;
    assert!(client.report(&batch("web-01", at, &[("cpu.usage", 1.0)])).unwrap().success);
    server.kill_and_restart();
    wait_for("the recovery's message", SOON, || {
        let bodies = sink.bodies();
        let about = bodies_with(&bodies, "web-01");
        about.iter().any(|body| body.to_string().contains("resolved")).then_some(())
    });
    assert_eq!(bodies_with(&sink.bodies(), "web-01").len(), 2);
}

#[test]
fn an_agent_that_falls_silent_is_told_of_and_so_is_its_return() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 0\n");
    webhook(&mut server, "hook", &sink.url("/ok"), json!({}));
    rule(&mut server, "gone", "no_data", "*", json!({"duration_secs": 5}));
    let speak = |server: &Server, agent: &str| {
        let points = batch(agent, now_ms(), &[("cpu.usage", 1.0)]);
        assert!(Client::to(server.grpc_port).report(&points).unwrap().success);
    };
    let told = |agent: &str, status: &str| {
        let heard = || {
            let bodies = sink.bodies();
            let found = bodies_with(&bodies, agent).iter().any(|body| body["status"] == status);
            found.then_some(())
        };
        wait_for(&format!("{status} of {agent}"), Duration::from_secs(40), heard);
    };
    speak(&server, "web-01");
    told("web-01", "firing");
    speak(&server, "web-01");
    told("web-01", "resolved");
    // One that reports before a kill and never after it.
    speak(&server, "web-02");
    server.kill_and_restart();
    speak(&server, "web-01");
    told("web-02", "firing");
    assert_eq!(bodies_with(&sink.bodies(), "web-02").len(), 1);
    speak(&server, "web-02");
    told("web-02", "resolved");
}

#[test]
fn a_endpoint_that_is_down_hangs_or_closes_loses_nothing_and_stops_nobody() {
    let sink = Sink::start();
    let mut server = Server::start(
        "aggregation_window_secs = 0\n[notify]\ntimeout_secs = 2\ndeliver_within_secs = 600\n",
    );
    for path in ["/down/2", "/hang", "/close", "/ok"] {
        webhook(&mut server, path, &sink.url(path), json!({}));
    }
    over_90(&mut server);
    report(&server, "web-01", 3, 99.0);
    let count = |path: &str| sink.requests().iter().filter(|r| r["path"] == path).count();
    wait_for("the good channel", SOON, || (count("/ok") == 1).then_some(()));
    wait_for("the third try", Duration::from_secs(90), || (count("/down/2") == 3).then_some(()));
    wait_for("a second try at the one that closes", Duration::from_secs(60), || {
        (count("/close") >= 2).then_some(())
    });
    delivered(&mut server, 2);
    assert_eq!(count("/ok"), 1);
    let failed = server.get("/v1/notifications/logs?status=failed&limit=100");
    let shown = failed["items"].to_string();
    assert!(shown.contains("500"), "the far side's status is in the log: {shown}");
}

#[test]
fn a_dingtalk_robot_gets_a_signature_that_it_accepts() {
    let sink = Sink::robot("SEC-very-secret");
    let mut server = Server::start("");
    let make = |server: &mut Server, name: &str, secret: &str| -> String {
        let config = json!({"webhook_url": sink.url("/robot?access_token=x"), "secret": secret});
        let made = server.post(
            "/v1/notifications/channels/config",
            json!({"name": name, "channel_type": "dingtalk", "config_json": config.to_string()}),
        );
        made["id"].as_str().unwrap().to_owned()
    };
    let good = make(&mut server, "good", "SEC-very-secret");
    let bad = make(&mut server, "bad", "SEC-other");
    let answer = server.call("POST", &format!("/v1/notifications/channels/{good}/test"), None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = server.call("POST", &format!("/v1/notifications/channels/{bad}/test"), None);
    assert_eq!((answer.status, answer.code()), (424, 1013), "{}", answer.body);
    assert!(answer.body.to_string().contains("sign not match"), "{}", answer.body);
    let shown = server.get("/v1/notifications/channels/config").to_string();
    assert!(!shown.contains("very-secret") && shown.contains("***"), "{shown}");
    assert!(!server.log().contains("very-secret"), "a secret is in the log");
    let sent = sink.bodies();
    assert_eq!(sent[0]["msgtype"], "markdown");
}

#[test]
fn a_backtest_says_what_would_have_fired_and_tells_nobody() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 0\n");
    webhook(&mut server, "hook", &sink.url("/ok"), json!({}));
    report(&server, "web-01", 5, 97.0);
    report(&server, "web-02", 5, 10.0);
    let body = json!({
        "name": "what-if", "rule_type": "threshold", "metric": "cpu.usage", "severity": "warning",
        "config_json": json!({"operator": "greater_than", "value": 90.0, "duration_secs": 60}).to_string(),
        "timestamp__gte": oxmon::base::clock::rfc3339(now_ms() - 10 * MINUTE_MS),
        "timestamp__lte": oxmon::base::clock::rfc3339(now_ms()),
    });
    let found = server.post("/v1/alerts/rules/test", body);
    let text = found.to_string();
    assert!(text.contains("web-01") && !text.contains("web-02"), "{text}");
    assert!(active(&mut server).is_empty());
    assert!(server.get("/v1/alerts/history").as_array().unwrap().is_empty());
    assert!(sink.requests().is_empty());
}

#[test]
fn ten_thousand_alerts_at_once_are_one_message_a_window() {
    const WINDOW_SECS: u64 = 20;
    let sink = Sink::start();
    let mut server = Server::start(&format!("aggregation_window_secs = {WINDOW_SECS}\n"));
    let config = json!({});
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": config,
               "recipients": [sink.url("/ok")]}),
    );
    rule(
        &mut server,
        "flood",
        "threshold",
        "m",
        json!({"operator": "greater_than", "value": 0.5, "duration_secs": 0}),
    );
    let client = Client::to(server.grpc_port);
    let at = now_ms();
    let begun = std::time::Instant::now();
    for agent in 0..10 {
        let mut sent = batch(&format!("host-{agent}"), at, &vec![("m", 1.0); 1_000]);
        for (number, point) in sent.data_points.iter_mut().enumerate() {
            point.labels.insert("n".into(), number.to_string());
        }
        assert!(client.report(&sent).unwrap().success);
    }
    wait_for("all alerts", Duration::from_secs(60), || {
        let answer = server.call("GET", "/v1/alerts/active?limit=1", None);
        (answer.total == Some(10_000)).then_some(())
    });
    let windows = begun.elapsed().as_secs() / WINDOW_SECS + 1;
    let listed =
        |bodies: &[Value]| -> u64 { bodies.iter().filter_map(|body| body["count"].as_u64()).sum() };
    wait_for("all of them in messages", Duration::from_secs(90), || {
        (listed(&sink.bodies()) >= 10_000).then_some(())
    });
    let bodies = sink.bodies();
    delivered(&mut server, bodies.len() as u64);
    assert_eq!(listed(&bodies), 10_000, "each of them once");
    let mut alerts: Vec<String> = bodies
        .iter()
        .flat_map(|body| body["alerts"].as_array().unwrap())
        .map(|alert| format!("{}{}", alert["agent_id"], alert["labels"]))
        .collect();
    alerts.sort();
    alerts.dedup();
    assert_eq!(alerts.len(), 10_000);
    let messages = bodies.len() as u64;
    assert!(messages <= windows, "{messages} messages in {windows} windows");
}
