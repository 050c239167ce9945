//! The everyday `sqlite3` commands that users know, beside a running server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

fn sqlite3(file: &Path, sql: &str) -> String {
    let out = Command::new("sqlite3").arg(file).arg(sql).output().expect("sqlite3 runs");
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && wrong.is_empty(), "{sql}: {wrong}");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn the_main_database_is_read_and_changed_by_hand() {
    let server = Server::start("[cert_check]\nenabled = false\n");
    let file = server.data().join("cert.db");
    let users = sqlite3(&file, "SELECT username, created_at > 0 FROM users LIMIT 20;");
    assert_eq!(users, "admin|1");
    assert!(sqlite3(&file, "PRAGMA table_info(users);").contains("|username|TEXT|"));
    let tables = sqlite3(&file, ".tables");
    for table in ["users", "agent_whitelist", "cert_domains", "certificates"] {
        assert!(tables.split_whitespace().any(|name| name == table), "{table}: {tables}");
    }

    sqlite3(
        &file,
        "INSERT INTO cert_domains (id, domain, port, enabled, created_at, updated_at)
         VALUES ('manual-001', 'example.com', 443, 1, strftime('%s','now'), strftime('%s','now'));",
    );
    let found = "SELECT id, domain, port, enabled FROM cert_domains ORDER BY updated_at DESC;";
    assert_eq!(sqlite3(&file, found), "manual-001|example.com|443|1");
    sqlite3(
        &file,
        "UPDATE cert_domains SET enabled = 0, updated_at = strftime('%s','now')
         WHERE id = 'manual-001';",
    );
    assert_eq!(sqlite3(&file, found), "manual-001|example.com|443|0");
    sqlite3(&file, "DELETE FROM cert_domains WHERE id = 'manual-001';");
    assert_eq!(sqlite3(&file, found), "");
}

#[test]
fn a_days_file_shows_its_alert_events() {
    let server = Server::start(
        "aggregation_window_secs = 0\n[[alert.rules]]\nname = \"hot\"\ntype = \"threshold\"\n\
         metric = \"cpu.usage\"\noperator = \"greater_than\"\nvalue = 90.0\nduration_secs = 0\n\
         severity = \"critical\"\n",
    );
    let now = now_ms();
    let sent = batch("web-01", now, &[("cpu.usage", 99.5)]);
    assert!(Client::to(server.grpc_port).report(&sent).unwrap().success);
    let file = server.data().join(format!("{}.db", oxmon::base::clock::utc_day(now)));
    let rows = wait_for("the event in the day's file", Duration::from_secs(15), || {
        let sql = "SELECT agent_id, severity, metric_name, rule_id <> '', timestamp > 0
                   FROM alert_events ORDER BY timestamp DESC LIMIT 20;";
        Some(sqlite3(&file, sql)).filter(|rows| !rows.is_empty())
    });
    assert_eq!(rows, "web-01|critical|cpu.usage|1|1");
    assert!(sqlite3(&file, ".tables").contains("metric_chunks"));
}
