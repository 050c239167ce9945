//! The examples of the API reference, run as a reader would: with `sh`, `curl` and `jq`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::server::Server;
use crate::support::wait_for;

/// The shell blocks of a document, one after the other.
fn blocks(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let text = std::fs::read_to_string(&path).expect("the document");
    let parts: Vec<&str> =
        text.split("```sh\n").skip(1).filter_map(|p| p.split("```").next()).collect();
    assert!(!parts.is_empty(), "{file} has no examples");
    parts.join("\n")
}

fn run(file: &str) {
    let mut server = Server::start("[prometheus]\nagents = true\n");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value of the CPU", Duration::from_secs(20), || {
        let rows = server.call("GET", "/v1/agents/web-01/latest", None);
        rows.body.to_string().contains("cpu.usage").then_some(())
    });
    let script = blocks(file).replace("http://localhost:8080", &server.url());
    let out = Command::new("sh")
        .args(["-eu", "-c", &script])
        .current_dir(server.dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{file}: {}\n{said}\n{complaints}", out.status);
    // Each answer is printed whole, so that none of them can have failed unseen.
    let answers: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(said.split("# HELP").next().unwrap_or_default())
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|error| panic!("{file}: {error}:\n{said}")))
            .collect();
    for answer in &answers {
        assert_eq!(answer["err_code"], 0, "{file}: {answer}");
    }
    assert!(answers.len() >= 8, "{} answers: {said}", answers.len());
    let has = |what: &dyn Fn(&serde_json::Value) -> bool| answers.iter().any(what);
    assert!(has(&|answer| answer["data"][0]["metric_name"] == "cpu.usage"), "{said}");
    assert!(has(&|answer| answer["data"]["name"] == "cpu-busy"), "{said}");
    assert!(said.contains("oxmon_cpu_usage{agent=\"web-01\"} "), "{said}");
}

#[test]
fn the_examples_of_the_reference_work() {
    run("api-reference.md");
}

#[test]
fn the_examples_of_the_chinese_reference_work() {
    run("api-reference.zh-CN.md");
}
