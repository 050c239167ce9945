//! What a running agent costs, as far as a test build can show it, and that a static one works.

use std::process::Command;

use crate::support::agent::Agent;
use crate::support::server::{self, Server};
use crate::support::tools::{must, or_excuse, root, there};

#[test]
fn a_static_agent_works_where_there_is_nothing_else() {
    // scripts/test.sh builds one, where the distribution has the archives to link.
    let dir = std::env::var("OXMON_STATIC_DIR").unwrap_or_default();
    if !or_excuse(!dir.is_empty(), "OXMON_STATIC_DIR names no folder with a static agent") {
        return;
    }
    let said = must("scripts/static-check.sh", &[&dir, server::program()]);
    assert!(said.contains("is refused") && said.contains("reports arrived"), "{said}");
}

/// A row of `packaging/budget.txt`.
fn budget(name: &str) -> f64 {
    let text = std::fs::read_to_string(root().join("packaging/budget.txt")).unwrap();
    let row = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    row.trim().parse().unwrap()
}

#[test]
fn a_collection_makes_no_more_system_calls_than_its_budget() {
    if !there("strace") {
        return;
    }
    const TICKS: u32 = 10;
    let mut server = Server::start("");
    let agent = Agent::start("counted", server.grpc_port, "");
    crate::support::wait_for("reports", std::time::Duration::from_secs(60), || {
        let latest = server.call("GET", "/v1/agents/counted/latest", None);
        (latest.status == 200).then_some(())
    });
    let summary = agent.dir.path().join("calls");
    let trace = Command::new("timeout")
        .args(["--signal=INT", &TICKS.to_string(), "strace", "-f", "-c", "-o"])
        .arg(&summary)
        .args(["-p", &agent.child.id().to_string()])
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&summary).unwrap_or_default();
    // The last line: time, seconds, microseconds a call, calls, perhaps errors, `total`.
    let total = text.lines().last().and_then(|line| line.split_whitespace().nth(3));
    let total: f64 = total
        .and_then(|calls| calls.parse().ok())
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&trace.stderr)));
    let per_tick = total / f64::from(TICKS);
    assert!(per_tick > 5.0, "the agent stood still: {text}");
    let most = budget("agent_syscalls_per_collection_at_1s");
    assert!(
        per_tick <= most,
        "{per_tick} system calls a collection, {most} are the budget:\n{text}"
    );
}
