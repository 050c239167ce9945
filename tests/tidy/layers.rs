//! Which room of `src/` may import which, and that no files import each other in a circle. Read
//! from `use` lines and from paths in the code; tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{expect_none, files, read, shown};

type Module = Vec<String>;

/// The code of every module, by its path: without comments and without its tests.
fn modules() -> BTreeMap<Module, (String, String)> {
    let mut found = BTreeMap::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        let Some(inner) = name.strip_prefix("src/").and_then(|name| name.strip_suffix(".rs"))
        else {
            continue;
        };
        if inner.split('/').any(|part| part == "tests" || part == "bin") {
            continue;
        }
        let inner = inner.strip_suffix("/mod").unwrap_or(inner);
        let module: Module =
            inner.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
        let text = read(&path);
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.insert(module, (name, lines.collect::<Vec<_>>().join("\n")));
    }
    found
}

/// Reads a path with its braces from the start of `text`, and gives every path in it.
fn expand(text: &str, before: &[String], out: &mut Vec<Module>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let name = rest.find(|letter: char| !is_name(letter)).unwrap_or(rest.len());
        if name > 0 {
            path.push(rest[..name].to_owned());
            at += name;
            if text[at..].starts_with("::") {
                at += 2;
                continue;
            }
        } else if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
                if at >= text.len() || text[at..].starts_with('}') {
                    return at + 1;
                }
                let read = expand(&text[at..], &path, out);
                if read == 0 {
                    return at;
                }
                at += read;
                // ` as name`, or the `*` of a glob.
                at += text[at..].find([',', '}']).unwrap_or(0);
            }
        }
        out.push(path);
        return at;
    }
}

/// The paths that a module names, from the root of the crate. Those of its own children, by which a
/// table names its rows, are left out.
fn paths(module: &Module, code: &str) -> Vec<Module> {
    let mut out = Vec::new();
    let starts = |at: usize| {
        !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter))
    };
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| starts(*at)) {
        expand(&code[at + "crate::".len()..], &[], &mut out);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| starts(*at)) {
        let (mut rest, mut base) = (&code[at..], module.clone());
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        expand(rest, &base, &mut out);
    }
    out
}

/// The files that each file imports, with each file's module.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules();
    let mut out = BTreeMap::new();
    for (module, (name, code)) in &modules {
        let mut to: BTreeSet<String> = BTreeSet::new();
        for path in paths(module, code) {
            let longest = (1..=path.len()).rev().find_map(|end| modules.get(&path[..end]));
            to.extend(longest.map(|(name, _)| name.clone()).filter(|to| to != name));
        }
        out.insert(name.clone(), to);
    }
    out
}

/// Each room with the rooms that it may import, from the bottom of the house to its top: a row
/// names only rows above it. An import that no row allows goes upward, or is new.
const ROOMS: &[(&str, &[&str])] = &[
    // Time, limits, exit codes, configuration files, metrics: they import nothing of the crate.
    ("base/", &[]),
    // What both daemons speak of: points, series, alerts, roles.
    ("model/", &["base/"]),
    // Threads, pools and the stop; nothing of what runs on them.
    ("rt/", &["base/"]),
    // The protocol: from and to the model.
    ("wire.rs", &["model/"]),
    // The agent knows nothing of the server.
    ("agent/", &["base/", "model/", "rt/", "wire.rs"]),
    // The load generator speaks the protocol, and opens no database.
    ("mock/", &["base/", "model/", "rt/", "wire.rs"]),
    // A configuration is read without what uses it.
    ("server/config/", &["base/"]),
    // Calls of servers elsewhere: proxies, authorities, addresses that are denied.
    ("server/outgoing/", &["base/", "rt/", "server/config/"]),
    // Figures of the process itself.
    ("server/process.rs", &["base/"]),
    // Points behind `Store`; it knows none of its callers.
    ("server/storage/", &["base/", "model/", "rt/", "server/config/"]),
    // The tables of cert.db; pages, lists and errors are storage's.
    ("server/control/", &["base/", "model/", "rt/", "server/config/", "server/storage/"]),
    // Samples in the text format of Prometheus.
    ("server/exposition.rs", &["server/storage/"]),
    // Clients' connections of both ports; it knows neither routes nor reports.
    ("server/gate/", &["base/", "rt/", "server/config/"]),
    // From the agents' calls to the store.
    (
        "server/ingest/",
        &[
            "base/",
            "model/",
            "rt/",
            "wire.rs",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/gate/",
        ],
    ),
    // Queries over the store, under the names that `/metrics` shows.
    ("server/promql/", &["base/", "server/storage/", "server/exposition.rs"]),
    // From remote write to the store, by ingest's rules.
    (
        "server/receive/",
        &[
            "base/",
            "model/",
            "server/config/",
            "server/storage/",
            "server/promql/",
            "server/ingest/",
        ],
    ),
    // Certificate checks store points and rows.
    (
        "server/cert/",
        &["base/", "model/", "rt/", "server/config/", "server/storage/", "server/control/"],
    ),
    // Evaluation sends through a trait of its own, not to notify.
    (
        "server/alert/",
        &[
            "base/",
            "model/",
            "rt/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/promql/",
        ],
    ),
    // Implements that trait, and reads alert's rules for its messages; units are those of the
    // agent's collectors.
    (
        "server/notify/",
        &[
            "base/",
            "model/",
            "rt/",
            "agent/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/alert/",
            "server/outgoing/",
        ],
    ),
    // An engine beyond this machine, in remote write's format, under PromQL's names.
    (
        "server/remote/",
        &[
            "base/",
            "model/",
            "rt/",
            "server/config/",
            "server/outgoing/",
            "server/storage/",
            "server/control/",
            "server/exposition.rs",
            "server/promql/",
            "server/receive/",
        ],
    ),
    // Several servers with one home: configuration passes, and calls of each other.
    (
        "server/peers/",
        &[
            "base/",
            "model/",
            "rt/",
            "server/config/",
            "server/outgoing/",
            "server/storage/",
            "server/control/",
        ],
    ),
    // Agents that move between servers: their alerts, and reads over all servers.
    (
        "server/handover/",
        &[
            "base/",
            "model/",
            "rt/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/alert/",
            "server/notify/",
            "server/remote/",
            "server/peers/",
        ],
    ),
    // The API shows every room; help texts are those of the agent's collectors.
    (
        "server/api/",
        &[
            "base/",
            "model/",
            "rt/",
            "agent/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/exposition.rs",
            "server/ingest/",
            "server/receive/",
            "server/promql/",
            "server/gate/",
            "server/cert/",
            "server/alert/",
            "server/notify/",
            "server/peers/",
            "server/remote/",
            "server/handover/",
        ],
    ),
    // Takes over the data of the first release.
    (
        "server/import/",
        &[
            "base/",
            "model/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/ingest/",
            "server/cert/",
            "server/alert/",
            "server/notify/",
        ],
    ),
    // Loads rules and channels from files.
    (
        "server/seed/",
        &[
            "base/",
            "model/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/alert/",
            "server/notify/",
            "server/import/",
            "server/promql/",
        ],
    ),
    // Sets a password while no server runs.
    (
        "server/passwd.rs",
        &[
            "base/",
            "server/config/",
            "server/storage/",
            "server/control/",
            "server/api/",
            "server/import/",
        ],
    ),
    // Tells the service manager that the parts make progress.
    (
        "server/alive.rs",
        &[
            "base/",
            "rt/",
            "server/config/",
            "server/storage/",
            "server/gate/",
            "server/ingest/",
            "server/api/",
        ],
    ),
    // Starts and stops everything.
    (
        "server/run.rs",
        &[
            "base/",
            "rt/",
            "server/config/",
            "server/process.rs",
            "server/storage/",
            "server/control/",
            "server/gate/",
            "server/ingest/",
            "server/receive/",
            "server/cert/",
            "server/alert/",
            "server/notify/",
            "server/api/",
            "server/remote/",
            "server/peers/",
            "server/handover/",
            "server/import/",
            "server/alive.rs",
        ],
    ),
    // The command line starts what there is.
    (
        "server/cli.rs",
        &[
            "base/",
            "server/config/",
            "server/storage/",
            "server/alert/",
            "server/import/",
            "server/remote/",
            "server/peers/",
            "server/seed/",
            "server/passwd.rs",
            "server/alive.rs",
            "server/run.rs",
        ],
    ),
];

fn room(file: &str) -> Option<usize> {
    let inner = file.strip_prefix("src/")?;
    ROOMS.iter().position(|(room, _)| inner.starts_with(room))
}

#[test]
fn a_room_imports_only_what_is_below_it() {
    for (row, (room, below)) in ROOMS.iter().enumerate() {
        for name in *below {
            let at = ROOMS.iter().position(|(other, _)| other == name);
            assert!(at.is_some_and(|at| at < row), "{room} may import {name}, which is not below");
        }
    }
    let mut found = BTreeSet::new();
    for (file, to) in imports() {
        let Some(from) = room(&file) else {
            let is_index = ["src/lib.rs", "src/server/mod.rs"].contains(&file.as_str());
            // The fuzzing harness is a test: it calls parsers of every room.
            if !is_index && !file.starts_with("src/fuzz/") {
                found.insert(format!("{file} belongs to no room of the table"));
            }
            continue;
        };
        for other in to {
            let Some(there) = room(&other) else { continue };
            if there != from && !ROOMS[from].1.contains(&ROOMS[there].0) {
                found.insert(format!("{file} imports {other}"));
            }
        }
    }
    expect_none("imports that no row of ROOMS allows", &found.into_iter().collect::<Vec<_>>());
}

/// Files that `from` reaches over imports.
fn reach<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for to in imports.get(file).into_iter().flatten() {
            if found.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reach(&imports, file))).collect();
    let mut found = BTreeSet::new();
    for (file, to) in &reached {
        if !to.contains(file) {
            continue;
        }
        let circle: Vec<&str> =
            to.iter().copied().filter(|other| reached[other].contains(file)).collect();
        found.insert(circle.join("\n  "));
    }
    expect_none("files that import each other", &found.into_iter().collect::<Vec<_>>());
}
