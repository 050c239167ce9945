//! Mistakes in the configuration, one by one: refused with file, line and the key that was meant.

use std::process::Command;

use oxmon::base::exit::Exit;

use crate::support::{agent, server};

fn check(program: &str, text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    std::fs::write(&path, text).unwrap();
    let out = Command::new(program).arg("--check-config").arg(&path).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn the_servers_mistakes() {
    let cases = [
        ("grpc_prot = 9090", "my.toml:1:", "did you mean `grpc_port`"),
        ("\n\nhttp_port = 0", "my.toml:3:", "http_port"),
        ("retention_days = \"7\"", "my.toml:1:", "retention_days"),
        ("retention_days = 4000", "my.toml:1:", "must be 1 to 3650 days"),
        ("require_agent_auth = 1", "my.toml:1:", "require_agent_auth"),
        ("[cert_check]\ntick_secs = 0", "my.toml:2:", "cert_check.tick_secs"),
        ("[cert_chek]\ntick_secs = 1", "my.toml:1:", "did you mean `cert_check`"),
        ("data_dir = ", "my.toml:1:", "data_dir"),
        (
            "[[alert.rules]]\nname = \"x\"\ntype = \"threshold\"\nmetric = \"cpu.usage\"\n\
             operator = \"above\"\nvalue = 1.0\nduration_secs = 1",
            "my.toml:5:",
            "operator",
        ),
        (
            "[[alert.rules]]\nname = \"x\"\ntype = \"sometimes\"\nmetric = \"cpu.usage\"",
            "my.toml:3:",
            "type",
        ),
    ];
    for (text, place, words) in cases {
        let (exit, said) = check(server::program(), text);
        assert_eq!(exit, Some(Exit::Config as i32), "{text}: {said}");
        assert!(said.contains(place) && said.contains(words), "{text}: {said}");
    }
    assert_eq!(check(server::program(), "retention_days = 8").0, Some(0));
}

#[test]
fn the_agents_mistakes() {
    let cases = [
        ("agent_idd = \"a\"", "my.toml:1:", "did you mean `agent_id`"),
        ("\nbuffer_max_size = 0", "my.toml:2:", "buffer_max_size"),
        ("collection_interval_secs = 0", "my.toml:1:", "collection_interval_secs"),
        ("collection_interval_secs = \"10\"", "my.toml:1:", "collection_interval_secs"),
        ("agent_id = \"\"", "my.toml:1:", "agent_id"),
        ("server_endpoint = \"nowhere\"", "my.toml:1:", "server_endpoint"),
        ("tls = \"yes\"", "my.toml:1:", "tls"),
        ("[tls]\nca_file = \"/no/such.pem\"", "my.toml:2:", "ca_file"),
        ("log_level = \"loud\"", "my.toml:1:", "log_level"),
    ];
    for (text, place, words) in cases {
        let (exit, said) = check(agent::program(), text);
        assert_eq!(exit, Some(Exit::Config as i32), "{text}: {said}");
        assert!(said.contains(place) && said.contains(words), "{text}: {said}");
    }
    assert_eq!(check(agent::program(), "agent_id = \"a\"\ntls = false").0, Some(0));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for program in [server::program(), agent::program()] {
        let out = Command::new(program).arg("/no/such/file.toml").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(Exit::Config as i32), "{said}");
        assert!(said.contains("/no/such/file.toml"), "{said}");
    }
}
