//! A ring of plain VictoriaMetrics and Prometheus nodes, and agents that wait for the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::real::{Engine, had_by};
use super::{Act, Fake, Load, Point3, SOON, batch, had_by as kept_by};
use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;
use oxmon::base::clock::{DAY_MS, rfc3339};
use oxmon::wire::batch_to_proto;

fn victoria() -> Option<Engine> {
    Engine::victoria(&["-dedup.minScrapeInterval=1ms"])
}

fn prometheus() -> Option<Engine> {
    Engine::prometheus(Some("7d"))
}

fn nodes() -> Option<Vec<Engine>> {
    [victoria, prometheus, victoria].iter().map(|start| start()).collect()
}

fn config(nodes: &[&Engine]) -> String {
    let list = |of: &dyn Fn(&Engine) -> String| {
        let urls: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", of(node))).collect();
        urls.join(", ")
    };
    format!(
        "[remote]\nmode = \"ring\"\nwrite_urls = [{}]\nread_urls = [{}]\ntimeout_secs = 2\n\
         shards = 2\naudit_after_secs = 3600\n",
        list(&Engine::write_url),
        list(&|node| node.url.clone())
    )
}

/// On how many nodes each acknowledged sample is, to the bit.
fn copies(nodes: &[&Engine], acknowledged: &BTreeMap<Point3, u64>) -> BTreeMap<usize, usize> {
    let had: Vec<_> = nodes.iter().map(|node| had_by(&node.url)).collect();
    let mut counts = BTreeMap::new();
    for (key, bits) in acknowledged {
        let copies = had.iter().filter(|had| had.get(key) == Some(bits)).count();
        *counts.entry(copies).or_default() += 1;
    }
    counts
}

fn wait_for_two(nodes: &[&Engine], acknowledged: &BTreeMap<Point3, u64>) {
    wait_for("two copies of each sample", SOON + SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        let copies = copies(nodes, acknowledged);
        eprintln!("samples by copies: {copies:?}");
        let few = copies.range(..2).map(|(_, samples)| samples).sum::<usize>();
        (few == 0).then_some(())
    });
}

#[test]
fn a_node_of_a_ring_that_is_killed_gets_what_it_missed_and_one_that_is_replaced_too() {
    let Some(mut nodes) = nodes() else { return };
    let mut server = Server::start(&config(&nodes.iter().collect::<Vec<_>>()));
    let load = Load::start(server.grpc_port, 30);
    load.wait_for_more(300);
    nodes[1].kill();
    load.wait_for_more(300);
    // A restart keeps what the killed node lacks.
    server.kill_and_restart();
    load.wait_for_more(150);
    nodes[1].restart();
    load.wait_for_more(150);
    let mut acknowledged = load.end();
    let all: Vec<&Engine> = nodes.iter().collect();
    wait_for_two(&all, &acknowledged);
    // No agent is on more nodes than its replicas.
    assert_eq!(copies(&all, &acknowledged).keys().max(), Some(&2));
    // A node that never comes back is replaced by an empty one.
    nodes[2].kill();
    let Some(fresh) = prometheus() else { return };
    let ring = [&nodes[0], &nodes[1], &fresh];
    let file = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let head = text.split("[remote]").next().unwrap().to_owned();
    std::fs::write(&file, format!("{head}\n{}", config(&ring))).unwrap();
    let load = Load::start(server.grpc_port, 30);
    load.wait_for_more(60);
    server.kill_and_restart();
    load.wait_for_more(60);
    acknowledged.extend(load.end());
    let out = std::process::Command::new(crate::support::server::program())
        .arg("forward")
        .arg(&file)
        .output()
        .expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait_for_two(&ring, &acknowledged);
}

#[test]
fn an_agent_may_wait_for_the_engine() {
    let fake = Fake::start();
    let config = format!(
        "[remote]\nwrite_urls = [\"{}\"]\nack = \"engine\"\ntimeout_secs = 1\n",
        fake.write_url()
    );
    let server = Server::start(&config);
    let client = Client::to(server.grpc_port);
    let start = now_ms() - 60_000;
    let report = |at: i64| client.report(&batch_to_proto(&batch("load-001", start + at)));
    for at in 0..20 {
        assert!(report(at).expect("an answer").success);
        assert_eq!(kept_by(&fake).len() as i64, (at + 1) * 3, "not before the engine has it");
    }
    fake.always(Act::Close);
    let refused = report(20).expect_err("the engine does not have it");
    assert!(refused.message().contains("engine"), "{refused:?}");
    fake.always(Act::Take);
    // As agents do: the same again. It is stored already, and now at the engine as well.
    wait_for("the acknowledgement", SOON, || report(20).ok().filter(|reply| reply.success));
    assert_eq!(kept_by(&fake).len(), 21 * 3);
}

#[test]
fn a_ring_answers_for_old_days_while_one_node_is_away() {
    let Some(mut nodes) = nodes() else { return };
    let config = config(&nodes.iter().collect::<Vec<_>>());
    let config = config.replace("audit_after_secs = 3600", "audit_after_secs = 8\nhot_days = 1");
    let mut server = Server::start(&format!("retention_days = 5\n{config}"));
    let client = Client::to(server.grpc_port);
    let now = now_ms();
    let start = now - 3 * DAY_MS - DAY_MS / 2;
    let mut count = 0;
    for at in (start..now).step_by(3_600_000) {
        for agent in ["load-001", "load-002", "load-003"] {
            let report = batch_to_proto(&batch(agent, at));
            assert!(client.report(&report).expect("an answer").success);
        }
        count += 1;
    }
    wait_for("old days to leave", SOON + SOON + SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let days = server.get("/v1/system/storage")["partitions"].as_array().unwrap().len();
        (days == 2).then_some(())
    });
    let from = rfc3339(start);
    let mut ask = |agent: &str| {
        let path = format!(
            "/v1/metrics/summary?agent_id={agent}&metric_name=cpu.usage&timestamp__gte={from}"
        );
        server.call("GET", &path, None)
    };
    let agents = ["load-001", "load-002", "load-003"];
    for agent in agents {
        assert_eq!(ask(agent).data()["count"], count, "{agent}");
    }
    // Each agent is on two of three: whichever is away, none is missing.
    nodes[0].kill();
    for agent in agents {
        assert_eq!(ask(agent).data()["count"], count, "{agent}");
    }
    nodes[1].kill();
    let answer = ask("load-001");
    assert_eq!(answer.status, 503, "{}", answer.body);
    let said = answer.body["err_msg"].to_string();
    assert!(said.contains(&nodes[0].url) && said.contains(&nodes[1].url), "{said}");
}
