//! `scripts/mock-*.sh`, as somebody runs them who tries oxmon out.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::server::Server;
use crate::support::tools::{bin_dir, root};
use crate::support::wait_for;

/// One rule of each type, as `config/server.example.toml` shows them.
const RULES: &str = "
[[alert.rules]]
name = \"high-cpu\"
type = \"threshold\"
metric = \"cpu.usage\"
operator = \"greater_than\"
value = 90.0
duration_secs = 300
severity = \"critical\"
[[alert.rules]]
name = \"memory-spike\"
type = \"rate_of_change\"
metric = \"memory.used_percent\"
rate_threshold = 20.0
window_secs = 300
severity = \"warning\"
[[alert.rules]]
name = \"disk-full-prediction\"
type = \"trend_prediction\"
metric = \"disk.used_percent\"
predict_threshold = 95.0
horizon_secs = 86400
min_data_points = 10
severity = \"info\"
[[alert.rules]]
name = \"cert-expiry\"
type = \"cert_expiration\"
metric = \"certificate.days_until_expiry\"
agent_pattern = \"cert-checker\"
severity = \"critical\"
warning_days = 30
critical_days = 7
";

/// What each scenario fires: the agent and the rule's type.
const FIRES: [(&str, &str, &str); 4] = [
    ("threshold", "mock-threshold", "high-cpu"),
    ("rate", "mock-rate", "memory-spike"),
    ("trend", "mock-trend", "disk-full-prediction"),
    ("cert", "cert-checker", "cert-expiry"),
];

fn script(name: &str, arguments: &[&str]) -> Output {
    Command::new(root().join("scripts").join(name))
        .args(arguments)
        .env("OXMON_MOCK", format!("{}/oxmon-mock", bin_dir()))
        .output()
        .unwrap()
}

fn must(name: &str, arguments: &[&str]) -> String {
    let out = script(name, arguments);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {arguments:?}: {said}{wrong}");
    said
}

/// Agent and rule of every alert that has fired.
fn fired(server: &mut Server) -> BTreeSet<(String, String)> {
    let events = server.get("/v1/alerts/history?limit=1000");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let events = events.as_array().unwrap().iter();
    events.map(|event| (text(&event["agent_id"]), text(&event["rule_name"]))).collect()
}

#[test]
fn each_scenario_fires_what_it_is_named_for_and_nothing_else() {
    let mut server = Server::start(RULES);
    let grpc = format!("127.0.0.1:{}", server.grpc_port);
    let said = must(
        "mock-report-all.sh",
        &["--scenario", "baseline", "--agent-count", "3", "--print-payload", "--server", &grpc],
    );
    assert!(said.contains("baseline: 183 batches") && said.contains("mock-normal-03"), "{said}");
    let mut expected = BTreeSet::new();
    for (scenario, agent, rule) in FIRES {
        must("mock-report-all.sh", &["--scenario", scenario, "--server", &grpc]);
        expected.insert((agent.to_owned(), rule.to_owned()));
        wait_for(&format!("the alert of {scenario}"), Duration::from_secs(30), || {
            (fired(&mut server) == expected).then_some(())
        });
    }
}

#[test]
fn the_whole_round_works_with_and_without_agent_tokens() {
    for auth in [false, true] {
        let server = Server::start(&format!("require_agent_auth = {auth}\n{RULES}"));
        let (grpc, http) = (format!("127.0.0.1:{}", server.grpc_port), server.url());
        let mut arguments = vec!["--server", &grpc, "--base-url", &http];
        if auth {
            let out = script("mock-report-all.sh", &["--server", &grpc]);
            assert!(!out.status.success(), "a server that asks for tokens took reports without");
            arguments.extend(["--auto-auth", "--username", "admin", "--password", "changeme"]);
        }
        arguments.push("--expect-alerts");
        let said = must("mock-e2e.sh", &arguments);
        assert!(said.contains("all there"), "{said}");
        // Again: the agents are on the whitelist already.
        assert!(must("mock-e2e.sh", &arguments).contains("all there"));
    }
}

#[test]
fn what_is_missing_is_named_and_fails() {
    let server = Server::start("");
    let (grpc, http) = (format!("127.0.0.1:{}", server.grpc_port), server.url());
    must("mock-report-all.sh", &["--scenario", "threshold", "--server", &grpc]);
    let shown = ["--base-url", &http, "--summary-agent", "mock-threshold"];
    let said = must("mock-query-check.sh", &[&shown[..], &["--verbose"]].concat());
    assert!(said.contains("\"data\""), "{said}");
    let missing = [&shown[..], &["--summary-metric", "no.such"]].concat();
    let out = script("mock-query-check.sh", &missing);
    let said = String::from_utf8_lossy(&out.stdout);
    let line = said.lines().find(|line| line.starts_with("summary")).unwrap();
    assert!(!out.status.success() && line.ends_with("MISSING"), "{said}");
    let out = script("mock-query-check.sh", &["--base-url", &http, "--password", "wrong"]);
    assert!(!out.status.success());
    let out = script("mock-report-all.sh", &["--scenario", "some", "--server", &grpc]);
    assert_eq!(out.status.code(), Some(2), "{}", String::from_utf8_lossy(&out.stderr));
}
