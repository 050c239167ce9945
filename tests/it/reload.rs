//! SIGHUP: a changed configuration is in force without a restart, a wrong one changes nothing.

use std::time::Duration;

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::{signal, wait_for};

fn is_seen(server: &mut Server, agent: &str) -> Option<()> {
    (server.call("GET", &format!("/v1/agents/{agent}/latest"), None).status == 200).then_some(())
}

#[test]
fn an_agent_takes_its_changed_configuration_and_keeps_a_good_one() {
    let mut server = Server::start("");
    let mut agent = Agent::start("before", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || is_seen(&mut server, "before"));
    let path = agent.dir.path().join("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();

    std::fs::write(&path, text.replace("before", "after")).unwrap();
    signal(&agent.child, "HUP");
    wait_for("the new name", Duration::from_secs(15), || is_seen(&mut server, "after"));

    std::fs::write(&path, "agent_id = 5\n").unwrap();
    signal(&agent.child, "HUP");
    wait_for("the refusal", Duration::from_secs(15), || {
        agent.log().contains("agent.toml:1: agent_id").then_some(())
    });
    let newest =
        |server: &mut Server| server.get("/v1/agents/after/latest")[0]["timestamp"].clone();
    let seen = newest(&mut server);
    wait_for("the next tick", Duration::from_secs(15), || {
        (newest(&mut server) != seen).then_some(())
    });
    assert_eq!(agent.stop().code(), Some(0), "{}", agent.log());
}

#[test]
fn a_server_keeps_its_configuration_when_the_changed_one_is_wrong() {
    let mut server = Server::start("");
    let path = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("retention_days = 0\n{text}")).unwrap();
    signal(&server.child, "HUP");
    wait_for("the refusal", Duration::from_secs(15), || {
        server.log().contains("server.toml:1: retention_days").then_some(())
    });
    std::fs::write(&path, format!("log_level = \"debug\"\n{text}")).unwrap();
    signal(&server.child, "HUP");
    wait_for("the new level", Duration::from_secs(15), || {
        let _ = server.try_call("GET", "/v1/health", None);
        server.log().contains("GET /v1/health 200").then_some(())
    });
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
}

#[test]
fn authorities_are_read_again_and_what_needs_a_restart_is_named() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("hook", "IP:127.0.0.1", 10);
    let sink = Sink::tls(&pem, &key);
    let ca = pki.dir.path().join("ca.pem");
    let mut server = Server::start("");
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": {},
               "recipients": [sink.url("/ok")]}),
    );
    let domain = json!({"domain": "127.0.0.1", "port": sink.port});
    let id = server.post("/v1/certs/domains", domain)["id"].as_str().unwrap().to_owned();
    let valid = |server: &mut Server| {
        let check = server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
        check["is_valid"].as_bool().unwrap()
    };
    let sent = |server: &mut Server| {
        server.call("POST", "/v1/notifications/channels/hook/test", None).status
    };
    assert_eq!((sent(&mut server), valid(&mut server)), (424, false));

    let path = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let trusting = format!(
        "retention_days = 9\n{text}\n[notify]\nca_file = {ca:?}\n[cert_check]\nca_file = {ca:?}\n"
    );
    std::fs::write(&path, trusting).unwrap();
    signal(&server.child, "HUP");
    wait_for("the authorities", Duration::from_secs(15), || {
        (sent(&mut server) == 200 && valid(&mut server)).then_some(())
    });
    let log = server.log();
    let line = "restart oxmon-server for the new values of retention_days";
    assert!(log.contains(&format!("{line}\n")), "{log}");

    // A file that holds none leaves everything as it was.
    std::fs::write(&ca, "nothing").unwrap();
    signal(&server.child, "HUP");
    wait_for("the refusal", Duration::from_secs(15), || {
        server
            .log()
            .contains("kept how notifications are sent as it was: notify.ca_file")
            .then_some(())
    });
    assert_eq!(sent(&mut server), 200);
}
