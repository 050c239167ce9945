//! Words that documents, messages and comments do not use, because readers know other ones for the
//! same things, and documentation comments that say nothing.

use std::path::Path;

use super::{expect_none, files, read, shown};

/// Each with what to write in its place.
const UNWANTED: [(&str, &str); 16] = [
    ("far side", "endpoint, receiver, peer, mail server"),
    ("far sides", "endpoints, receivers, peers"),
    ("told", "notified, sent"),
    ("judge", "evaluate, check"),
    ("judges", "evaluates, checks"),
    ("judged", "evaluated, checked"),
    ("judging", "evaluating, checking"),
    ("stands there", "is present"),
    ("stand there", "are present"),
    ("anew", "again"),
    ("heard of", "reported"),
    ("is over", "has ended, exceeds"),
    ("are over", "have ended, exceed"),
    ("come again", "retry later"),
    ("falls silent", "stops reporting"),
    ("gone quiet", "stale"),
];

/// Documents that are made from the sources, which have this test of their own.
const GENERATED: [&str; 5] =
    ["api-reference.md", "api-reference.zh-CN.md", "configuration.md", "limits.md", "metrics.md"];

/// Lower-case words in order; punctuation ends none but is left out.
fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'');
    split.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// What is wrong with a text, as `found: use this`.
fn unwanted(text: &str) -> Vec<String> {
    let words = words(text);
    let mut found = Vec::new();
    for (phrase, better) in UNWANTED {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        if words.windows(phrase.len()).any(|window| window.iter().eq(phrase.iter())) {
            found.push(format!("\"{}\": {better}", phrase.join(" ")));
        }
    }
    // "the port is no number", but not "there is no port" and "is no longer".
    for at in 0..words.len().saturating_sub(2) {
        let before = at.checked_sub(1).map_or("", |before| words[before].as_str());
        let fits = words[at] == "is" && words[at + 1] == "no";
        if fits && before != "there" && !["longer", "more"].contains(&words[at + 2].as_str()) {
            found.push(format!("\"is no {0}\": is not a {0}", words[at + 2]));
        }
    }
    found
}

/// A text without what stands between two marks, such as code in backquotes.
fn without(text: &str, open: char, close: char) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match inside {
            false if c == open => inside = true,
            true if c == close => inside = false,
            true => continue,
            false => out.push(c),
        }
    }
    out
}

fn report(found: &mut Vec<String>, path: &Path, line: usize, text: &str) {
    for wrong in unwanted(text) {
        found.push(format!("{}:{line}: {wrong}", shown(path)));
    }
}

#[test]
fn documents_use_plain_words() {
    let mut found = Vec::new();
    for path in files(&[".md", ".sh", ".service", ".1", ".spec", ".yml", ".toml", "Makefile"]) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if GENERATED.contains(&name) {
            continue;
        }
        for (index, line) in read(&path).lines().enumerate() {
            report(&mut found, &path, index + 1, line);
        }
    }
    expect_none("words with a plainer one for the same thing", &found);
}

#[test]
fn paths_in_the_guide_for_contributors_exist() {
    let mut found = Vec::new();
    let guide = super::root().join("CONTRIBUTING.md");
    for code in read(&guide).split('`').skip(1).step_by(2) {
        let folders = ["src/", "tests/", "docs/", "config/", "packaging/", "scripts/"];
        let is_path = folders.iter().any(|folder| code.starts_with(folder));
        if is_path && !code.contains(' ') && !super::root().join(code).exists() {
            found.push(code.to_owned());
        }
    }
    expect_none("paths in CONTRIBUTING.md that do not exist", &found);
}

#[test]
fn the_word_finder_finds_words() {
    assert_eq!(unwanted("The rule judges points anew.").len(), 2);
    assert_eq!(unwanted("the port is no number").len(), 1);
    assert!(unwanted("There is no port; it is no longer open; retold, is overdue.").is_empty());
    assert_eq!(without("a `b c` d", '`', '`'), "a  d");
}
