//! Other programs that tests lean on, and the project's own scripts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::agent;

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the programs of this build.
pub fn bin_dir() -> String {
    Path::new(agent::PROGRAM).parent().expect("a program has a folder").display().to_string()
}

/// Puts both daemons into a folder without what a debugger reads of them, as they ship.
pub fn stripped(to: &Path) -> String {
    std::fs::create_dir_all(to).expect("a folder is made");
    for program in ["oxmon-agent", "oxmon-server"] {
        let target = to.join(program).display().to_string();
        must("strip", &["-o", &target, &format!("{}/{program}", bin_dir())]);
    }
    to.display().to_string()
}

/// Runs a program in the checkout.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let out = Command::new(program)
        .args(arguments)
        .current_dir(root())
        // Packages of a test are thrown away, so they need not be small.
        .env("OXMON_FAST", "yes")
        .output();
    out.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs a program that must succeed, and gives what it said on standard output.
pub fn must(program: &str, arguments: &[&str]) -> String {
    let out = run(program, arguments);
    let (said, wrong) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {arguments:?}: {said}{wrong}");
    said.into_owned()
}

/// Whether a program is there. Where it is not, the test says that it did not run; in CI, where
/// `scripts/setup.sh test` has put everything in place, it fails.
pub fn there(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    or_excuse(found, &format!("there is no {program}"))
}

/// `found`, with a word on what did not run where it is not; fails the test in CI.
pub fn or_excuse(found: bool, why: &str) -> bool {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(found || !in_ci, "{why}: scripts/setup.sh test brings what tests need");
    if !found {
        eprintln!("not run: {why}");
    }
    found
}
