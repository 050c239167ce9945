//! SIGHUP: a changed configuration is in force without a restart, a wrong one changes nothing.

use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::server::Server;
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
