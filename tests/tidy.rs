//! House rules that a machine can keep: sizes, registrations, words that must not stand in the
//! tree, and a dependency tree without an async runtime.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/words.rs"]
mod words;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_WIDTH_MAX: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files that git knows or would take, so that build output and data are left out.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the tree");
    assert!(listed.status.success(), "git ls-files failed");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
        .map(|path| root().join(path))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no file ends with {endings:?}");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn expect_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn files_stay_small() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let lines = read(&path).lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{}: {lines} lines", shown(&path)));
        }
    }
    expect_none("files over 600 lines (look for the second subject in each)", &found);
}

#[test]
fn functions_stay_small_and_lines_short() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let text = read(&path);
        let mut open: Option<(usize, usize, String)> = None;
        for (index, line) in text.lines().enumerate() {
            let width = line.chars().count();
            if width > LINE_WIDTH_MAX && !line.contains("http") && !line.contains('"') {
                found.push(format!("{}:{}: {width} columns", shown(&path), index + 1));
            }
            let indent = line.len() - line.trim_start().len();
            let starts = line.trim_start().starts_with("fn ") || line.contains(" fn ");
            if open.is_none() && starts && line.ends_with('{') {
                open = Some((index, indent, line.trim().to_owned()));
            } else if let Some((start, at, name)) = &open
                && line.trim_end() == format!("{}}}", " ".repeat(*at))
            {
                let lines = index - start;
                if lines > FUNCTION_LINES_MAX {
                    found.push(format!("{}:{}: {lines} lines: {name}", shown(&path), start + 1));
                }
                open = None;
            }
        }
    }
    expect_none("functions over 70 lines, or lines over 100 columns", &found);
}

#[test]
fn every_module_is_registered() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        let Some(inner) = name.strip_prefix("src/") else { continue };
        if inner.starts_with("bin/") || inner == "lib.rs" {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = path.parent().unwrap_or(&path);
        let (module, parents) = if stem == "mod" {
            let module = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            (module, folder.parent().unwrap_or(folder))
        } else {
            (stem, folder)
        };
        let beside = parents.with_extension("rs");
        let candidates = [parents.join("mod.rs"), parents.join("lib.rs"), beside];
        let declared = candidates.iter().filter(|path| path.is_file()).any(|parent| {
            let text = read(parent);
            text.lines().any(|line| {
                let line = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
                line.trim_start_matches("pub(super) ") == format!("mod {module};")
            })
        });
        if !declared {
            found.push(name);
        }
    }
    expect_none("files that no `mod` line names", &found);
}

#[test]
fn nothing_is_left_undone_or_hidden() {
    let unwanted = ["TODO", "FIXME", "XXX:", "todo!(", "unimplemented!(", "dbg!("];
    let mut found = Vec::new();
    for path in files(&[".rs", ".sh", ".toml", ".proto"]) {
        if shown(&path) == "tests/tidy.rs" {
            continue;
        }
        for (index, line) in read(&path).lines().enumerate() {
            if unwanted.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", shown(&path), index + 1, line.trim()));
            }
        }
    }
    expect_none("work left undone", &found);
}

#[test]
fn threads_start_in_one_place() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        if !name.starts_with("src/") || name == "src/rt/thread.rs" || name.contains("tests") {
            continue;
        }
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in code.lines().enumerate() {
            let sleeps = line.contains("thread::sleep");
            if line.contains("std::thread::spawn")
                || line.contains("Builder::new().spawn")
                || sleeps
            {
                found.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    expect_none("threads started, or put to sleep, outside rt/", &found);
}

#[test]
fn grpcio_stays_in_its_rooms() {
    let rooms = ["src/server/ingest/", "src/agent/reporter", "src/agent/enroll", "src/wire.rs"];
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        let room = rooms.iter().any(|room| name.starts_with(room)) || name.contains("mock");
        if name.starts_with("src/") && !room && read(&path).contains("grpcio::") {
            found.push(name);
        }
    }
    expect_none("grpcio outside its rooms", &found);
}

#[test]
fn programs_are_only_arguments_and_an_exit_code() {
    for path in files(&[".rs"]) {
        if shown(&path).starts_with("src/bin/") {
            let lines = read(&path).lines().count();
            assert!(lines < 60, "{}: {lines} lines, 60 are too many", shown(&path));
        }
    }
}

fn cargo_tree(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--no-dedupe"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo tree is UTF-8")
}

fn names(tree: &str) -> Vec<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn no_dependency_is_an_async_runtime() {
    let tree = cargo_tree(&["--edges", "normal,build,dev"]);
    let runtimes = [
        "tokio",
        "async-std",
        "smol",
        "async-executor",
        "async-global-executor",
        "glommio",
        "monoio",
    ];
    let found: Vec<&str> =
        names(&tree).into_iter().filter(|name| runtimes.contains(name)).collect();
    assert!(found.is_empty(), "async runtimes in the tree: {found:?}");
    assert!(names(&tree).contains(&"grpcio"), "the tree was read");
}

#[test]
fn the_agent_stays_lean() {
    let arguments = ["--edges", "normal", "--no-default-features", "--features", "agent"];
    let tree = cargo_tree(&arguments);
    let heavy = ["rusqlite", "libsqlite3-sys", "tiny_http", "ureq", "lettre", "native-tls", "pco"];
    let found: Vec<&str> = names(&tree).into_iter().filter(|name| heavy.contains(name)).collect();
    assert!(found.is_empty(), "the agent's tree holds {found:?}");
}

/// Rows of a budget file: a figure's name and its most.
fn budgets(text: &str) -> BTreeMap<String, f64> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.filter_map(|line| line.split_once(' '));
    rows.map(|(name, most)| (name.to_owned(), most.trim().parse().expect("a number"))).collect()
}

#[test]
fn feature_sets_pull_in_no_more_crates_than_their_budget() {
    let budgets = budgets(&read(&root().join("packaging/budget.txt")));
    for feature in ["agent", "server"] {
        let tree =
            cargo_tree(&["--edges", "normal", "--no-default-features", "--features", feature]);
        let crates: HashSet<&str> = names(&tree).into_iter().collect();
        let most = budgets[&format!("{feature}_crates")];
        assert!(crates.len() as f64 <= most, "{feature}: {} crates, {most} allowed", crates.len());
    }
}

/// A figure may only rise in a commit whose message names it, and so says why.
#[test]
fn budgets_go_down_or_say_why_not() {
    let file = "packaging/budget.txt";
    let git = |arguments: &[&str]| {
        let out = Command::new("git").args(arguments).current_dir(root()).output();
        String::from_utf8_lossy(&out.expect("git runs").stdout).into_owned()
    };
    let mut found = Vec::new();
    let (mut newer, mut message) = (budgets(&read(&root().join(file))), String::new());
    for commit in git(&["log", "--no-merges", "--format=%H", "--", file]).lines() {
        let older = budgets(&git(&["show", &format!("{commit}:{file}")]));
        for (name, most) in &newer {
            if older.get(name).is_some_and(|before| most > before) && !message.contains(name) {
                found.push(format!("{name}: {most}, and {} in {commit}", older[name]));
            }
        }
        (newer, message) = (older, git(&["show", "--no-patch", "--format=%B", commit]));
    }
    expect_none("budgets that went up without a word", &found);
}

#[test]
fn the_tree_speaks_of_itself_alone() {
    // Written in halves, so that this file does not find itself.
    let unwanted = [
        concat!("/wo", "rk/"),
        concat!("crates.io-1949", "cf8c"),
        concat!("Co-Auth", "ored-By"),
        concat!("/ro", "ot/.cargo"),
    ];
    let mut found = Vec::new();
    for path in files(&[".rs", ".sh", ".toml", ".md", ".proto", ".yml", ".service", ".py"]) {
        for (index, line) in read(&path).lines().enumerate() {
            if unwanted.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", shown(&path), index + 1, line.trim()));
            }
        }
    }
    expect_none("paths and names of a machine", &found);
}

#[test]
fn the_changelog_is_open_for_the_next_version() {
    let text = read(&root().join("CHANGELOG.md"));
    assert!(text.contains("## [Unreleased]"), "CHANGELOG.md has an [Unreleased] section");
}
