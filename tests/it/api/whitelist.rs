//! The whitelist over the API: who may report, and with which token.

use grpcio::RpcStatusCode;
use oxmon::base::clock::parse_rfc3339;
use serde_json::{Value, json};

use crate::support::access::{Least, check, check_bad};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;

const PATH: &str = "/v1/agents/whitelist";

/// Whether an agent may report with this token.
fn may_report(server: &Server, agent: &str, token: &str) -> Result<bool, RpcStatusCode> {
    let bearer = format!("Bearer {token}");
    let metadata = [("authorization", bearer.as_str()), ("agent-id", agent)];
    let client = Client::to(server.grpc_port);
    let sent = batch(agent, now_ms(), &[("a", 1.0)]);
    client.report_with(&sent, &metadata).map(|reply| reply.success).map_err(|status| status.code())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn an_agent_is_put_on_the_list_described_and_taken_off() {
    let mut server = Server::start("require_agent_auth = true\n");
    assert_eq!(server.get(PATH), json!([]));
    let answer = server.call("POST", PATH, Some(json!({"agent_id": "web-01"})));
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = answer.data().clone();
    let (id, token) = (text(&made["id"]).to_owned(), text(&made["token"]).to_owned());
    assert_eq!((made["agent_id"].as_str(), token.len()), (Some("web-01"), 64));
    assert!(parse_rfc3339(text(&made["created_at"])).is_some());

    let rows = server.get(PATH);
    let expected = json!([{
        "id": id, "agent_id": "web-01", "description": null, "token": null, "last_seen": null,
        "status": "unknown", "created_at": made["created_at"], "updated_at": made["created_at"],
    }]);
    assert_eq!(rows, expected);
    assert_eq!(may_report(&server, "web-01", &token), Ok(true));
    for key in [id.as_str(), "web-01"] {
        let body = json!({"description": format!("by {key}")});
        let answer = server.call("PUT", &format!("{PATH}/{key}"), Some(body));
        assert_eq!(answer.status, 200, "{answer:?}");
        let row = answer.data().clone();
        assert_eq!(row["description"], format!("by {key}"));
        assert_eq!((&row["token"], &row["status"]), (&Value::Null, &json!("active")));
        assert!(row["last_seen"].is_string(), "{row}");
        assert_eq!(server.get(PATH)[0], row);
    }
    let answer = server.call("PUT", &format!("{PATH}/{id}"), Some(json!({"description": null})));
    assert_eq!(answer.data()["description"], Value::Null, "{answer:?}");

    let answer = server.call("DELETE", &format!("{PATH}/web-01"), None);
    assert_eq!((answer.status, answer.data()), (200, &Value::Null));
    assert_eq!(may_report(&server, "web-01", &token), Err(RpcStatusCode::UNAUTHENTICATED));
    assert_eq!(server.get(PATH), json!([]));
    let rows = server.get("/v1/agents/web-01/latest");
    assert_eq!(rows[0]["value"], 1.0, "what it has reported stays");
}

#[test]
fn a_new_token_cuts_the_old_one_off_at_once_by_either_key() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post(PATH, json!({"agent_id": "web-01", "description": "front"}));
    let id = text(&made["id"]).to_owned();
    let mut old = text(&made["token"]).to_owned();
    for key in [id.as_str(), "web-01"] {
        assert_eq!(may_report(&server, "web-01", &old), Ok(true));
        let answer = server.call("POST", &format!("{PATH}/{key}/token"), None);
        assert_eq!(answer.status, 200, "{answer:?}");
        let new = text(&answer.data()["token"]).to_owned();
        assert_eq!(answer.data()["agent_id"], "web-01");
        assert_eq!(may_report(&server, "web-01", &old), Err(RpcStatusCode::UNAUTHENTICATED));
        assert_eq!(may_report(&server, "web-01", &new), Ok(true));
        old = new;
    }
    assert_eq!(server.get(PATH)[0]["description"], "front");
    server.kill_and_restart();
    assert_eq!(may_report(&server, "web-01", &old), Ok(true), "it outlives a crash");
    assert!(!server.log().contains(&old), "a token is in the log");
}

#[test]
fn the_list_is_paged_newest_first() {
    let mut server = Server::start("");
    for number in 0..5 {
        server.post(PATH, json!({"agent_id": format!("a{number}")}));
    }
    let answer = server.call("GET", &format!("{PATH}?limit=2&offset=1"), None);
    let rows = answer.data().as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| text(&row["agent_id"])).collect();
    assert_eq!((ids, answer.total), (vec!["a3", "a2"], Some(5)));
}

#[test]
fn only_administrators_change_the_list() {
    let mut server = Server::start("");
    server.post(PATH, json!({"agent_id": "web-01"}));
    check(&mut server, Least::Viewer, "GET", PATH, None);
    let admin = [
        ("POST", PATH.to_owned(), Some(json!({"agent_id": "web-02"}))),
        ("PUT", format!("{PATH}/web-01"), Some(json!({"description": "x"}))),
        ("POST", format!("{PATH}/web-01/token"), None),
        ("DELETE", format!("{PATH}/web-01"), None),
        ("POST", "/v1/agents/enroll-codes".to_owned(), Some(json!({}))),
    ];
    for (method, path, body) in admin {
        check(&mut server, Least::Admin, method, &path, body);
    }
    let rows = server.get(PATH);
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["description"], Value::Null);
}

#[test]
fn what_can_not_be_on_the_list_is_refused() {
    let mut server = Server::start("");
    server.post(PATH, json!({"agent_id": "web-01"}));
    let long = "x".repeat(1_025);
    check_bad(
        &mut server,
        "POST",
        &[
            (PATH, Some(json!({})), "agent_id"),
            (PATH, Some(json!({"agent_id": ""})), "agent_id"),
            (PATH, Some(json!({"agent_id": 7})), "string"),
            (PATH, Some(json!({"agent_id": "a\nb"})), "control"),
            (PATH, Some(json!({"agent_id": "x".repeat(129)})), "128"),
            (PATH, Some(json!({"agent_id": "b", "description": long})), "description"),
            (PATH, Some(json!({"agent_id": "b", "token": "mine"})), "token"),
            (PATH, Some(json!([])), "body"),
            ("/v1/agents/enroll-codes", Some(json!({"agent_id": ""})), "agent_id"),
            ("/v1/agents/enroll-codes", Some(json!({"agent": "a"})), "agent"),
        ],
    );
    let one = format!("{PATH}/web-01");
    check_bad(
        &mut server,
        "PUT",
        &[
            (&one, Some(json!({})), "description"),
            (&one, Some(json!({"description": 1})), "string"),
            (&one, Some(json!({"description": long})), "description"),
            (&one, Some(json!({"description": "x", "agent_id": "web-02"})), "agent_id"),
        ],
    );
    check_bad(&mut server, "GET", &[("/v1/agents/whitelist?limit=x", None, "limit")]);
    let answer = server.call("POST", PATH, Some(json!({"agent_id": "web-01"})));
    assert_eq!((answer.status, answer.code()), (409, 1005), "{answer:?}");
    let missing = format!("{PATH}/nobody");
    for (method, path, body) in [
        ("PUT", missing.clone(), Some(json!({"description": "x"}))),
        ("DELETE", missing.clone(), None),
        ("POST", format!("{missing}/token"), None),
    ] {
        let answer = server.call(method, &path, body);
        assert_eq!((answer.status, answer.code()), (404, 1004), "{method} {path}: {answer:?}");
        assert!(text(&answer.body["err_msg"]).contains("nobody"), "{answer:?}");
    }
    assert_eq!(server.call("GET", PATH, None).total, Some(1));
}
