//! Words that documents, messages and comments do not use, because readers know other ones for the
//! same things, and documentation comments that say nothing.

use std::path::Path;

use super::{expect_none, files, read, shown};

/// Each with what to write in its place.
const UNWANTED: [(&str, &str); 14] = [
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
    ("come again", "retry later"),
    ("falls silent", "stops reporting"),
    ("gone quiet", "stale"),
];

/// After these, `over` is a preposition: "is over 90", "is over the limit".
const COUNTED: [&str; 8] = ["a", "an", "the", "its", "their", "all", "what", "bound"];

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
    // "the session is over", but not "the value is over 90".
    for at in 0..words.len().saturating_sub(1) {
        let ends = ["is", "are"].contains(&words[at].as_str()) && words[at + 1] == "over";
        let next = words.get(at + 2).map_or("", String::as_str);
        let number = next.starts_with(|c: char| c.is_ascii_digit());
        if ends && !number && !COUNTED.contains(&next) {
            found.push(format!("\"{} over\": has ended, has expired, exceeds", words[at]));
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

/// A text without what is between two marks, such as code in backquotes.
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

/// Comments and string literals of Rust code, each with its line. Code in backquotes and in
/// braces, where a string names values, is left out, and so are words that are no sentence.
fn sentences(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let raw = rest.starts_with("r\"") || rest.starts_with("r#");
        let (start, end) = if rest.starts_with("//") {
            (0, rest.find('\n').unwrap_or(rest.len()))
        } else if raw && !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            let marks = rest[1..].chars().take_while(|c| *c == '#').count();
            let close = format!("\"{}", "#".repeat(marks));
            let start = marks + 2;
            let inner = rest.get(start..).and_then(|inner| inner.find(&close)).unwrap_or(0);
            (start, start + inner + close.len())
        } else if c == '"' {
            let mut escaped = false;
            let close = rest[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            (1, close.map_or(rest.len(), |close| close + 2))
        } else if rest.starts_with("'\"'") {
            at += 3;
            continue;
        } else if let Some(escape) = rest.strip_prefix("'\\") {
            at += escape.find('\'').map_or(2, |close| close + 3).max(4);
            continue;
        } else {
            line += usize::from(c == '\n');
            at += c.len_utf8();
            continue;
        };
        let text = &rest[start..end];
        let plain = without(&without(text, '`', '`'), '{', '}').replace("\\n", " ");
        if plain.trim().contains(' ') {
            found.push((line, plain));
        }
        line += rest[..end].matches('\n').count();
        at += end;
    }
    found
}

#[test]
fn messages_and_comments_use_plain_words() {
    let mut found = Vec::new();
    for path in files(&[".rs", ".js"]) {
        let name = shown(&path);
        // This one lists the words.
        if name == "tests/tidy/words.rs" {
            continue;
        }
        for (line, text) in sentences(&read(&path)) {
            report(&mut found, &path, line, &text);
        }
    }
    expect_none("words with a plainer one for the same thing", &found);
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
    assert_eq!(unwanted("the session is over").len(), 1);
    assert!(unwanted("cpu.usage is over 90, or is over the limit").is_empty());
    assert_eq!(without("a `b c` d", '`', '`'), "a  d");
    let code = "// It judges `anew`.\nlet told = \"a \\\"b\\\" {told} c\"; let c = '\"'; // so\n";
    let texts: Vec<String> = sentences(code).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["// It judges .", "a \\\"b\\\"  c\"", "// so"]);
}
