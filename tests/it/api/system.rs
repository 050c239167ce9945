//! The server's own state over HTTP: configuration, storage, overview, exposition.

use std::time::Duration;

use oxmon::base::clock::{DAY_MS, utc_day};
use serde_json::{Value, json};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let secret = "0123456789abcdef0123456789abcdef";
    let extra = format!(
        "retention_days = 9\naggregation_window_secs = 5\n[auth]\njwt_secret = \"{secret}\"\n\
         [cert_check]\ntick_secs = 7\n"
    );
    let mut server = Server::start(&extra);
    let answer = server.call("GET", "/v1/system/config", None);
    let shown = answer.body.to_string();
    assert!(!shown.contains(secret) && !shown.contains("changeme"), "{shown}");
    let config = answer.data();
    let wanted = json!({"retention_days": 9, "require_agent_auth": false, "cert_check_tick_secs": 7,
        "cert_check_enabled": true, "cert_check_max_concurrent": 10,
        "cert_check_default_interval_secs": 86_400, "notification_aggregation_window_secs": 5,
        "alert_rules_count": 0, "notification_channels_count": 0});
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&config[field], value, "{field}");
    }
    assert_eq!(config["grpc_port"], server.grpc_port);
    assert_eq!(config["http_port"], server.http_port);
    assert_eq!(config["data_dir"], server.data().display().to_string());
    let settings = &config["settings"];
    assert_eq!(settings["auth.jwt_secret"], "***");
    assert_eq!(settings["auth.default_password"], "***");
    assert_eq!(settings["tls.cert_file"], Value::Null);
    assert_eq!(settings["pools.http_workers"], 4);

    server.post(
        "/v1/alerts/rules",
        json!({"name": "r", "rule_type": "threshold", "metric": "cpu.usage",
               "config_json": {"operator": "greater_than", "value": 1.0, "duration_secs": 0}}),
    );
    let channel = json!({"name": "c", "channel_type": "webhook", "enabled": false,
        "config_json": {"url": "http://127.0.0.1:9/"}});
    server.post("/v1/notifications/channels/config", channel);
    let config = server.get("/v1/system/config");
    assert_eq!(config["alert_rules_count"], 1);
    assert_eq!(config["notification_channels_count"], 1);
}

#[test]
fn storage_lists_its_days_and_a_cleanup_says_which_went() {
    // One byte is too little for any day, and the present one stays whatever its size is.
    let mut server = Server::start("retention_max_bytes = 1\n");
    let client = Client::to(server.grpc_port);
    let (now, then) = (now_ms(), now_ms() - 3 * DAY_MS);
    for at in [then, now] {
        assert!(client.report(&batch("web-01", at, &[("cpu.usage", 1.0)])).unwrap().success);
    }
    let storage = server.get("/v1/system/storage");
    let dates: Vec<&str> = storage["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["date"].as_str())
        .collect();
    assert_eq!(dates, [utc_day(then), utc_day(now)]);
    let sum: u64 = storage["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["size_bytes"].as_u64().unwrap())
        .sum();
    assert!(sum > 0);
    assert_eq!(storage["total_size_bytes"], sum);
    assert_eq!(storage["total_partitions"], 2);
    assert!(storage["data_dir_bytes"].as_u64().unwrap() >= sum, "{storage}");
    assert!(storage["head_bytes"].as_u64().unwrap() > 0, "{storage}");
    assert_eq!(storage["head_series"], 2);
    assert_eq!((&storage["damaged"], &storage["disk_full"]), (&json!([]), &json!(false)));

    let gone = server.post("/v1/system/storage/cleanup", json!({}));
    assert_eq!(gone["removed"][0]["date"], utc_day(then), "{gone}");
    assert_eq!(gone["removed_partitions"], 1);
    assert_eq!(gone["freed_bytes"], gone["removed"][0]["size_bytes"]);
    assert!(!server.data().join(format!("{}.db", utc_day(then))).exists());
    assert_eq!(server.get("/v1/system/storage")["total_partitions"], 1);
    // Nothing is left to drop.
    let again = server.post("/v1/system/storage/cleanup", json!({}));
    assert_eq!((&again["removed"], &again["freed_bytes"]), (&json!([]), &json!(0)));
}

#[test]
fn a_damaged_day_is_named() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    assert!(client.report(&batch("web-01", now_ms(), &[("cpu.usage", 1.0)])).unwrap().success);
    let file = server.data().join(format!("{}.db", utc_day(now_ms())));
    assert!(server.stop().success());
    std::fs::write(&file, vec![0x55_u8; 40_000]).unwrap();
    server.restart();
    let storage = server.get("/v1/system/storage");
    let name = storage["damaged"][0].as_str().unwrap_or_default();
    assert!(name.starts_with(&utc_day(now_ms())), "{storage}");
    assert_eq!(server.get("/v1/health")["storage_status"], "damaged");
}

#[test]
fn the_overview_counts_what_is_there() {
    let mut server = Server::start("");
    let overview = server.get("/v1/dashboard/overview");
    let zero = json!({"info": 0, "warning": 0, "critical": 0});
    assert_eq!(overview["alerts_by_severity"], zero);
    assert_eq!(overview["total_agents"], 0);
    let none = json!({"total_domains": 0, "valid": 0, "invalid": 0, "expiring_soon": 0});
    assert_eq!(overview["cert_summary"], none);

    server.post(
        "/v1/alerts/rules",
        json!({"name": "r", "rule_type": "threshold", "metric": "cpu.usage", "severity": "critical",
               "config_json": {"operator": "greater_than", "value": 90.0, "duration_secs": 0}}),
    );
    server.post("/v1/agents/whitelist", json!({"agent_id": "web-03"}));
    let client = Client::to(server.grpc_port);
    let reports = [("web-01", now_ms(), 99.0), ("web-02", now_ms() - 3_600_000, 1.0)];
    for (agent, at, value) in reports {
        assert!(client.report(&batch(agent, at, &[("cpu.usage", value)])).unwrap().success);
    }
    let overview = wait_for("the alert", Duration::from_secs(10), || {
        let overview = server.get("/v1/dashboard/overview");
        (overview["alerts_24h"] == 1).then_some(overview)
    });
    assert_eq!(overview["alerts_by_severity"], json!({"info": 0, "warning": 0, "critical": 1}));
    // Both have reported just now, whatever the time of their points.
    assert_eq!((&overview["active_agents"], &overview["total_agents"]), (&json!(2), &json!(3)));
    let storage = server.get("/v1/system/storage");
    assert_eq!(overview["partition_count"], storage["total_partitions"]);
    assert!(overview["storage_total_bytes"].as_u64().unwrap() > 0, "{overview}");
    assert!(overview["uptime_secs"].as_u64().unwrap() < 60, "{overview}");
}

#[test]
fn these_take_no_parameters_and_no_other_method() {
    let mut server = Server::start("");
    for path in ["/v1/system/config", "/v1/system/storage", "/v1/dashboard/overview", "/metrics"] {
        let answer = server.call("GET", &format!("{path}?verbose=1"), None);
        assert_eq!((answer.status, answer.code()), (400, 1001), "{path}");
        assert!(answer.body["err_msg"].as_str().unwrap().contains("verbose"), "{path}");
        assert_eq!(server.call("DELETE", path, None).status, 405, "{path}");
    }
    assert_eq!(server.call("GET", "/v1/system/storage/cleanup", None).status, 405);
    assert_eq!(server.call("GET", "/v1/system/none", None).status, 404);
}

fn exposition(server: &mut Server) -> String {
    let answer = server.call("GET", "/metrics", None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.as_str().unwrap().to_owned()
}

/// The sum of a family's samples.
fn value(text: &str, family: &str) -> Option<f64> {
    let of_family =
        |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = text.lines().filter(of_family).map(|line| line.rsplit(' ').next()?.parse().ok());
    values.collect::<Option<Vec<f64>>>().filter(|found| !found.is_empty()).map(|v| v.iter().sum())
}

#[test]
fn the_exposition_tells_of_every_room() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    assert!(client.report(&batch("web-01", now_ms(), &[("cpu.usage", 1.0)])).unwrap().success);
    let refused = client.report(&batch("", now_ms(), &[("cpu.usage", 1.0)])).unwrap();
    assert!(!refused.success);
    let text = exposition(&mut server);
    // The series of agents are another switch.
    assert!(!text.contains("web-01"), "{text}");
    let at_least_one = [
        "oxmon_storage_commits_total",
        "oxmon_storage_commit_seconds_count",
        "oxmon_storage_points_total",
        "oxmon_storage_head_bytes",
        "oxmon_ingest_batches_total",
        "oxmon_ingest_points_total",
        "oxmon_ingest_answer_seconds_count",
        "oxmon_control_write_seconds_count",
        "oxmon_http_answers_total",
        "oxmon_http_turnaround_seconds_count",
        "oxmon_http_connections",
        "oxmon_api_calls_total",
        "oxmon_api_call_seconds_count",
        "oxmon_api_calls_active",
        "oxmon_build_info",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_threads",
        "process_open_fds",
    ];
    for family in at_least_one {
        let seen = value(&text, family);
        assert!(seen.is_some_and(|seen| seen > 0.0), "{family}: {seen:?}\n{text}");
    }
    let there = [
        "oxmon_storage_queue_depth",
        "oxmon_storage_disk_full",
        "oxmon_ingest_points_left_out_total",
        "oxmon_alert_queue_depth",
        "oxmon_alert_evaluation_lag_seconds_count",
        "oxmon_alert_turn_seconds_count",
        "oxmon_notify_outbox_depth",
        "oxmon_control_queue_depth",
        "oxmon_http_queue_depth",
        "oxmon_uptime_seconds",
    ];
    for family in there {
        assert!(value(&text, family).is_some(), "{family}\n{text}");
    }
    let login = "oxmon_api_calls_total{method=\"POST\",route=\"/v1/auth/login\",status=\"200\"} 1";
    assert!(text.contains(login), "{text}");
    // A path that is none of the server's makes no series of its own.
    server.call("GET", "/v1/made/up", None);
    let text = exposition(&mut server);
    assert!(text.contains("route=\"none\",status=\"404\"} 1") && !text.contains("made"), "{text}");
}

#[test]
fn the_exposition_has_the_latest_value_of_every_series_when_asked() {
    let mut server = Server::start("[prometheus]\nagents = true\n");
    let client = Client::to(server.grpc_port);
    let at = now_ms();
    for (at, value) in [(at - 1_000, 1.0), (at, 12.5)] {
        assert!(client.report(&batch("web-01", at, &[("cpu.usage", value)])).unwrap().success);
    }
    let text = exposition(&mut server);
    assert!(text.contains(&format!("\noxmon_cpu_usage{{agent=\"web-01\"}} 12.5 {at}\n")), "{text}");
    assert!(text.contains("# HELP oxmon_cpu_usage Time of all cores"), "{text}");
}

#[test]
fn the_exposition_needs_a_login_and_can_be_off() {
    let mut server = Server::start("");
    assert_eq!(server.call_as(None, "GET", "/metrics", None).status, 401);
    let made = server.post("/v1/auth/tokens", json!({"name": "prometheus", "read_only": true}));
    let token = made["token"].as_str().unwrap();
    assert_eq!(server.call_as(Some(token), "GET", "/metrics", None).status, 200);
    let mut server = Server::start("[prometheus]\nenabled = false\n");
    let answer = server.call("GET", "/metrics", None);
    assert_eq!((answer.status, answer.code()), (404, 1004), "{}", answer.body);
}
