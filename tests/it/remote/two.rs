//! Two servers that share an engine and do not ask each other: an agent that goes from one to the
//! other finds its alerts as they were.

use std::time::{Duration, Instant};

use oxmon::base::clock::parse_rfc3339;
use serde_json::{Value, json};

use super::real::Engine;
use super::{SOON, figure};
use crate::promql::get;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::wait_for;

const RULES: &str = "
[[alert.rules]]
name = 'Hot'
type = 'threshold'
metric = 'cpu.usage'
agent_pattern = '*'
operator = 'greater_than'
value = 90.0
duration_secs = 0
severity = 'critical'

[[alert.rules]]
name = 'Long'
type = 'threshold'
metric = 'cpu.usage'
agent_pattern = '*'
operator = 'greater_than'
value = 80.0
duration_secs = 15
severity = 'warning'
";

fn server(engine: &Engine, sink: &Sink) -> Server {
    let config = format!(
        "aggregation_window_secs = 0\n[remote]\nwrite_urls = [\"{}\"]\nread_urls = [\"{}\"]\n\
         timeout_secs = 3\n{RULES}",
        engine.write_url(),
        engine.url
    );
    let mut server = Server::start(&config);
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": "{}",
            "recipients": [sink.url("/ok")]}),
    );
    server
}

fn report(server: &Server, agent: &str, value: f64) -> i64 {
    let at = now_ms();
    let points = batch(agent, at, &[("cpu.usage", value)]);
    assert!(Client::to(server.grpc_port).report(&points).is_ok_and(|reply| reply.success));
    at
}

/// Notifications of an agent's alerts.
fn notified(sink: &Sink, agent: &str, rule: &str, status: &str) -> Vec<Value> {
    let mut bodies = sink.bodies();
    bodies.retain(|body| {
        body["status"] == status && body["rule_name"] == rule && body["agent_id"] == agent
    });
    bodies
}

/// Waits until the newest values of an agent's alerts at the engine are as they are wanted.
fn at_engine(engine: &Engine, name: &str, agent: &str, wanted: impl Fn(&[f64]) -> bool) {
    let query = format!("oxmon_alert_{name}{{agent=\"{agent}\"}}[5m]");
    wait_for(name, SOON, || {
        let now = (now_ms() / 1_000 + 1).to_string();
        let answer = get(&engine.url, "none", "query", &[("query", &query), ("time", &now)]);
        let rows = answer["data"]["result"].as_array()?.clone();
        let last = |row: &Value| row["values"].as_array()?.last()?[1].as_str()?.parse().ok();
        let values: Vec<f64> = rows.iter().filter_map(last).collect();
        wanted(&values).then_some(())
    });
}

#[test]
fn alerts_go_on_at_another_server_that_reads_them_at_the_engine() {
    let Some(mut engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) else { return };
    let sink = Sink::start();
    let (mut a, mut b) = (server(&engine, &sink), server(&engine, &sink));
    let since = report(&a, "roam", 95.0);
    let fired = wait_for("a notification", SOON, || {
        notified(&sink, "roam", "Hot", "firing").first().cloned()
    });
    let one_is = |values: &[f64]| values.iter().any(|at| *at > 0.0);
    at_engine(&engine, "firing_since_seconds", "roam", one_is);
    at_engine(&engine, "pending_since_seconds", "roam", one_is);
    at_engine(&engine, "sent", "roam", |sent| *sent == [1.0, 1.0]);
    a.kill();
    // The other server goes on with both, and knows since when the second holds.
    let long = wait_for("the second alert", SOON, || {
        report(&b, "roam", 96.0);
        notified(&sink, "roam", "Long", "firing").first().cloned()
    });
    let began = parse_rfc3339(long["alerts"][0]["first_triggered_at"].as_str().unwrap());
    assert_eq!(began, Some(since));
    let active = b.get("/v1/alerts/active");
    let ids: Vec<&Value> = active.as_array().unwrap().iter().map(|alert| &alert["id"]).collect();
    assert!(ids.contains(&&fired["alerts"][0]["id"]), "{active} {fired}");
    assert_eq!(notified(&sink, "roam", "Hot", "firing").len(), 1, "once");
    report(&b, "roam", 10.0);
    for rule in ["Hot", "Long"] {
        wait_for("a recovery", SOON, || {
            (notified(&sink, "roam", rule, "resolved").len() == 1).then_some(())
        });
    }
    let taken = |from: &str| format!("oxmon_handover_taken_over_total{{from=\"{from}\"}}");
    assert_eq!(figure(&mut b, &taken("engine")), 1.0);
    // While the engine is away, an agent that comes is evaluated all the same.
    engine.kill();
    let begun = Instant::now();
    report(&b, "late", 95.0);
    assert!(begun.elapsed() < Duration::from_secs(5), "it is acknowledged at once");
    wait_for("an alert", SOON, || {
        (!notified(&sink, "late", "Hot", "firing").is_empty()).then_some(())
    });
    assert!(figure(&mut b, &taken("nothing")) >= 1.0);
}
