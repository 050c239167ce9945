//! A release's files have the same names where they are built, packed and installed.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::tools::{must, root};

/// What `uname -m` says on the processors that have a release, and the components of each.
const MACHINES: [(&str, &[&str]); 6] = [
    ("x86_64", &["agent", "server"]),
    ("aarch64", &["agent", "server"]),
    ("arm64", &["agent", "server"]),
    ("armv7l", &["agent"]),
    ("armv8l", &["agent"]),
    ("riscv64", &["agent"]),
];

fn script(file: &Path, text: &str) {
    std::fs::write(file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The targets for Linux that the workflow builds.
fn built() -> Vec<String> {
    let workflow = std::fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    let words = workflow.lines().filter_map(|line| line.trim().strip_prefix("- "));
    words.filter(|word| word.contains("-unknown-linux-")).map(str::to_owned).collect()
}

/// The archives that the package script makes of each target.
fn packed(targets: &[String]) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let (bin, dist) = (dir.path().join("bin"), dir.path().join("dist"));
    std::fs::create_dir(&bin).unwrap();
    for program in ["oxmon-agent", "oxmon-server"] {
        script(&bin.join(program), "");
    }
    let (bin, out) = (bin.display().to_string(), dist.display().to_string());
    for target in targets {
        must("scripts/package.sh", &[target, &out, &bin]);
    }
    let sums = std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    sums.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// What the install script says of a component on a machine, with a mirror that has nothing.
fn asked(component: &str, machine: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let answer = format!("case $1 in -m) echo {machine} ;; *) echo Linux ;; esac");
    script(&dir.path().join("uname"), &answer);
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let out = Command::new(root().join("scripts/install.sh"))
        .args([component, "--unsigned", "--base-url", &dir.path().display().to_string()])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(!out.status.success());
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn names_are_equal_in_workflow_package_script_and_install_script() {
    let targets = built();
    let script = std::fs::read_to_string(root().join("scripts/musl.sh")).unwrap();
    let line = script.lines().find(|line| line.starts_with("targets_all=(")).unwrap();
    let line = line.trim_start_matches("targets_all=(").trim_end_matches(')');
    assert_eq!(line.split(' ').collect::<Vec<_>>(), targets, "scripts/musl.sh and the workflow");

    let packed = packed(&targets);
    let mut fetched = BTreeSet::new();
    for (machine, components) in MACHINES {
        for component in ["agent", "server"] {
            let said = asked(component, machine);
            let archive = said.split_whitespace().find(|word| word.ends_with(".tar.gz"));
            match archive {
                Some(archive) => drop(fetched.insert(archive.to_owned())),
                None => assert!(said.contains("there is no server for the processor"), "{said}"),
            }
            assert_eq!(archive.is_some(), components.contains(&component), "{said}");
        }
    }
    assert_eq!(packed, fetched, "the package script's and the install script's");
}
