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
    Path::new(agent::program()).parent().expect("a program has a folder").display().to_string()
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

/// The folder into which `scripts/setup.sh test` installs Python packages.
pub fn venv() -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let usual = || cache().unwrap_or_else(|| home().join(".cache")).join("oxmon/venv");
    std::env::var_os("OXMON_VENV").map_or_else(usual, PathBuf::from)
}

/// Where a program is: in the set-up's folder, or on `PATH`; `None` when it is in neither.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::iter::once(venv().join("bin"));
    let mut folders = own.chain(std::env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()))
}

/// Runs a program in the checkout.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let out = Command::new(find(program).unwrap_or_else(|| program.into()))
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
    or_excuse(find(program).is_some(), &format!("{program} is not installed"))
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
