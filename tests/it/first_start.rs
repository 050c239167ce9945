//! A fresh start to the first value, and what `sqlite3` and `curl` then show.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::server::Server;
use crate::support::wait_for;

/// The metrics that users were promised, but for those of certificates.
const PROMISED: [&str; 20] = [
    "cpu.usage",
    "cpu.core_usage",
    "memory.total",
    "memory.used",
    "memory.available",
    "memory.used_percent",
    "memory.swap_total",
    "memory.swap_used",
    "disk.total",
    "disk.used",
    "disk.available",
    "disk.used_percent",
    "network.bytes_sent",
    "network.bytes_recv",
    "network.packets_sent",
    "network.packets_recv",
    "load.load_1",
    "load.load_5",
    "load.load_15",
    "load.uptime",
];

#[test]
fn a_fresh_start_shows_every_promised_metric_within_15_seconds() {
    let started = Instant::now();
    let mut server = Server::start("");
    // The loopback interface stands in where a sandbox has no other.
    let agent = Agent::start("web-01", server.grpc_port, "[filters]\ninterfaces_exclude = []\n");
    let left = Duration::from_secs(15).saturating_sub(started.elapsed());
    let mut missing: Vec<&str> = Vec::new();
    wait_for("every promised metric", left, || {
        let answer = server.call("GET", "/v1/agents/web-01/latest", None);
        let rows = answer.data().as_array().cloned().unwrap_or_default();
        missing = PROMISED
            .into_iter()
            .filter(|name| !rows.iter().any(|row| row["metric_name"] == *name))
            .collect();
        (answer.status == 200 && missing.is_empty()).then_some(())
    });
    let names = server.get("/v1/metrics/names?limit=100");
    for own in ["agent.collect_ms", "agent.buffer.batches", "agent.buffer.dropped"] {
        assert!(names.as_array().unwrap().iter().any(|name| name == own), "{own}: {names}");
    }
    let agents = server.get("/v1/agents");
    assert_eq!(agents[0]["agent_id"], "web-01");
    assert_eq!(agents[0]["status"], "active");
    drop(agent);
}

#[test]
fn plain_sqlite3_shows_the_points_of_the_day() {
    let mut server = Server::start("");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || {
        let answer = server.call("GET", "/v1/metrics?metric_name__eq=memory.total", None);
        answer.data().as_array().filter(|rows| !rows.is_empty()).map(|_| ())
    });
    let day = oxmon::base::clock::utc_day(crate::support::grpc::now_ms());
    let file = server.data().join(format!("{day}.db"));
    let sql = "SELECT agent_id, metric_name, value > 0, labels FROM metrics \
               WHERE metric_name = 'memory.total' LIMIT 1";
    let out = Command::new("sqlite3").arg("-readonly").arg(&file).arg(sql).output();
    let out = out.expect("sqlite3 runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(text.trim(), "web-01|memory.total|1|{}", "{}", String::from_utf8_lossy(&out.stderr));
}
