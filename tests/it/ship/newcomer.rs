//! `scripts/newcomer.sh`: what somebody new does, step by step, against the built programs.

use std::process::Command;

use crate::support::tools::{bin_dir, root};

#[test]
fn somebody_new_gets_from_nothing_to_an_alert_and_its_recovery_within_five_minutes() {
    let out = Command::new("bash")
        .arg("scripts/newcomer.sh")
        .current_dir(root())
        .env("OXMON_BIN_DIR", bin_dir())
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&out.stdout);
    eprintln!("{said}");
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    // Each step is printed with its seconds, and the script itself holds the five minutes.
    for step in [
        "an empty folder",
        "with the stock rules",
        "a webhook and a mail channel, each tested",
        "web-02 joined with that line and reports",
        "web-03 was installed by the script and reports",
        "received: \"message\":",
        "from nothing to the first alert and its recovery in",
    ] {
        assert!(said.contains(step), "no step `{step}` in:\n{said}");
    }
    let steps = said.lines().filter(|line| line.contains(" s  ")).count();
    assert!(steps >= 9, "{said}");
}
