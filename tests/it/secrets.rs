//! Secrets in files of their own and as credentials of the service manager.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::{signal, wait_for};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn put(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_servers_secrets_come_from_files_and_sighup_reads_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let (key, password) = (dir.path().join("key"), dir.path().join("password"));
    put(&key, &format!("{KEY}\n"), 0o600);
    put(&password, "first of all\n", 0o644);
    let server = Server::start(&format!(
        "[auth]\njwt_secret_file = {key:?}\ndefault_password_file = {password:?}\n"
    ));
    let token = server.log_in("admin", "first of all");
    let status = |token: &str| server.call_as(Some(token), "GET", "/v1/agents", None).status;
    assert_eq!(status(&token), 200);
    let shown = server.call_as(Some(&token), "GET", "/v1/system/config", None).body;
    assert_eq!(shown["data"]["settings"]["auth.jwt_secret"], "***");
    let log = server.log();
    assert!(log.contains("auth.default_password_file: ") && log.contains("by every user"), "{log}");
    assert!(!log.contains("auth.jwt_secret_file: "), "{log}");
    for secret in [KEY, "first of all"] {
        assert!(!log.contains(secret) && !shown.to_string().contains(secret));
    }
    put(&key, "another key of more than 32 bytes, really", 0o600);
    signal(&server.child, "HUP");
    wait_for("the old login's end", Duration::from_secs(10), || {
        (status(&token) == 401).then_some(())
    });
    assert_eq!(status(&server.log_in("admin", "first of all")), 200);
    // What can't be read changes nothing.
    fs::remove_file(&key).unwrap();
    let token = server.log_in("admin", "first of all");
    signal(&server.child, "HUP");
    wait_for("the reason", Duration::from_secs(10), || {
        server.log().contains("auth.jwt_secret_file: cannot read").then_some(())
    });
    assert_eq!(status(&token), 200);
}

#[test]
fn files_with_secrets_that_every_user_can_read_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pki = crate::support::pki::Pki::new();
    let (cert, key) = pki.issue("server", "IP:127.0.0.1", 10);
    let tls = format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
    let check = |program: &str, text: &str, mode: u32| {
        put(&at("my.toml"), text, mode);
        let out = Command::new(program).arg("--check-config").arg(at("my.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{said}");
        said
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let config = at("my.toml").display().to_string();
    let by_key = format!(
        "{config}:3: tls.key_file: {0} can be read by every user: chmod o-r {0}",
        key.display()
    );
    let open = |line: usize, key: &str| {
        format!(
            "warning: {config}:{line}: {key}: {config} can be read by every user: chmod o-r {config}"
        )
    };
    for (program, text, wanted) in [
        (program(), format!("[auth]\njwt_secret = \"{KEY}\"\n"), open(2, "auth.jwt_secret")),
        (
            program(),
            "[auth]\ndefault_password = \"first of all\"\n".to_owned(),
            open(2, "auth.default_password"),
        ),
        (
            program(),
            "[outgoing]\nproxy = \"http://me:secret@127.0.0.1:3128\"\n".to_owned(),
            open(2, "outgoing.proxy"),
        ),
        (
            agent::program(),
            "agent_id = \"a\"\nauth_token = \"t0ken\"\n".to_owned(),
            open(2, "auth_token"),
        ),
        (program(), tls.clone(), by_key.clone()),
        (agent::program(), tls.clone(), by_key),
    ] {
        let said = check(program, &text, 0o644);
        assert!(said.contains(&wanted), "{text}: {said}");
        assert!(!said.contains(KEY) && !said.contains("me:secret"), "{said}");
        // A group is chosen, and so is what a file without a secret is.
        if !text.contains("[tls]") {
            assert_eq!(check(program, &text, 0o640), "", "{text}");
        }
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    for (program, text) in [
        (program(), tls.as_str()),
        (agent::program(), &tls),
        (program(), "[outgoing]\nproxy = \"http://127.0.0.1:3128\"\n"),
        (agent::program(), "agent_id = \"a\"\n"),
    ] {
        assert_eq!(check(program, text, 0o644), "", "{text}");
    }
}

#[test]
fn a_warning_of_an_open_file_comes_at_the_start_too_and_need_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("my.toml");
    let server = Server::start(&format!("[auth]\njwt_secret = \"{KEY}\"\n"));
    let mode = fs::metadata(server.dir.path().join("server.toml")).unwrap().permissions().mode();
    let said = server.log().contains(": auth.jwt_secret: ");
    assert_eq!(said, mode & 0o004 != 0, "{mode:o}: {}", server.log());
    put(&config, &format!("[auth]\njwt_secret = \"{KEY}\"\n"), 0o644);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        Command::new(program()).arg("--check-config").arg(&config).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_server_takes_credentials_of_the_service_manager() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("default_password"), "a credential\n", 0o400);
    put(&dir.path().join("jwt_secret"), KEY, 0o400);
    let folder = format!("CREDENTIALS_DIRECTORY={}", dir.path().display());
    let server = Server::start_under(&["env".to_owned(), folder], "");
    let token = server.log_in("admin", "a credential");
    assert_eq!(server.call_as(Some(&token), "GET", "/v1/agents", None).status, 200);
    // A key beside its file is a mistake.
    let config = dir.path().join("both.toml");
    let key = dir.path().join("jwt_secret");
    fs::write(&config, format!("[auth]\njwt_secret = \"{KEY}\"\njwt_secret_file = {key:?}\n"))
        .unwrap();
    let out = Command::new(program()).arg("--check-config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains(":3: auth.jwt_secret_file: needs no auth.jwt_secret"), "{said}");
}

#[test]
fn an_agents_credential_is_read_again_at_sighup() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("auth_token");
    put(&credential, "a-token-of-yesterday", 0o400);
    let config = dir.path().join("agent.toml");
    let text = format!(
        "agent_id = \"web-01\"\nserver_endpoint = \"127.0.0.1:{}\"\ncollection_interval_secs = 1\n",
        server.grpc_port
    );
    fs::write(&config, text).unwrap();
    let log = dir.path().join("agent.log");
    let mut child = Command::new(agent::program())
        .arg(&config)
        .env("CREDENTIALS_DIRECTORY", dir.path())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_for("the refusal", Duration::from_secs(20), || {
        fs::read_to_string(&log).unwrap().contains("token").then_some(())
    });
    fs::remove_file(&credential).unwrap();
    put(&credential, made["token"].as_str().unwrap(), 0o400);
    signal(&child, "HUP");
    wait_for("a report", Duration::from_secs(40), || {
        let answer = server.call("GET", "/v1/agents/web-01/latest", None);
        (answer.status == 200).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_seed_names_files_for_its_secrets() {
    let mut server = Server::start("");
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("smtp");
    put(&secret, "pass-w0rd\n", 0o600);
    let seed = dir.path().join("seed.json");
    let channel = json!({"name": "m", "channel_type": "email", "recipients": ["a@example.com"],
        "config": {"smtp_host": "mail.example.com", "smtp_port": 587, "from_name": "o",
            "from_email": "a@example.com", "smtp_username": "u", "smtp_password_file": secret}});
    fs::write(&seed, json!({"channels": [channel]}).to_string()).unwrap();
    let out = Command::new(program())
        .arg("init-channels")
        .arg(server.dir.path().join("server.toml"))
        .arg(&seed)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let stored = crate::support::sql::csv(
        &server.data(),
        "SELECT json_extract(config_json, '$.smtp_password') AS p FROM notification_channels",
    );
    assert_eq!(stored, "p\npass-w0rd\n");
    let shown = server.get("/v1/notifications/channels/config");
    assert!(!shown.to_string().contains("pass-w0rd"), "{shown}");
}

#[test]
fn an_unbound_code_takes_over_no_agent_and_redeeming_is_in_the_audit_log() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let token = made["token"].as_str().unwrap().to_owned();
    let enroll = |server: &Server, code: &str, agent_id: &str| {
        let dir = tempfile::tempdir().unwrap();
        let out = Command::new(agent::program())
            .args(["enroll", "--server", &format!("127.0.0.1:{}", server.grpc_port)])
            .args(["--code", code, "--agent-id", agent_id, "--config"])
            .arg(dir.path().join("agent.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.success(), said)
    };
    let works = |server: &Server| {
        let bearer = format!("Bearer {token}");
        let metadata = [("authorization", bearer.as_str()), ("agent-id", "web-01")];
        let sent = batch("web-01", now_ms(), &[("a", 1.0)]);
        Client::to(server.grpc_port).report_with(&sent, &metadata).is_ok()
    };
    let open = server.post("/v1/agents/enroll-codes", json!({}));
    let code = open["code"].as_str().unwrap();
    let (taken, said) = enroll(&server, code, "web-01");
    assert!(!taken && said.contains("only adds new agents"), "{said}");
    assert!(works(&server), "the agent's token still works");
    // The id of a row is never an agent's id.
    let row = made["id"].as_str().unwrap();
    let (taken, said) = enroll(&server, code, row);
    assert!(taken, "the code is still good, for a new agent: {said}");
    assert!(works(&server), "the agent's token still works");
    let audit = server.get("/v1/audit?action__contains=Enroll");
    assert_eq!(audit.as_array().unwrap().len(), 1, "{audit}");
    let entry = &audit[0];
    assert_eq!((&entry["username"], &entry["target"]), (&json!("admin"), &json!(row)));
    assert_eq!(entry["address"], "127.0.0.1", "the client's, which the gate knows: {entry}");
    let bound = server.post("/v1/agents/enroll-codes", json!({"agent_id": "web-01"}));
    let (taken, said) = enroll(&server, bound["code"].as_str().unwrap(), "web-01");
    assert!(taken, "{said}");
    assert!(!works(&server), "its token was replaced");
    assert_eq!(server.get("/v1/audit?action__contains=Enroll")[0]["target"], "web-01");
}
