//! A container against `podman stats`.

use super::*;
use crate::support::podman::Podman;
use crate::support::tools::{find, there};

const NAME: &str = "oxmon-truth";

/// Bytes of `344.1kB` or `67.11MB`.
fn bytes(text: &str) -> f64 {
    let digits = text.trim().trim_end_matches(char::is_alphabetic);
    let unit = match text.trim()[digits.len()..].chars().next() {
        Some('k' | 'K') => 1e3,
        Some('M') => 1e6,
        Some('G') => 1e9,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap() * unit
}

#[test]
fn a_container_is_what_podman_stats_says() {
    if !there("podman") || !there("runc") || !there("busybox") || !there("jq") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("rootfs");
    for folder in ["bin", "proc", "dev", "sys", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy(find("busybox").unwrap(), root.join("bin/sh")).unwrap();
    let podman = Podman::new(dir.path());
    let rootfs = root.display().to_string();
    let started = podman.run(&[
        "run",
        "-d",
        "--name",
        NAME,
        "--network=none",
        "--memory=64m",
        "--cpus=0.2",
        "--rootfs",
        &rootfs,
        "/bin/sh",
        "-c",
        "while :; do :; done",
    ]);
    if !started.status.success() {
        eprintln!("not run: {}", String::from_utf8_lossy(&started.stderr));
        return;
    }
    let rows = once(&format!("root = {:?}", dir.path().display().to_string()));
    let stats = podman.run(&["stats", "--no-stream", "--format", "json", NAME]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    let theirs = |name: &str| stats[0][name].as_str().unwrap().to_owned();
    let ours = |metric: &str| {
        let key = (format!("container.{metric}"), format!("container={NAME:?}"));
        *rows.get(&key).unwrap_or_else(|| panic!("no {key:?} in {rows:?}"))
    };
    let memory = theirs("mem_usage");
    let (used, limit) = memory.split_once(" / ").unwrap();
    near("memory", ours("memory"), bytes(used), 4e6);
    near("memory_limit", ours("memory_limit"), bytes(limit), 10_000.0);
    assert_eq!(ours("tasks").to_string(), theirs("pids"));
    // Podman's is the mean since the start, ours that of a second; both are held to a fifth.
    let cpu: f64 = theirs("cpu_percent").trim_end_matches('%').parse().unwrap();
    near("cpu_percent", ours("cpu_percent"), cpu, 25.0);
    assert!(ours("throttled_percent") > 0.0, "{rows:?}");
}
