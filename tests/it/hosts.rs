//! What an agent says of its host beside samples: its facts, and which processes are at work while
//! an alert is pending or firing.

use std::process::{Child, Command};
use std::time::Duration;

use oxmon::base::clock::SECOND_MS;
use oxmon::wire::pb::metrics::{HostFacts, ProcessSnapshot, ProcessUse};
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::sql::sqlite3;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

fn facts(server: &mut Server, agent: &str) -> Value {
    wait_for("the facts", SOON, || {
        let detail = server.call("GET", &format!("/v1/agents/{agent}"), None);
        let facts = detail.data()["facts"].clone();
        facts.is_object().then_some(facts)
    })
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn facts_are_what_the_systems_own_programs_say_and_can_be_searched() {
    let mut server = Server::start("");
    let _agent = Agent::start("facts-1", server.grpc_port, "");
    let facts = facts(&mut server, "facts-1");
    assert_eq!(facts["kernel"], said("uname", &["-sr"]), "{facts}");
    assert_eq!(facts["architecture"], said("uname", &["-m"]), "{facts}");
    assert_eq!(facts["hostname"], said("uname", &["-n"]), "{facts}");
    assert_eq!(facts["cpu_cores"].to_string(), said("nproc", &["--all"]), "{facts}");
    assert_eq!(facts["agent_version"], env!("CARGO_PKG_VERSION"), "{facts}");
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    assert!(release.contains(facts["os"].as_str().unwrap()), "{facts} {release}");
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = facts["memory_bytes"].as_u64().unwrap() / 1_024;
    assert!(meminfo.lines().next().unwrap().contains(&kib.to_string()), "{facts} {meminfo}");
    let addresses = facts["addresses"].as_array().unwrap();
    for address in said("hostname", &["-I"]).split_whitespace() {
        assert!(addresses.contains(&json!(address)), "{address} is not in {facts}");
    }
    let client = Client::to(server.grpc_port);
    client.report(&batch("old-1", now_ms(), &[("cpu.usage", 1.0)])).unwrap();
    let old = wait_for("the other agent", SOON, || {
        Some(server.call("GET", "/v1/agents/old-1", None)).filter(|answer| answer.status == 200)
    });
    assert!(old.data()["facts"].is_null(), "{old:?}");
    for (text, found) in [("facts-1", 1), ("LINUX", 1), ("-1", 2), ("no such text", 0)] {
        let path = format!("/v1/agents?search={}", text.replace(' ', "%20"));
        let listed = server.call("GET", &path, None);
        assert_eq!(
            (listed.total, listed.data().as_array().unwrap().len()),
            (Some(found), found as usize)
        );
    }
    let none = server.call("GET", "/v1/agents/nobody", None);
    assert_eq!((none.status, none.code()), (404, 1004), "{none:?}");
}

#[test]
fn what_a_stranger_says_of_its_host_is_cut_and_a_snapshot_nobody_asked_for_is_dropped() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    let mut sent = batch("odd-1", now_ms(), &[("cpu.usage", 99.0)]);
    let long = "x".repeat(5_000);
    let facts = HostFacts { os: long.clone(), addresses: vec![long; 9], ..HostFacts::new() };
    sent.facts = Some(facts).into();
    let process = ProcessUse { pid: 1, name: "evil".to_owned(), ..ProcessUse::new() };
    let (taken_at_ms, processes) = (now_ms(), vec![process]);
    sent.snapshot =
        Some(ProcessSnapshot { taken_at_ms, processes, ..ProcessSnapshot::new() }).into();
    assert!(client.report(&sent).unwrap().success);
    let kept = self::facts(&mut server, "odd-1");
    assert_eq!(kept["os"].as_str().unwrap().len(), 256, "{kept}");
    assert_eq!(kept["addresses"][8].as_str().unwrap().len(), 256, "{kept}");
    let huge = HostFacts { addresses: vec!["y".repeat(1_000); 200], ..HostFacts::new() };
    sent.facts = Some(huge).into();
    let answer = client.report(&sent).unwrap();
    assert!(answer.success && !answer.snapshot_wanted, "the points are taken: {answer:?}");
    let rows = count(&server, "1");
    assert_eq!(rows, "0");
}

/// Snapshots that are stored.
fn count(server: &Server, which: &str) -> String {
    let query = format!("SELECT count(*) FROM process_snapshots WHERE {which}");
    sqlite3(&server.data().join("cert.db"), &query)
}

fn rule(server: &mut Server, name: &str, metric: &str, hold_secs: u64, over: f64) {
    let config = json!({"operator": "greater_than", "value": over, "duration_secs": hold_secs});
    server.post(
        "/v1/alerts/rules",
        json!({"name": name, "rule_type": "threshold", "metric": metric, "severity": "critical",
               "agent_pattern": if name.starts_with("busy") { name } else { "*" },
               "config_json": config.to_string(), "silence_secs": 0}),
    );
}

#[test]
fn an_agent_is_asked_once_for_an_alert_and_never_without_one() {
    let mut server = Server::start("");
    rule(&mut server, "hot", "cpu.usage", 3_600, 90.0);
    let client = Client::to(server.grpc_port);
    let start = now_ms() - 600 * SECOND_MS;
    let mut at = start;
    let mut report = |value: f64| {
        at += SECOND_MS;
        client.report(&batch("asked-1", at, &[("cpu.usage", value)])).unwrap().snapshot_wanted
    };
    assert!((0..20).all(|_| !report(10.0)), "nothing is wrong");
    wait_for("the question", SOON, || report(95.0).then_some(()));
    assert!((0..50).all(|_| !report(95.0)), "it is asked again");
    assert!(!client.report(&batch("other-1", at, &[("cpu.usage", 1.0)])).unwrap().snapshot_wanted);
}

/// A process that uses a whole core, and so much memory that it is among the largest too: on a busy
/// machine, others use more CPU time.
struct Busy(Child);

impl Busy {
    fn start() -> Self {
        let program = "secret_7 = b'x' * (400 << 20)\nwhile True: pass";
        Self(Command::new("python3").args(["-c", program]).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The alert of an agent with its processes, once they are there.
fn alert_with_processes(server: &mut Server, agent: &str) -> Value {
    wait_for("the alert with its processes", SOON, || {
        let active = server.get("/v1/alerts/active?limit=1000");
        let event = active.as_array()?.iter().find(|event| event["agent_id"] == agent)?.clone();
        let id = event["id"].as_str()?;
        let one = server.get(&format!("/v1/alerts/history/{id}"));
        one["processes"].is_object().then_some(one)
    })
}

#[test]
fn an_alert_names_the_busy_process_in_the_api_and_in_its_message() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 5\n");
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "recipients": [sink.url("/ok")],
               "config_json": {"body_template": r#"{"a":"{{agent_id}}","m":"{{message}}"}"#}}),
    );
    let busy = Busy::start();
    let _agent = Agent::start("busy-1", server.grpc_port, "");
    let arguments = "[snapshot]\narguments = true\n";
    let _telling = Agent::start("busy-2", server.grpc_port, arguments);
    let _quiet = Agent::start("busy-3", server.grpc_port, "[snapshot]\nenabled = false\n");
    // A rule each: alerts of one rule share a message, which counts them.
    for agent in ["busy-1", "busy-2", "busy-3"] {
        rule(&mut server, agent, "cpu.usage", 4, 1.0);
    }
    for (agent, tells) in [("busy-1", false), ("busy-2", true)] {
        let alert = alert_with_processes(&mut server, agent);
        let all = alert["processes"]["processes"].as_array().unwrap().clone();
        let own = all.iter().find(|process| process["pid"] == busy.0.id());
        let own = own.unwrap_or_else(|| panic!("{} is not in {all:?}", busy.0.id()));
        assert_eq!(own["name"], "python3", "{own}");
        assert!(own["cpu_percent"].as_f64().unwrap() > 0.0, "{own}");
        assert_eq!(own["user"], said("id", &["-un"]), "{own}");
        assert_eq!(own["arguments"].to_string().contains("secret_7"), tells, "{own}");
        assert!(all.len() <= 30, "{}", all.len());
        let message = wait_for("its message", SOON, || {
            let bodies = sink.bodies();
            let body = bodies.iter().find(|body| body["a"] == agent)?;
            Some(body["m"].as_str()?.to_owned())
        });
        let first = &all[0];
        let name = first["name"].as_str().unwrap();
        let named = format!("most CPU: {name} (pid {}, user ", first["pid"]);
        assert!(message.contains(&named), "{named} is not in: {message}");
    }
    let rows = count(&server, "agent_id = 'busy-3'");
    assert_eq!(rows, "0", "its configuration allows none");
}
