//! `oxmon-server import`: a `data_dir` of the first release comes over whole, and stays as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use oxmon::base::clock::{DAY_MS, parse_utc_day};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::{old_data, signal, sql, wait_for};

/// An old folder, and a configuration of a new one beside it.
struct Place {
    dir: TempDir,
    old: PathBuf,
    config: PathBuf,
}

impl Place {
    fn new(points: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        old_data::make(&old, points);
        let config = dir.path().join("import.toml");
        let data = dir.path().join("data").display().to_string();
        std::fs::write(&config, format!("data_dir = {data:?}\n")).unwrap();
        Self { dir, old, config }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("import").arg(&self.old).arg(&self.config);
        command
    }

    fn import(&self) -> Output {
        self.command().output().unwrap()
    }
}

fn said(out: &Output) -> String {
    let text = [out.stdout.as_slice(), &out.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}"))
}

/// Points of one agent in an old day file: time, metric, labels without quotes, the value's bits.
fn old_points(file: &Path, agent: &str) -> Vec<(i64, String, String, u64)> {
    let db = Connection::open(file).unwrap();
    let mut query = db
        .prepare(
            "SELECT timestamp, metric_name, replace(labels, '\"', ''), value FROM metrics
             WHERE agent_id = ?1 ORDER BY 1, 2, 3",
        )
        .unwrap();
    let rows = query.query_map([agent], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, f64>(3)?.to_bits()))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// The same of the new folder.
fn new_points(data: &Path, date: &str, agent: &str) -> Vec<(i64, String, String, u64)> {
    let start_ms = parse_utc_day(date).unwrap();
    let end_ms = start_ms + DAY_MS - 1;
    let query = format!(
        "SELECT timestamp, metric_name, replace(labels, '\"', ''), value FROM metrics
         WHERE agent_id = '{agent}' AND timestamp BETWEEN {start_ms} AND {end_ms}
         ORDER BY 1, 2, 3"
    );
    let text = sql::csv(data, &query);
    let point = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let value: f64 = fields[3].parse().unwrap();
        (fields[0].parse().unwrap(), fields[1].to_owned(), fields[2].to_owned(), value.to_bits())
    };
    text.lines().skip(1).map(point).collect()
}

fn compare_points(place: &Place) -> i64 {
    let mut count = 0;
    for date in old_data::dates() {
        for agent in (0..old_data::AGENTS).map(|number| format!("host-{number}")) {
            let old = old_points(&place.old.join(format!("{date}.db")), &agent);
            let new = new_points(&place.data(), &date, &agent);
            assert!(!old.is_empty(), "{date} {agent}");
            let differs = old.iter().zip(&new).find(|(old, new)| old != new);
            assert_eq!((new.len(), differs), (old.len(), None), "{date} {agent}");
            count += old.len() as i64;
        }
    }
    count
}

#[test]
fn everything_comes_over_and_the_old_folder_stays_as_it_is() {
    let place = Place::new(old_data::points());
    let before = old_data::state(&place.old);
    let out = place.import();
    // With `--nocapture`: the figures of docs/performance.md.
    println!("{}", said(&out));
    let text = said(&out);
    assert!(out.status.success(), "{text}");
    assert_eq!(old_data::state(&place.old), before);
    let points = old_data::points() / old_data::DAYS * old_data::DAYS;
    for expected in [
        "users: 2 new, 0 existing, 0 skipped",
        "agents: 2 new, 0 existing, 0 skipped",
        "domains: 2 new, 0 existing, 0 skipped",
        "rules: 4 new, 0 existing, 0 skipped",
        "channels: 4 new, 0 existing, 0 skipped",
        "silence windows: 2 new, 0 existing, 0 skipped",
        "alert events: 20 new, 0 existing, 0 skipped",
        &format!("points: {points} new, 0 existing, 0 skipped"),
        "note: agent `web-02` needs a new token",
        "note: channel `默认钉钉通知` (dingtalk) is disabled until it is complete: config_json: \
         webhook_url: is missing",
        "note: notifications were aggregated over 120 s",
        "note: rule `SSL 证书即将过期` looks at `certificate.days_until_expiry`",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    for date in old_data::dates() {
        let part = points / old_data::DAYS;
        assert!(text.contains(&format!("{date}.db: {part} points\n")), "{text}");
    }
    assert_eq!(compare_points(&place), points);

    // Again: nothing changes.
    let events = "SELECT * FROM alert_events ORDER BY id";
    let first = sql::csv(&place.data(), events);
    let again = said(&place.import());
    assert!(again.contains("users: 0 new, 2 existing, 0 skipped"), "{again}");
    assert!(again.contains("channels: 0 new, 4 existing"), "{again}");
    assert!(again.contains("alert events: 0 new, 20 existing"), "{again}");
    assert!(again.contains(&format!("points: 0 new, {points} existing, 0 skipped")), "{again}");
    assert_eq!(sql::csv(&place.data(), events), first);
    let count = "SELECT count(*) FROM metrics";
    assert_eq!(sql::csv(&place.data(), count), format!("count(*)\n{points}\n"));

    let mut server = Server::start_in(place.dir, "require_agent_auth = true\n");
    check_settings(&mut server);
    check_events(&mut server);
    check_logins(&server);
}

fn check_settings(server: &mut Server) {
    let rules = server.get("/v1/alerts/rules/config");
    let rule = |id: &str| rules.as_array().unwrap().iter().find(|rule| rule["id"] == id).unwrap();
    let high = rule("301");
    assert_eq!(high["name"], "high cpu");
    assert_eq!((&high["severity"], &high["enabled"]), (&json!("critical"), &json!(true)));
    assert_eq!((&high["silence_secs"], &high["agent_pattern"]), (&json!(300), &json!("host-*")));
    let config: Value = serde_json::from_str(high["config_json"].as_str().unwrap()).unwrap();
    assert_eq!(config, json!({"operator": "greater_than", "value": 90.0, "duration_secs": 60}));
    assert_eq!(rule("302")["enabled"], false);
    assert_eq!(rule("304")["metric"], "certificate.days_until_expiry");
    let channels = server.get("/v1/notifications/channels");
    let channels = channels.as_array().unwrap();
    let channel = |id: &str| channels.iter().find(|channel| channel["id"] == id).unwrap();
    let mail = channel("601");
    assert_eq!(mail["recipients"], json!(["ops@example.com", "oncall@example.com"]));
    assert_eq!((&mail["min_severity"], &mail["enabled"]), (&json!("warning"), &json!(true)));
    let configs = server.get("/v1/notifications/channels/config").to_string();
    assert!(configs.contains("smtp.example.com") && configs.contains("587"), "{configs}");
    assert_eq!(channel("603")["enabled"], false);
    assert_eq!(channel("604")["recipients"], json!(["+8613800138000"]));
    let windows = server.get("/v1/notifications/silence-windows");
    let shown: Vec<_> = windows
        .as_array()
        .unwrap()
        .iter()
        .map(|window| json!([window["start_time"], window["end_time"], window["time_zone"]]))
        .collect();
    assert_eq!(json!(shown), json!([["02:00", "04:00", "UTC"], ["23:00", "01:00", "UTC"]]));
    let domains = server.get("/v1/certs/domains");
    let domain = domains.as_array().unwrap().iter().find(|row| row["id"] == "402").unwrap();
    assert_eq!((&domain["port"], &domain["enabled"]), (&json!(8443), &json!(false)));
    assert_eq!(domain["check_interval_secs"], 3_600);
    let agents = server.get("/v1/agents/whitelist");
    let agent = agents.as_array().unwrap().iter().find(|row| row["id"] == "201").unwrap();
    assert_eq!(
        (&agent["agent_id"], &agent["description"]),
        (&json!("web-01"), &json!("the first"))
    );
}

fn check_events(server: &mut Server) {
    let query = "SELECT id, rule_name, severity, status, value, threshold, labels FROM alert_events
                 ORDER BY id LIMIT 4";
    let rows = sql::csv(&server.data(), query);
    let labels = r#""{""core"":""1""}""#;
    let expected = format!(
        "id,rule_name,severity,status,value,threshold,labels\n\
         9000000,high cpu,critical,1,93.5,90,{labels}\n\
         9000001,high cpu,warning,2,93.5,90,{labels}\n\
         9000002,high cpu,info,3,93.5,90,{labels}\n\
         9000003,high cpu,warning,1,93.5,90,{labels}\n"
    );
    assert_eq!(rows, expected);
    // One that nobody ended can be ended.
    let ended = server.call("POST", "/v1/alerts/history/9000000/resolve", None);
    assert_eq!(ended.status, 200, "{}", ended.body);
    assert_eq!(server.get("/v1/alerts/history?limit=100").as_array().unwrap().len(), 20);
}

fn check_logins(server: &Server) {
    let kept = |name: &str| {
        let query = format!("SELECT password_hash FROM users WHERE username = '{name}'");
        sql::sqlite3(&server.data().join("cert.db"), &query)
    };
    assert!(kept("alice").starts_with("$2"), "{}", kept("alice"));
    let login = |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        server.call_as(None, "POST", "/v1/auth/login", Some(body))
    };
    assert_eq!(login("alice", "wrong horse battery").status, 401);
    let answer = login("alice", old_data::ALICES_PASSWORD);
    assert_eq!((answer.status, &answer.data()["must_change"]), (200, &json!(false)));
    assert!(kept("alice").starts_with("$argon2id$"), "{}", kept("alice"));
    assert_eq!(login("alice", old_data::ALICES_PASSWORD).status, 200);
    assert_eq!(login("alice", "wrong horse battery").status, 401);
    let answer = login("admin", old_data::DEFAULT_PASSWORD);
    assert_eq!((answer.status, &answer.data()["must_change"]), (200, &json!(true)));
    // The agent's token goes on working, another one does not.
    let client = Client::to(server.grpc_port);
    let points = batch("web-01", now_ms(), &[("cpu.usage", 1.0)]);
    let with = |token: &str| {
        let header = format!("Bearer {token}");
        client.report_with(&points, &[("agent-id", "web-01"), ("authorization", &header)])
    };
    assert!(with(old_data::TOKEN).unwrap().success);
    assert!(with("another").is_err());
}

#[test]
fn an_import_that_was_killed_goes_on() {
    let place = Place::new(old_data::points().max(60_000));
    let mut child =
        place.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    wait_for("the first day", Duration::from_secs(60), || {
        let days = std::fs::read_dir(place.data()).ok()?.flatten();
        let mut names = days.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.ends_with(".db") && name.starts_with("20")).then_some(())
    });
    signal(&child, "KILL");
    child.wait().unwrap();
    let out = place.import();
    assert!(out.status.success(), "{}", said(&out));
    let line = line(&said(&out), "points: ").to_owned();
    assert!(line.ends_with(" 0 skipped"), "{line}");
    compare_points(&place);
}

#[test]
fn a_log_that_was_left_behind_is_read_and_stays() {
    let place = Place::new(3_000);
    let date = old_data::dates().pop().unwrap();
    let name = format!("{date}.db");
    let file = place.old.join(&name);
    let db = Connection::open(&file).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE metrics SET value = value + 1")
        .unwrap();
    let out = place.import();
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let open = format!("{name} is open: stop the first oxmon's server");
    assert!(said(&out).contains(&open), "{}", said(&out));
    // What a killed server leaves: the file and its log, copied while they are open.
    let left = place.dir.path().join("left");
    std::fs::create_dir(&left).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{name}{suffix}");
        std::fs::copy(place.old.join(&name), left.join(&name)).unwrap();
    }
    drop(db);
    for suffix in ["", "-wal"] {
        let name = format!("{name}{suffix}");
        std::fs::copy(left.join(&name), place.old.join(&name)).unwrap();
    }
    // One that an earlier version of this program took for a damaged file of its own.
    let other = format!("{}.db", old_data::dates()[0]);
    std::fs::rename(place.old.join(&other), place.old.join(format!("{other}.damaged-1"))).unwrap();
    let before = old_data::state(&place.old);
    let out = place.import();
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(old_data::state(&place.old), before);
    let copy = format!("{}.damaged-1", other);
    std::fs::rename(place.old.join(&copy), place.old.join(&other)).unwrap();
    assert_eq!(compare_points(&place), 3_000);
}

#[test]
fn a_server_refuses_an_old_folder_in_one_sentence_and_changes_nothing() {
    let place = Place::new(3_000);
    let config = place.dir.path().join("same.toml");
    let old = place.old.display().to_string();
    std::fs::write(&config, format!("data_dir = {old:?}\n")).unwrap();
    let seed = place.dir.path().join("seed.json");
    std::fs::write(&seed, "[]").unwrap();
    let before = old_data::state(&place.old);
    let (config, seed) = (config.to_str().unwrap(), seed.to_str().unwrap());
    for arguments in
        [vec![config], vec!["init-rules", config, seed], vec!["init-channels", config, seed]]
    {
        let out = Command::new(program()).args(&arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(5), "{}", said(&out));
        let text = said(&out);
        assert_eq!(text.lines().count(), 1, "{text}");
        let offer = format!("oxmon-server import {old}.first {config}");
        assert!(text.contains("holds data of the first oxmon") && text.contains(&offer), "{text}");
        assert_eq!(old_data::state(&place.old), before);
    }
    // Nor is it imported into itself, or from nothing.
    let out = Command::new(program()).args(["import", &old, config]).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "{}", said(&out));
    let empty = tempfile::tempdir().unwrap();
    let out = Command::new(program())
        .arg("import")
        .arg(empty.path())
        .arg(&place.config)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("holds no data of the first oxmon"), "{}", said(&out));
    let inside = place.dir.path().join("inside.toml");
    std::fs::write(&inside, format!("data_dir = \"{old}/new\"\n")).unwrap();
    let out = Command::new(program()).args(["import", &old]).arg(&inside).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("must be another folder"), "{}", said(&out));
    assert_eq!(old_data::state(&place.old), before);
}

/// Runs `init-channels` or `init-rules` with a seed.
fn init(command: &str, place: &Path, seed: &Value) -> Output {
    let (config, file) = (place.join("init.toml"), place.join("seed.json"));
    let data = place.join("data").display().to_string();
    std::fs::write(&config, format!("data_dir = {data:?}\n")).unwrap();
    std::fs::write(&file, seed.to_string()).unwrap();
    Command::new(program()).arg(command).args([&config, &file]).output().unwrap()
}

#[test]
fn a_seed_of_the_first_release_is_made_but_for_what_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let seed = json!({
        "channels": [
            {"name": "邮件", "channel_type": "email", "min_severity": "warning", "enabled": false,
             "config": {"smtp_host": "smtp.example.com", "smtp_port": 587, "from_name": "oxmon",
                        "smtp_username": "a@example.com", "smtp_password": "p",
                        "from_email": "a@example.com"},
             "recipients": ["oncall@example.com"]},
            {"name": "gateway", "channel_type": "sms_generic", "min_severity": "critical",
             "config": {"url": "https://sms.example.com/send", "method": "POST",
                        "headers": {"Authorization": "Bearer k3y"},
                        "body_template": "{\"phone\": \"{{recipient}}\", \"text\": \"{{message}}\"}"},
             "recipients": ["13800138000"]},
            {"name": "old mail", "channel_type": "email", "enabled": false,
             "config": {"smtp_host": "smtp.example.com", "smtp_port": 587,
                        "smtp_username": "a@example.com", "smtp_password": "p",
                        "from": "a@example.com"},
             "recipients": ["oncall@example.com"]},
            {"name": "aliyun", "channel_type": "sms_aliyun", "min_severity": "critical",
             "config": {"provider": "aliyun", "access_key_id": "LTAI5t", "sign_name": "s",
                        "access_key_secret": "k", "template_code": "SMS_123456789"},
             "recipients": ["13800138000"]},
            {"name": "tencent", "channel_type": "sms_tencent", "min_severity": "critical",
             "config": {"provider": "tencent", "secret_id": "i", "secret_key": "k",
                        "sdk_app_id": "1400123456", "sign_name": "s", "template_id": "123456"},
             "recipients": ["13800138000"]},
            {"name": "pigeon", "channel_type": "pigeon", "config": {}},
            {"name": "robot", "channel_type": "dingtalk", "config": {"secret": "s"}},
        ],
        "silence_windows": [{"start_time": "02:00", "end_time": "04:00", "recurrence": "daily"}],
    });
    let out = init("init-channels", dir.path(), &seed);
    let text = said(&out);
    assert_eq!(out.status.code(), Some(3), "{text}");
    for expected in [
        "made channel `邮件` (email)\n",
        "made channel `gateway` (sms)\n",
        "made channel `old mail` (email)\n",
        "made channel `aliyun` (sms_aliyun)\n",
        "made channel `tencent` (sms_tencent)\n",
        "made silence window 02:00-04:00 daily\n",
        "seed.json: 2 entries were not made:\n",
        "  not made channels[5] `pigeon`: channel_type: `pigeon` is not one of ",
        "  not made channels[6] `robot`: config_json: webhook_url: is missing\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let rules = json!({"rules": [
        {"name": "CPU 使用率严重告警", "rule_type": "threshold", "metric": "cpu.usage",
         "agent_pattern": "*", "severity": "critical", "silence_secs": 300,
         "config": {"operator": "greater_than", "value": 90.0, "duration_secs": 60}},
        {"name": "SSL", "rule_type": "cert_expiration", "metric": "cert.expiration",
         "agent_pattern": "*", "severity": "warning", "silence_secs": 86400,
         "config": {"warning_days": 30, "critical_days": 7}},
    ]});
    let out = init("init-rules", dir.path(), &rules);
    assert!(out.status.success(), "{}", said(&out));
    let stored = "SELECT metric FROM alert_rules ORDER BY metric";
    let control = dir.path().join("data/cert.db");
    assert_eq!(sql::sqlite3(&control, stored), "certificate.days_until_expiry\ncpu.usage");
}

#[test]
fn the_first_releases_example_secret_is_not_used() {
    let secret = "[auth]\njwt_secret = \"your-secret-key-here\"\n";
    let server = Server::start(secret);
    assert!(server.log().contains("auth.jwt_secret: is that of a published example"));
    let made = "SELECT count(*) FROM settings WHERE name = 'jwt_secret'";
    assert_eq!(sql::sqlite3(&server.data().join("cert.db"), made), "1");
    let config = server.dir.path().join("server.toml");
    let out = Command::new(program()).arg("--check-config").arg(&config).output().unwrap();
    let text = said(&out);
    assert!(out.status.success() && text.contains("is good") && text.contains("warning"), "{text}");
}
