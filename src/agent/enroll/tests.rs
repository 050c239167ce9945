//! Enrolling at a real gRPC server on loopback that knows one code.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;
use crate::wire::pb::metrics::EnrollResponse;
use crate::wire::pb::metrics_grpc::{MetricService, create_metric_service};
use grpcio::{Environment, RpcContext, Server, ServerBuilder, ServerCredentials, UnarySink};

#[derive(Clone)]
struct OneCode;

impl MetricService for OneCode {
    fn enroll(
        &mut self,
        ctx: RpcContext<'_>,
        request: EnrollRequest,
        sink: UnarySink<EnrollResponse>,
    ) {
        let mut response = EnrollResponse::new();
        response.success = request.code == "good";
        if response.success {
            response.token = format!("token-of-{}", request.agent_id);
        } else {
            response.message = "the code is not known, or was used".to_owned();
        }
        let reply = sink.success(response);
        ctx.spawn(async move {
            let _ = reply.await;
        });
    }
}

fn server() -> (Server, String) {
    let mut server = ServerBuilder::new(Arc::new(Environment::new(1)))
        .register_service(create_metric_service(OneCode))
        .build()
        .unwrap();
    let port = server.add_listening_port("127.0.0.1:0", ServerCredentials::insecure()).unwrap();
    server.start();
    (server, format!("127.0.0.1:{port}"))
}

fn options(server: &str, code: &str, config: &Path) -> Options {
    Options {
        server: server.to_owned(),
        code: code.to_owned(),
        agent_id: None,
        config: config.to_owned(),
        tls: false,
        ca_file: None,
    }
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_good_code_writes_the_token_and_keeps_the_rest() {
    let (_server, address) = server();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "# mine\nagent_id = \"web-01\"\ncollection_interval_secs = 5 # often\n")
        .unwrap();
    let said = run(&options(&address, "good", &path)).unwrap();
    assert!(said.contains("web-01") && !said.contains("token-of"), "{said}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\nagent_id = \"web-01\"\n"), "{text}");
    assert!(text.contains("collection_interval_secs = 5 # often"), "{text}");
    let config = AgentConfig::load(&path).unwrap();
    assert_eq!(config.auth_token.as_deref(), Some("token-of-web-01"));
    assert_eq!(config.server_endpoint, address);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert!([0o600, 0o640].contains(&mode), "{mode:o}");
    assert_eq!(files(dir.path()), 1, "no draft is left");
}

#[test]
fn a_first_configuration_is_made_for_the_named_id() {
    let (_server, address) = server();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let mut options = options(&address, "good", &path);
    options.agent_id = Some("edge-7".to_owned());
    run(&options).unwrap();
    let config = AgentConfig::load(&path).unwrap();
    assert_eq!(config.agent_id, "edge-7");
    assert_eq!(config.auth_token.as_deref(), Some("token-of-edge-7"));
}

#[test]
fn a_bad_code_changes_nothing() {
    let (_server, address) = server();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "agent_id = \"web-01\"\n").unwrap();
    let fatal = run(&options(&address, "bad", &path)).unwrap_err();
    assert_eq!(fatal.exit, Exit::Failed);
    assert!(fatal.message.contains("the code is not known"), "{fatal}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "agent_id = \"web-01\"\n");
    assert_eq!(files(dir.path()), 1, "no draft is left");
}

#[test]
fn mistakes_are_found_before_the_code_is_spent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "agent_idd = \"web-01\"\n").unwrap();
    let fatal = run(&options("127.0.0.1:1", "good", &path)).unwrap_err();
    assert_eq!(fatal.exit, Exit::Config);
    let named = format!("{}:", path.display());
    assert!(fatal.message.starts_with(&named), "{fatal}");
    let nowhere = dir.path().join("no/such/agent.toml");
    let fatal = run(&options("127.0.0.1:1", "good", &nowhere)).unwrap_err();
    assert_eq!(fatal.exit, Exit::Config);
    assert_eq!(files(dir.path()), 1, "no draft is left");
}

#[test]
fn owner_group_and_mode_are_kept_and_a_new_file_is_for_the_unit() {
    let root = Access { uid: 0, gid: 0, mode: 0o755 };
    let old = |gid, mode| Some(Access { uid: 0, gid, mode });
    for (existing, unit_gid, expected) in [
        (old(998, 0o640), Some(998), (998, 0o640)),
        (old(0, 0o600), Some(998), (0, 0o600)),
        (old(5, 0o660), None, (5, 0o660)),
        // The example, copied: readable by everybody until it holds a token.
        (old(0, 0o644), Some(998), (998, 0o640)),
        (old(0, 0o644), None, (0, 0o600)),
        (None, Some(998), (998, 0o640)),
        (None, None, (0, 0o600)),
    ] {
        let (gid, mode) = expected;
        assert_eq!(access_of(existing, root, unit_gid), Access { uid: 0, gid, mode });
    }
    let groups = "root:x:0:\noxmon-agents:x:9:\noxmon-agent:x:998:\n";
    assert_eq!(gid_in(groups, UNIT_GROUP), Some(998));
    assert_eq!(gid_in("broken\noxmon-agent:x", UNIT_GROUP), None);
}

#[test]
fn a_file_that_its_group_reads_still_is_after_enrolling() {
    let (_server, endpoint) = server();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "agent_id = \"web-01\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    run(&options(&endpoint, "good", &path)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}
