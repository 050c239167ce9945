//! How much agents may make the server keep: agents, names and labels, in memory and over a
//! restart. Every server has the address space of its unit's memory and no more.

use std::time::Duration;

use grpcio::RpcStatusCode;
use oxmon::wire::pb::metrics::{MetricBatchProto, MetricDataPointProto};

use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const MIB: u64 = 1024 * 1024;

fn metric(server: &mut Server, name: &str) -> u64 {
    let text = server.call("GET", "/metrics", None).body.as_str().unwrap().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// 10,000 series that no other batch has, with 1,400 bytes of labels each.
fn wide(number: usize, at_ms: i64) -> MetricBatchProto {
    let mut report = batch("wide", at_ms, &[]);
    report.data_points = (0..10_000)
        .map(|index| {
            let mut point = MetricDataPointProto::new();
            (point.timestamp_ms, point.value) = (at_ms, 1.0);
            point.metric_name = "runaway".to_owned();
            for label in 0..3 {
                let value = format!("{number}-{index}-{label}-").repeat(34);
                point.labels.insert(format!("label{label}"), value.chars().take(460).collect());
            }
            point
        })
        .collect();
    report
}

#[test]
fn names_and_labels_of_one_agent_are_bounded_over_a_restart_too() {
    let mut server = Server::start_in_budget("[cert_check]\nenabled = false\n");
    let client = Client::to(server.grpc_port);
    let start_ms = now_ms();
    assert!(client.report(&batch("wide", start_ms, &[("usual", 1.0)])).unwrap().success);
    let before = server.peak();
    for number in 0..28 {
        let reply = client.report(&wide(number, start_ms + number as i64)).unwrap();
        assert!(reply.success);
        assert!(reply.message.contains("names and labels of this agent"), "{}", reply.message);
    }
    let grown = server.peak() - before;
    // The bound is 8 MiB; a batch of 14 MiB is in memory in its pieces and as one.
    assert!(grown < 96 * MIB, "it grew by {} MiB", grown / MIB);
    let left_out = "oxmon_ingest_points_left_out_total{reason=\"series_bytes\"}";
    assert!(metric(&mut server, left_out) > 260_000);
    let refused = "oxmon_storage_series_refused_total{reason=\"agent_bytes\"}";
    assert!(metric(&mut server, refused) > 260_000);
    assert!(metric(&mut server, "oxmon_storage_series_bytes") <= 8 * MIB);
    // What is known goes on, and others are not touched.
    let client = Client::to(server.grpc_port);
    for agent in ["wide", "web-01"] {
        let reply = client.report(&batch(agent, start_ms + 100, &[("usual", 1.0)])).unwrap();
        assert!(reply.success && reply.message.is_empty(), "{}", reply.message);
    }
    server.kill_and_restart();
    assert!(metric(&mut server, "oxmon_storage_series_bytes") <= 9 * MIB);
    let peak = server.peak();
    assert!(peak < before + 64 * MIB, "a restart takes {} MiB", peak / MIB);
    let client = Client::to(server.grpc_port);
    let reply = client.report(&wide(28, start_ms + 200)).unwrap();
    assert!(reply.message.contains("names and labels of this agent"), "{}", reply.message);
    let reply = client.report(&batch("wide", start_ms + 300, &[("usual", 1.0)])).unwrap();
    assert!(reply.success && reply.message.is_empty(), "{}", reply.message);
}

#[test]
fn made_up_agents_are_bounded_over_a_restart_too() {
    let mut server =
        Server::start_in_budget("[cert_check]\nenabled = false\n[storage]\nagents_max = 1000\n");
    let client = Client::to(server.grpc_port);
    let start_ms = now_ms();
    assert!(client.report(&batch("web-01", start_ms, &[("cpu.usage", 1.0)])).unwrap().success);
    let before = server.peak();
    for number in 0..11 {
        let mut report = batch("relay", start_ms + number, &[]);
        report.data_points = (0..10_000)
            .map(|index| {
                let mut point = MetricDataPointProto::new();
                (point.timestamp_ms, point.value) = (start_ms + number, 1.0);
                point.metric_name = "cpu.usage".to_owned();
                point.agent_id = format!("made-up-{number}-{index}-with-a-name-of-some-length");
                point
            })
            .collect();
        let reply = client.report(&report).unwrap();
        assert!(reply.success && reply.message.contains("too many agents"), "{}", reply.message);
    }
    let grown = server.peak() - before;
    assert!(grown < 48 * MIB, "it grew by {} MiB", grown / MIB);
    assert_eq!(server.get("/v1/health")["agent_count"], 1_000);
    assert!(metric(&mut server, "oxmon_storage_series_refused_total{reason=\"agents\"}") > 108_000);
    let check = |server: &Server, at_ms: i64| {
        let client = Client::to(server.grpc_port);
        assert!(client.report(&batch("web-01", at_ms, &[("cpu.usage", 1.0)])).unwrap().success);
        let refused = client.report(&batch("web-02", at_ms, &[("cpu.usage", 1.0)])).unwrap_err();
        assert_eq!(refused.code(), RpcStatusCode::RESOURCE_EXHAUSTED);
        assert!(refused.message().contains("storage.agents_max"), "{}", refused.message());
    };
    check(&server, start_ms + 100);
    server.kill_and_restart();
    assert_eq!(server.get("/v1/health")["agent_count"], 1_000);
    check(&server, start_ms + 200);
    // An agent says why it is refused, and keeps what it measures.
    let agent = Agent::start("web-03", server.grpc_port, "");
    wait_for("the agent to say why", Duration::from_secs(30), || {
        agent.log().contains("too many agents").then_some(())
    });
    assert!(!agent.log().contains("dropped"), "{}", agent.log());
}

#[test]
fn an_exposition_of_many_series_is_bounded_and_says_what_is_left_out() {
    let head = "[cert_check]\nenabled = false\n[prometheus]\nagents = true\n";
    let mut server = Server::start_in_budget(head);
    let client = Client::to(server.grpc_port);
    let start_ms = now_ms();
    for number in 0..11 {
        let mut report = batch(&format!("web-{number:02}"), start_ms, &[]);
        report.data_points = (0..9_500)
            .map(|index| {
                let mut point = MetricDataPointProto::new();
                (point.timestamp_ms, point.value) = (start_ms, 1.0);
                point.metric_name = "disk.used_percent".to_owned();
                point.labels.insert("mount".to_owned(), format!("/mnt/{index}"));
                point
            })
            .collect();
        let reply = client.report(&report).unwrap();
        assert!(reply.success && reply.message.is_empty(), "{}", reply.message);
    }
    let before = server.peak();
    let text = server.call("GET", "/metrics", None).body.as_str().unwrap().to_owned();
    let of_agents = text.lines().filter(|line| line.starts_with("oxmon_disk_used_percent{"));
    assert_eq!(of_agents.count(), 100_000);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("# oxmon: 4500 series of agents are left out: "), "{last}");
    assert_eq!(metric(&mut server, "oxmon_exposition_series_left_out"), 4_500);
    let grown = server.peak() - before;
    assert!(grown < 96 * MIB, "it grew by {} MiB", grown / MIB);
}
