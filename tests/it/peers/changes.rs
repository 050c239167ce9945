//! Changes of each kind, made at a server that is not home.

use std::process::Command;

use super::*;
use crate::support::grpc::{Client, batch, now_ms};

/// Something of each kind: what is posted, and the list in which it is then.
fn kinds() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "/v1/alerts/rules",
            json!({"name": "busy", "rule_type": "threshold", "metric": "cpu.usage",
                   "config_json": {"operator": "greater_than", "value": 90.0, "duration_secs": 0}}),
            "/v1/alerts/rules/config",
        ),
        (
            "/v1/notifications/channels/config",
            json!({"name": "hook", "channel_type": "webhook", "recipients": ["http://127.0.0.1:9/x"],
                   "config_json": {}}),
            "/v1/notifications/channels/config",
        ),
        (
            "/v1/notifications/silence-windows",
            json!({"start_time": "02:00", "end_time": "04:00", "recurrence": "daily"}),
            "/v1/notifications/silence-windows",
        ),
        ("/v1/users", json!({"username": "eve", "password": "only looking"}), "/v1/users"),
        (
            "/v1/certs/domains",
            json!({"domain": "shop.example.com", "enabled": false}),
            "/v1/certs/domains",
        ),
        ("/v1/agents/whitelist", json!({"agent_id": "web-01"}), "/v1/agents/whitelist"),
    ]
}

#[test]
fn what_is_made_at_a_follower_is_at_both_at_once_and_so_are_logins() {
    let mut servers = Servers::start_with(2, "require_agent_auth = true\n");
    for (path, body, list) in kinds() {
        let made = servers.at(1).call("POST", path, Some(body.clone()));
        assert!(made.status == 200 || made.status == 201, "{path}: {}", made.body);
        // Who made it reads it, without a wait.
        let here = servers.at(1).get(list);
        let id = made.data()["id"].clone();
        assert!(here.as_array().unwrap().iter().any(|row| row["id"] == id), "{list}: {here}");
        assert_eq!(servers.at(0).get(list), here, "{list}");
    }
    // The audit log of the home names who, and by which way.
    let log = servers.at(0).get("/v1/audit?action__contains=rules");
    assert_eq!(log[0]["username"], "admin");
    assert_eq!(log[0]["address"], "127.0.0.1 through b");
    assert_eq!(servers.at(1).get("/v1/audit?action__contains=rules"), json!([]));
    // Logins and tokens of one server work at the other.
    let eve = servers.at(1).log_in("eve", "only looking");
    let token = servers.at(1).call_as(
        Some(&eve),
        "POST",
        "/v1/auth/tokens",
        Some(json!({"name": "script"})),
    );
    let token = token.data()["token"].as_str().unwrap().to_owned();
    for (index, bearer) in [(0, &eve), (1, &eve), (0, &token), (1, &token)] {
        let answer = servers.at(index).call_as(Some(bearer), "GET", "/v1/agents", None);
        assert_eq!(answer.status, 200, "{index} {}", answer.body);
        // The home looks again what a viewer may.
        let rule = kinds().remove(0).1;
        let answer =
            servers.at(index).call_as(Some(bearer), "POST", "/v1/alerts/rules", Some(rule));
        assert_eq!(answer.status, 403, "{index} {}", answer.body);
    }
    // An error of the home comes back as it is.
    let (path, body, _) = kinds().remove(0);
    let twice = servers.at(1).call("POST", path, Some(body));
    assert_eq!((twice.status, twice.code()), (409, 1005), "{}", twice.body);
    // Signed out at one, signed out at the other.
    assert_eq!(servers.at(1).call_as(Some(&eve), "POST", "/v1/auth/logout", None).status, 200);
    wait_for("the end of the login", SOON, || {
        let answer = servers.at(0).call_as(Some(&eve), "GET", "/v1/agents", None);
        (answer.status == 401).then_some(())
    });
    assert_eq!(servers.at(1).call_as(Some(&eve), "GET", "/v1/agents", None).status, 401);
    agents_and_rules(&mut servers);
    a_code_is_good_at_any_server(&mut servers);
}

/// A code of one server is redeemed at another, once.
fn a_code_is_good_at_any_server(servers: &mut Servers) {
    let made = servers.at(0).post("/v1/agents/enroll-codes", json!({"agent_id": "new-01"}));
    let config = servers.at(1).dir.path().join("agent.toml");
    let port = servers.at(1).grpc_port;
    let enroll = || {
        Command::new(crate::support::agent::program())
            .args(["enroll", "--server", &format!("127.0.0.1:{port}")])
            .args(["--code", made["code"].as_str().unwrap(), "--agent-id", "new-01", "--config"])
            .arg(&config)
            .output()
            .unwrap()
    };
    let first = enroll();
    assert!(first.status.success(), "{first:?}");
    let text = std::fs::read_to_string(&config).unwrap();
    let table: toml::Table = text.parse().unwrap();
    for index in [0, 1] {
        report(servers.at(index), "new-01", table["auth_token"].as_str().unwrap(), "m");
    }
    let again = enroll();
    assert!(!again.status.success(), "{again:?}");
    let log = servers.at(0).get("/v1/audit?action__contains=Enroll");
    assert_eq!((&log[0]["username"], &log[0]["target"]), (&json!("admin"), &json!("new-01")));
}

/// An agent's token counts at both servers, and each evaluates the rules of the home.
fn agents_and_rules(servers: &mut Servers) {
    let made = servers.at(1).post("/v1/agents/whitelist", json!({"agent_id": "web-02"}));
    let token = made["token"].as_str().unwrap().to_owned();
    for index in [0, 1] {
        report(servers.at(index), "web-02", &token, "cpu.usage");
    }
    for index in [0, 1] {
        wait_for("an alert by the home's rule", SOON, || {
            let active = servers.at(index).get("/v1/alerts/active");
            active.as_array()?.iter().find(|alert| alert["rule_name"] == "busy").map(drop)
        });
    }
    // A changed rule keeps what fires; a deleted one ends it, at both.
    let rule = servers.at(1).get("/v1/alerts/rules/config")[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/alerts/rules/{rule}");
    let changed = servers.at(1).call("PUT", &path, Some(json!({"silence_secs": 60})));
    assert_eq!(changed.data()["silence_secs"], 60, "{}", changed.body);
    assert_eq!(servers.at(1).get("/v1/alerts/active").as_array().unwrap().len(), 1);
    // Tags of an agent that only the follower knows.
    let made = servers.at(1).post("/v1/agents/whitelist", json!({"agent_id": "db-01"}));
    report(servers.at(1), "db-01", made["token"].as_str().unwrap(), "m");
    let tagged = servers.at(1).call("PUT", "/v1/agents/db-01", Some(json!({"tags": ["db"]})));
    assert_eq!(tagged.data()["tags"], json!(["db"]), "{}", tagged.body);
    assert_eq!(servers.at(1).call("DELETE", &path, None).status, 200);
    for index in [0, 1] {
        wait_for("the end of the alert", SOON, || {
            (servers.at(index).get("/v1/alerts/active") == json!([])).then_some(())
        });
    }
    // An agent that leaves is off the list of both.
    let gone = servers.at(1).call("DELETE", "/v1/agents/db-01?points=true", None);
    assert_eq!(gone.data()["points_deleted"], 1, "{}", gone.body);
    for index in [0, 1] {
        let list = servers.at(index).get("/v1/agents/whitelist");
        assert!(list.as_array().unwrap().iter().all(|row| row["agent_id"] != "db-01"), "{list}");
    }
}

fn report(server: &Server, agent: &str, token: &str, metric: &str) {
    let bearer = format!("Bearer {token}");
    let metadata = [("agent-id", agent), ("authorization", bearer.as_str())];
    let report = batch(agent, now_ms(), &[(metric, 99.0)]);
    let answer = Client::to(server.grpc_port).report_with(&report, &metadata).unwrap();
    assert!(answer.success, "{answer:?}");
}
