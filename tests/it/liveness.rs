//! Who is there: agents whose clocks are off, two agents with one id, agents that are removed, and
//! agents of which nothing is stored any more.

use std::time::Duration;

use oxmon::base::clock::{DAY_MS, HOUR_MS, SECOND_MS, rfc3339};
use serde_json::{Value, json};

use crate::support::access::{Least, check};
use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::{signal, wait_for};

const SOON: Duration = Duration::from_secs(60);

fn report(server: &Server, agent: &str, at: i64, points: &[(&str, f64)]) {
    let reply = Client::to(server.grpc_port).report(&batch(agent, at, points)).unwrap();
    assert!(reply.success, "{}", reply.message);
}

fn agent(server: &mut Server, agent: &str) -> Option<Value> {
    let rows = server.get("/v1/agents?limit=1000");
    rows.as_array().unwrap().iter().find(|row| row["agent_id"] == agent).cloned()
}

fn active(server: &mut Server, agent: &str) -> Vec<Value> {
    let rows = server.get("/v1/alerts/active?limit=1000");
    rows.as_array().unwrap().iter().filter(|row| row["agent_id"] == agent).cloned().collect()
}

fn no_data_after(server: &mut Server, secs: u32) {
    server.post(
        "/v1/alerts/rules",
        json!({"name": "gone", "rule_type": "no_data", "metric": "*", "severity": "critical",
               "config_json": json!({"duration_secs": secs})}),
    );
}

fn over_90(server: &mut Server) {
    server.post(
        "/v1/alerts/rules",
        json!({"name": "hot", "rule_type": "threshold", "metric": "cpu.usage",
               "config_json": json!({"operator": "greater_than", "value": 90})}),
    );
}

/// The sentences of the alerts of an agent that have ended.
fn endings(server: &mut Server, agent: &str) -> Vec<String> {
    let rows = server.get(&format!("/v1/alerts/history?agent_id__eq={agent}&limit=1000"));
    let ended = rows.as_array().unwrap().iter().filter(|row| row["status"] == 3);
    ended.map(|row| row["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_agent_whose_clock_is_behind_is_active_while_it_reports_and_its_alert_names_the_clock() {
    let sink = Sink::start();
    let mut server = Server::start("aggregation_window_secs = 0\n");
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "recipients": [sink.url("/ok")],
               "config_json": {"body_template": r#"{"text": "{{message}}"}"#}}),
    );
    no_data_after(&mut server, 4);
    let behind = |server: &Server| {
        report(server, "late", now_ms() - 2 * HOUR_MS, &[("cpu.usage", 1.0)]);
    };
    behind(&server);
    let row = agent(&mut server, "late").unwrap();
    assert_eq!((&row["status"], &row["active"]), (&json!("active"), &json!(true)), "{row}");
    assert_eq!(row["clock_skew_secs"], Value::Null, "one report may be a backlog: {row}");
    let skew = |server: &mut Server| {
        behind(server);
        std::thread::sleep(Duration::from_millis(900));
        agent(server, "late").unwrap()["clock_skew_secs"].as_f64()
    };
    let skew_secs = wait_for("the skew", SOON, || skew(&mut server));
    assert!((-7_210.0..=-7_195.0).contains(&skew_secs), "{skew_secs}");
    let line = "the clock of agent `late` is 720";
    assert_eq!(server.log().matches(line).count(), 1, "once: {}", server.log());
    assert!(active(&mut server, "late").is_empty(), "it reports");
    let row = agent(&mut server, "late").unwrap();
    let warning = row["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("behind the server's"), "{warning}");
    let fleet = server.get("/v1/dashboard/agents");
    assert_eq!((&fleet[0]["status"], &fleet[0]["cpu_percent"]), (&json!("active"), &json!(1.0)));
    assert_eq!(fleet[0]["warnings"][0], json!(warning));
    assert_eq!(server.get("/v1/dashboard/overview")["active_agents"], 1);

    // Now it ends.
    let alert = wait_for("the alert", SOON, || active(&mut server, "late").pop());
    let text = alert["message"].as_str().unwrap();
    assert!(text.contains("has not reported for"), "{text}");
    assert!(text.contains("; its clock is 2h behind the server's (rule gone)"), "{text}");
    let told = wait_for("the notification", SOON, || sink.bodies().pop());
    assert_eq!(told["text"], json!(text));
}

#[test]
fn an_agent_whose_clock_is_far_ahead_is_active_and_what_is_lost_is_named() {
    let mut server = Server::start("aggregation_window_secs = 0\n");
    no_data_after(&mut server, 3);
    report(&server, "early", now_ms(), &[("a", 1.0)]);
    let ahead = || {
        let client = Client::to(server.grpc_port);
        let reply = client.report(&batch("early", now_ms() + 2 * HOUR_MS, &[("a", 1.0)])).unwrap();
        assert!(
            reply.success && reply.message.contains("1 of 1 points were rejected"),
            "{reply:?}"
        );
    };
    ahead();
    let log = server.log();
    let line = log.lines().find(|line| line.contains("the clock of agent `early` is 7")).unwrap();
    assert!(line.contains("ahead of the server's, and its points are rejected"), "{line}");
    // Nothing is stored: that is an alert, and it says why.
    let alert = wait_for("the alert", SOON, || active(&mut server, "early").pop());
    let text = alert["message"].as_str().unwrap();
    assert!(text.contains("its clock is 2h ahead of the server's"), "{text}");
    ahead_again(&server);
    let row = agent(&mut server, "early").unwrap();
    assert_eq!(row["status"], "active", "it reports: {row}");
    assert!(row["clock_skew_secs"].as_f64().unwrap() > 7_190.0, "{row}");
    // The clock is set right.
    report(&server, "early", now_ms(), &[("a", 2.0)]);
    wait_for("the recovery", SOON, || active(&mut server, "early").is_empty().then_some(()));
    assert!(server.log().contains("the clock of agent `early` agrees with the server's again"));
    assert_eq!(agent(&mut server, "early").unwrap()["warnings"], json!([]));
}

fn ahead_again(server: &Server) {
    let client = Client::to(server.grpc_port);
    client.report(&batch("early", now_ms() + 2 * HOUR_MS, &[("a", 1.0)])).unwrap();
}

#[test]
fn an_agent_of_which_no_point_could_be_stored_is_listed_all_the_same() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    client.report(&batch("never", now_ms() + 3 * HOUR_MS, &[("a", 1.0)])).unwrap();
    let row = agent(&mut server, "never").unwrap();
    assert_eq!(row["status"], "active", "{row}");
    assert!(row["warnings"][0].as_str().unwrap().contains("points are rejected"), "{row}");
    assert_eq!(server.call("GET", "/v1/agents/never/latest", None).status, 404);
    assert_eq!(server.call("DELETE", "/v1/agents/never", None).status, 200);
    assert_eq!(agent(&mut server, "never"), None);
}

#[test]
fn two_agents_with_one_id_are_shown_and_the_second_one_is_refused_on_request() {
    let mut server = Server::start("[ingest]\nrefuse_twins = true\n");
    let client = Client::to(server.grpc_port);
    let send = |instance: &str, boot_id: &str, value: f64| {
        let who = [("agent-instance", instance), ("agent-boot-id", boot_id)];
        client.report_with(&batch("twin", now_ms(), &[("a", value)]), &who)
    };
    assert!(send("one", "host-1", 1.0).unwrap().success);
    assert!(send("two", "host-2", 2.0).unwrap().success, "it may be a restart");
    assert!(send("one", "host-1", 3.0).unwrap().success, "who was there first stays");
    let refused = send("two", "host-2", 4.0).unwrap_err();
    assert_eq!(refused.code(), grpcio::RpcStatusCode::PERMISSION_DENIED);
    assert!(refused.message().contains("another agent reports as `twin`"), "{refused:?}");
    assert!(send("one", "host-1", 5.0).unwrap().success);
    assert!(server.log().contains("two agents on two hosts report as `twin`"), "{}", server.log());
    let row = agent(&mut server, "twin").unwrap();
    assert_eq!(row["twins"], true, "{row}");
    assert!(row["warnings"][0].as_str().unwrap().starts_with("Two agents on two hosts"), "{row}");
    let points = server.get("/v1/metrics?agent_id__eq=twin&metric_name__eq=a");
    let values: Vec<f64> =
        points.as_array().unwrap().iter().map(|point| point["value"].as_f64().unwrap()).collect();
    assert!(!values.contains(&4.0), "{values:?}");
}

#[test]
fn real_twins_are_noticed_and_one_of_them_keeps_its_samples_when_it_is_refused() {
    let mut server = Server::start("[ingest]\nrefuse_twins = true\n");
    let one = Agent::start("twin", server.grpc_port, "");
    let two = Agent::start("twin", server.grpc_port, "");
    wait_for("the refusal", SOON, || {
        let said = |agent: &Agent| agent.log().contains("another agent reports as `twin`");
        (said(&one) || said(&two)).then_some(())
    });
    wait_for("the API", SOON, || agent(&mut server, "twin").filter(|row| row["twins"] == true));
}

#[test]
fn an_agent_that_is_removed_leaves_every_list_and_its_alerts_end() {
    let mut server = Server::start("aggregation_window_secs = 0\n");
    over_90(&mut server);
    server.post("/v1/agents/whitelist", json!({"agent_id": "old"}));
    let at = now_ms() - SECOND_MS;
    report(&server, "old", at, &[("cpu.usage", 95.0), ("a", 1.0)]);
    report(&server, "kept", at, &[("cpu.usage", 95.0)]);
    wait_for("both alerts", SOON, || {
        let both = active(&mut server, "old").len() + active(&mut server, "kept").len();
        (both == 2).then_some(())
    });
    check(&mut server, Least::Admin, "DELETE", "/v1/agents/old", None);
    let answer = server.call("DELETE", "/v1/agents/old", None);
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = json!({"agent_id": "old", "deleted": true, "whitelisted": true,
                          "alerts_ended": 1, "points_deleted": 0});
    assert_eq!(answer.data(), &expected);
    let gone = |server: &mut Server| {
        assert_eq!(agent(server, "old"), None);
        assert_eq!(server.call("GET", "/v1/agents/old/latest", None).status, 404);
        assert_eq!(server.get("/v1/dashboard/agents").as_array().unwrap().len(), 1);
        assert_eq!(server.get("/v1/dashboard/overview")["total_agents"], 1);
        assert_eq!(server.get("/v1/agents/whitelist"), json!([]));
    };
    gone(&mut server);
    assert!(active(&mut server, "old").is_empty());
    assert_eq!(active(&mut server, "kept").len(), 1, "another agent's alert stays");
    let ended = endings(&mut server, "old");
    assert!(ended.iter().any(|text| text.contains("the agent was removed")), "{ended:?}");
    assert_eq!(server.get("/v1/metrics?agent_id__eq=old").as_array().unwrap().len(), 2);
    let audit = server.get("/v1/audit?action__contains=DELETE");
    assert_eq!(audit[0]["target"], "/v1/agents/old", "{audit}");
    assert_eq!(audit[0]["action"], "DELETE /v1/agents/{id}");
    let answer = server.call("DELETE", "/v1/agents/old", None);
    assert_eq!((answer.status, answer.code()), (404, 1004), "{answer:?}");
    assert_eq!(server.call("DELETE", "/v1/agents/nobody", None).status, 404);

    server.kill_and_restart();
    gone(&mut server);
    report(&server, "old", now_ms(), &[("a", 2.0)]);
    assert_eq!(agent(&mut server, "old").unwrap()["status"], "active", "it reports again");
    server.kill_and_restart();
    assert!(agent(&mut server, "old").is_some(), "a point came after the removal");
}

#[test]
fn the_points_of_an_agent_are_deleted_on_request_packed_or_not_and_no_others() {
    let mut server = Server::start("[storage]\npack_points = 16\n");
    let client = Client::to(server.grpc_port);
    let start = now_ms() - DAY_MS;
    for tick in 0..100 {
        for agent in ["old", "kept"] {
            let at = start + tick * 15 * 60 * SECOND_MS;
            let sent = batch(agent, at, &[("a", tick as f64), ("b", 0.5)]);
            assert!(client.report(&sent).unwrap().success);
        }
    }
    let count = |server: &mut Server, agent: &str| {
        let path = format!("/v1/metrics?agent_id__eq={agent}&limit=1");
        server.call("GET", &path, None).total.unwrap()
    };
    assert_eq!((count(&mut server, "old"), count(&mut server, "kept")), (200, 200));
    let answer = server.call("DELETE", "/v1/agents/old?points=true", None);
    assert_eq!((answer.status, &answer.data()["points_deleted"]), (200, &json!(200)), "{answer:?}");
    assert_eq!((count(&mut server, "old"), count(&mut server, "kept")), (0, 200));
    let from = rfc3339(start - SECOND_MS);
    let agents = server.get(&format!("/v1/metrics/agents?timestamp__gte={from}"));
    assert_eq!(agents, json!(["kept"]));
    assert_eq!(server.call("DELETE", "/v1/agents/old", None).status, 404);
    server.kill_and_restart();
    assert_eq!((count(&mut server, "old"), count(&mut server, "kept")), (0, 200));
    assert!(!server.log().contains("damaged"), "{}", server.log());
    report(&server, "old", now_ms(), &[("a", 7.0)]);
    assert_eq!(count(&mut server, "old"), 1, "it appears again with what it reports");
    assert_eq!(count(&mut server, "kept"), 200);
    server.kill_and_restart();
    assert_eq!((count(&mut server, "old"), count(&mut server, "kept")), (1, 200));
}

#[test]
fn an_agent_that_is_removed_can_not_report_where_a_token_is_needed() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let who = [("agent-id", "web-01"), ("authorization", bearer.as_str())];
    let client = Client::to(server.grpc_port);
    let send = || client.report_with(&batch("web-01", now_ms(), &[("a", 1.0)]), &who);
    assert!(send().unwrap().success);
    let id = made["id"].as_str().unwrap();
    let answer = server.call("DELETE", &format!("/v1/agents/{id}"), None);
    assert_eq!((answer.status, &answer.data()["agent_id"]), (200, &json!("web-01")), "{answer:?}");
    assert_eq!(send().unwrap_err().code(), grpcio::RpcStatusCode::UNAUTHENTICATED);
    assert_eq!(server.get("/v1/agents"), json!([]));
}

#[test]
fn alerts_of_an_agent_whose_last_point_left_the_store_end() {
    let mut server = Server::start("aggregation_window_secs = 0\nretention_days = 7\n");
    no_data_after(&mut server, 2);
    report(&server, "gone", now_ms() - 3 * DAY_MS, &[("a", 1.0)]);
    report(&server, "silent", now_ms(), &[("a", 1.0)]);
    wait_for("the alerts", SOON, || {
        (active(&mut server, "gone").len() + active(&mut server, "silent").len() == 2).then_some(())
    });
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    let path = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("retention_days = 7", "retention_days = 1")).unwrap();
    server.restart();
    assert_eq!(active(&mut server, "gone").len(), 1, "a restart ends nothing");
    let gone = server.post("/v1/system/storage/cleanup", json!({}));
    assert_eq!(gone["removed_partitions"], 1, "{gone}");
    wait_for("the end", SOON, || active(&mut server, "gone").is_empty().then_some(()));
    let ended = endings(&mut server, "gone");
    let why = "nothing of the agent is stored any more";
    assert!(ended.iter().any(|text| text.contains(why)), "{ended:?}");
    assert_eq!(active(&mut server, "silent").len(), 1, "of this one there are points");
    signal(&server.child, "TERM");
}
