//! An agent joins with one command: a code from the API, then `oxmon-agent enroll`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use grpcio::RpcStatusCode;
use oxmon::base::clock::{MINUTE_MS, parse_rfc3339};
use serde_json::{Value, json};

use crate::support::agent::{Agent, program};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const CODES: &str = "/v1/agents/enroll-codes";

fn enroll(server: &Server, code: &str, agent_id: &str, config: &Path) -> Output {
    Command::new(program())
        .args(["enroll", "--server", &format!("127.0.0.1:{}", server.grpc_port)])
        .args(["--code", code, "--agent-id", agent_id, "--config"])
        .arg(config)
        .output()
        .expect("the agent runs")
}

fn said(out: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    format!("{out}{err}")
}

/// The token in an agent's configuration.
fn token_in(config: &Path) -> String {
    let text = fs::read_to_string(config).expect("a configuration");
    let table: toml::Table = text.parse().expect("TOML");
    table["auth_token"].as_str().expect("a token").to_owned()
}

fn wait_for_values(server: &mut Server, agent: &str) {
    let path = format!("/v1/agents/{agent}/latest");
    wait_for("a value of the agent", Duration::from_secs(15), || {
        (server.call("GET", &path, None).status == 200).then_some(())
    });
}

#[test]
fn an_agent_joins_with_one_code_and_reports_until_its_token_is_replaced() {
    let mut server = Server::start("require_agent_auth = true\n");
    let before = now_ms();
    let answer = server.call("POST", CODES, Some(json!({"agent_id": "web-01"})));
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.data().clone();
    assert_eq!(made["agent_id"], "web-01");
    let ends = parse_rfc3339(made["expires_at"].as_str().unwrap()).unwrap();
    let left = ends - before;
    assert!((9 * MINUTE_MS..=10 * MINUTE_MS + 5_000).contains(&left), "good for {left} ms");
    let code = made["code"].as_str().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    fs::write(&config, "# mine\ncollection_interval_secs = 1\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let out = enroll(&server, code, "web-01", &config);
    assert!(out.status.success(), "{}", said(&out));
    assert!(fs::read_to_string(&config).unwrap().starts_with("# mine\ncollection_interval"));
    let mode = fs::metadata(&config).unwrap().permissions().mode();
    // For its owner, and for the group of the packaged unit where that is installed.
    let unit = fs::read_to_string("/etc/group").is_ok_and(|all| all.contains("\noxmon-agent:"));
    assert_eq!(mode & 0o777, if unit { 0o640 } else { 0o600 }, "{mode:o}");
    let token = token_in(&config);
    assert!(!said(&out).contains(&token), "the token is shown: {}", said(&out));
    assert_eq!(server.get("/v1/agents/whitelist")[0]["agent_id"], "web-01");

    let mut agent = Agent::start_in(dir);
    wait_for_values(&mut server, "web-01");
    let again = tempfile::tempdir().unwrap();
    let out = enroll(&server, code, "web-01", &again.path().join("agent.toml"));
    assert!(!out.status.success(), "a code works twice");
    assert!(said(&out).contains("code"), "{}", said(&out));
    assert!(!again.path().join("agent.toml").exists(), "a configuration without a token");

    let new = server.post("/v1/agents/whitelist/web-01/token", json!({}));
    let code_of = |token: &str| {
        let bearer = format!("Bearer {token}");
        let metadata = [("authorization", bearer.as_str()), ("agent-id", "web-01")];
        let sent = batch("web-01", now_ms(), &[("a", 1.0)]);
        Client::to(server.grpc_port).report_with(&sent, &metadata).map_err(|s| s.code())
    };
    assert_eq!(code_of(&token).unwrap_err(), RpcStatusCode::UNAUTHENTICATED);
    assert!(code_of(new["token"].as_str().unwrap()).unwrap().success);
    wait_for("the agent to say that its token is refused", Duration::from_secs(15), || {
        agent.log().contains("token").then_some(())
    });
    assert_eq!(agent.stop().code(), Some(0), "{}", agent.log());
    let log = server.log() + &agent.log();
    for secret in [code, token.as_str(), new["token"].as_str().unwrap()] {
        assert!(!log.contains(secret), "a secret is in a log");
    }
}

#[test]
fn a_code_for_one_agent_is_none_for_another_and_one_for_any_takes_the_first() {
    let mut server = Server::start("require_agent_auth = true\n");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    let bound = server.post(CODES, json!({"agent_id": "web-01"}));
    let out = enroll(&server, bound["code"].as_str().unwrap(), "web-02", &config);
    assert!(!out.status.success() && !config.exists(), "{}", said(&out));
    let out = enroll(&server, "guess", "web-01", &config);
    assert!(!out.status.success() && !config.exists(), "{}", said(&out));
    let out = enroll(&server, bound["code"].as_str().unwrap(), "web-01", &config);
    assert!(out.status.success(), "the other agent has not used it up: {}", said(&out));

    let open = server.post(CODES, json!({}));
    assert_eq!(open["agent_id"], Value::Null);
    let other = dir.path().join("other.toml");
    let out = enroll(&server, open["code"].as_str().unwrap(), "db-01", &other);
    assert!(out.status.success(), "{}", said(&out));
    let rows = server.get("/v1/agents");
    let ids: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["agent_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["db-01", "web-01"], "both may report and neither has");
}
