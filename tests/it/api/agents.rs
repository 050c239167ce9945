//! `/v1/agents` and the newest values of one.

use std::time::Duration;

use oxmon::base::clock::{DAY_MS, MINUTE_MS, parse_rfc3339, rfc3339};
use serde_json::json;

use crate::support::access::{Least, check, check_bad};
use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

fn report(server: &Server, agent: &str, at: i64, points: &[(&str, f64)]) {
    let reply = Client::to(server.grpc_port).report(&batch(agent, at, points)).unwrap();
    assert!(reply.success, "{}", reply.message);
}

#[test]
fn agents_are_listed_by_when_they_were_last_heard_of() {
    let mut server = Server::start("");
    assert_eq!(server.get("/v1/agents"), json!([]));
    let now = now_ms();
    // What counts is when a report arrives, whatever time it names.
    report(&server, "old", now - 2 * DAY_MS, &[("a", 1.0)]);
    report(&server, "lately", now - 10 * MINUTE_MS, &[("a", 1.0)]);
    report(&server, "now", now, &[("a", 1.0)]);
    server.post("/v1/agents/whitelist", json!({"agent_id": "silent-b"}));
    server.post("/v1/agents/whitelist", json!({"agent_id": "silent-a"}));
    server.post("/v1/agents/whitelist", json!({"agent_id": "lately"}));
    let answer = server.call("GET", "/v1/agents", None);
    let rows = answer.data().as_array().unwrap().clone();
    let ids: Vec<&str> = rows.iter().map(|row| row["agent_id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids, answer.total),
        (vec!["now", "lately", "old", "silent-a", "silent-b"], Some(5))
    );
    for row in &rows[..3] {
        assert_eq!((&row["status"], &row["active"]), (&json!("active"), &json!(true)), "{row}");
        let seen = parse_rfc3339(row["last_seen"].as_str().unwrap()).unwrap();
        assert!((now..=now_ms()).contains(&seen), "{row}");
    }
    let silent = json!({"agent_id": "silent-a", "last_seen": null, "active": false,
                        "status": "unknown", "clock_skew_secs": null, "twins": false,
                        "warnings": []});
    assert_eq!(rows[3], silent);
    for (page, ids) in [
        ("limit=2", vec!["now", "lately"]),
        ("limit=2&offset=2", vec!["old", "silent-a"]),
        ("offset=4", vec!["silent-b"]),
        ("offset=5", vec![]),
    ] {
        let answer = server.call("GET", &format!("/v1/agents?{page}"), None);
        let rows = answer.data().as_array().unwrap();
        let found: Vec<&str> = rows.iter().map(|row| row["agent_id"].as_str().unwrap()).collect();
        assert_eq!((found, answer.total), (ids, Some(5)), "{page}");
    }
    report(&server, "silent-b", now + 1_000, &[("a", 1.0)]);
    let rows = server.get("/v1/agents");
    assert_eq!((&rows[0]["agent_id"], &rows[0]["status"]), (&json!("silent-b"), &json!("active")));
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    server.restart();
    let rows = server.get("/v1/agents");
    assert_eq!(rows[3]["agent_id"], "old", "a restart forgets nobody: {rows}");
}

#[test]
fn the_newest_value_of_each_series_is_shown_once() {
    let mut server = Server::start("");
    let at = now_ms() - MINUTE_MS;
    let mut sent = batch("web 01/ä", at, &[("b.b", 0.1), ("a.a", 2.0)]);
    let mut labelled = sent.data_points[1].clone();
    labelled.labels.insert("mount".into(), "/".into());
    labelled.value = 1.0 / 3.0;
    sent.data_points.push(labelled);
    let client = Client::to(server.grpc_port);
    assert!(client.report(&sent).unwrap().success);
    report(&server, "web 01/ä", at + 1, &[("b.b", 0.1 + 0.2)]);
    report(&server, "web 01/ä", at - 5_000, &[("b.b", 9.0)]);
    let rows = server.get("/v1/agents/web%2001%2F%C3%A4/latest");
    let time = |at: i64| json!(rfc3339(at));
    let expected = json!([
        {"metric_name": "a.a", "value": 2.0, "labels": {}, "timestamp": time(at)},
        {"metric_name": "a.a", "value": 1.0 / 3.0, "labels": {"mount": "/"}, "timestamp": time(at)},
        {"metric_name": "b.b", "value": 0.1 + 0.2, "labels": {}, "timestamp": time(at + 1)},
    ]);
    assert_eq!(rows, expected);
}

#[test]
fn a_real_agent_is_active_and_its_values_go_on() {
    let mut server = Server::start("");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let uptime = |server: &mut Server| {
        let answer = server.call("GET", "/v1/agents/web-01/latest", None);
        let rows = answer.data().as_array()?.clone();
        let row = rows.iter().find(|row| row["metric_name"] == "load.uptime")?.clone();
        Some((parse_rfc3339(row["timestamp"].as_str()?)?, row["value"].as_f64()?))
    };
    let limit = Duration::from_secs(15);
    let (at, value) = wait_for("a first value", limit, || uptime(&mut server));
    let (later, more) =
        wait_for("the next value", limit, || uptime(&mut server).filter(|(later, _)| *later > at));
    assert!(more > value, "{more} after {} ms is not over {value}", later - at);
    let rows = server.get("/v1/agents");
    assert_eq!((&rows[0]["status"], &rows[0]["active"]), (&json!("active"), &json!(true)));
}

#[test]
fn agents_take_a_login_and_refuse_what_they_do_not_know() {
    let mut server = Server::start("");
    report(&server, "web-01", now_ms(), &[("a", 1.0)]);
    server.get("/v1/agents");
    check(&mut server, Least::Viewer, "GET", "/v1/agents", None);
    check(&mut server, Least::Viewer, "GET", "/v1/agents/web-01/latest", None);
    check_bad(
        &mut server,
        "GET",
        &[
            ("/v1/agents?limit=-1", None, "limit"),
            ("/v1/agents?limit=x", None, "limit"),
            ("/v1/agents?offset=-1", None, "offset"),
            ("/v1/agents?status=active", None, "status"),
            ("/v1/agents/web-01/latest?limits=1", None, "limits"),
            ("/v1/agents/%FF/latest", None, "id"),
        ],
    );
    server.post("/v1/agents/whitelist", json!({"agent_id": "silent"}));
    for agent in ["nobody", "silent"] {
        let answer = server.call("GET", &format!("/v1/agents/{agent}/latest"), None);
        assert_eq!((answer.status, answer.code()), (404, 1004), "{answer:?}");
        assert!(answer.body["err_msg"].as_str().unwrap().contains(agent), "{answer:?}");
    }
    let answer = server.call("DELETE", "/v1/agents", None);
    assert_eq!(answer.status, 405);
}
