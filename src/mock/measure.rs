//! What a running server costs, read from /proc, and what it holds, asked over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::exit::{Exit, Fatal};

/// CPU seconds (user and system) that a process has used, from /proc/PID/schedstat of its threads:
/// nanoseconds, where /proc/PID/stat counts in ticks.
pub(super) fn cpu_secs(pid: u32) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut ns = 0_u64;
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        ns += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(ns as f64 / 1e9)
}

/// Peak resident memory of a process in MB, from VmHWM of /proc/PID/status.
pub(super) fn peak_rss_mb(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024.0 / 1e6)
}

/// How many points a server holds, by its own count over HTTP.
///
/// # Errors
///
/// When it can't be asked.
pub(super) fn stored_points(base: &str, username: &str, password: &str) -> Result<u64, Fatal> {
    let failed = |what: &str| Fatal::new(Exit::Failed, format!("{base}: {what}"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
    let login = json!({"username": username, "password": password}).to_string();
    let mut reply = agent
        .post(format!("{base}/v1/auth/login"))
        .content_type("application/json")
        .send(&login)
        .map_err(|error| failed(&format!("cannot log in: {error}")))?;
    let text = reply.body_mut().read_to_string().map_err(|error| failed(&error.to_string()))?;
    let body: Value = serde_json::from_str(&text).map_err(|error| failed(&error.to_string()))?;
    let token = body["data"]["token"].as_str().ok_or_else(|| failed("no token in the answer"))?;
    let reply = agent
        .get(format!("{base}/v1/metrics?limit=1"))
        .header("Authorization", format!("Bearer {token}"))
        .call()
        .map_err(|error| failed(&format!("cannot list points: {error}")))?;
    let total = reply.headers().get("X-Total-Count").and_then(|value| value.to_str().ok());
    total.and_then(|text| text.parse().ok()).ok_or_else(|| failed("no X-Total-Count"))
}
