//! Documentation comments that say nothing: empty ones, ones that repeat the name, and lists of
//! errors that do not say when.

use std::collections::HashSet;

use super::{expect_none, files, read, shown};

/// `# Errors` sections that hold no condition a caller could act on.
const EMPTY_ERRORS: [&str; 12] = [
    "What SQLite says.",
    "SQLite's.",
    "What the database says.",
    "What the database said.",
    "When the database fails.",
    "When the storage fails.",
    "What the system says.",
    "When the registry has them already.",
    "When it fails.",
    "When it does not.",
    "When it can't.",
    "An error.",
];

/// Words that carry no meaning of their own in a comment of a few words.
const FILLERS: [&str; 16] = [
    "the", "a", "an", "its", "of", "this", "and", "with", "for", "in", "to", "is", "as", "it",
    "that", "one",
];

/// A documentation comment, and the line of code that it is about.
struct Doc {
    line: usize,
    text: Vec<String>,
    item: String,
}

fn docs_of(text: &str) -> Vec<Doc> {
    let mut docs: Vec<Doc> = Vec::new();
    let mut open: Option<Doc> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("///") {
            let doc =
                open.get_or_insert(Doc { line: index + 1, text: vec![], item: String::new() });
            doc.text.push(comment.trim().to_owned());
        } else if !line.starts_with("#[")
            && !line.is_empty()
            && let Some(mut doc) = open.take()
        {
            doc.item = line.to_owned();
            docs.push(doc);
        }
    }
    docs
}

/// The name of a function or a type; `None` for fields and variants, whose type says the rest.
fn name_of(item: &str) -> Option<&str> {
    let kinds = ["fn", "struct", "enum", "trait", "type"];
    let mut words = item.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.find(|word| kinds.contains(word))?;
    words.find(|word| !word.is_empty())
}

/// `RuleType` and `rule_type` as `rule`, `type`.
fn parts(name: &str) -> HashSet<String> {
    let mut spread = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            spread.push('_');
        }
        spread.extend(c.to_lowercase());
    }
    let words = spread.split('_').filter(|word| !word.is_empty());
    words.flat_map(|word| [word.to_owned(), format!("{word}s"), format!("{word}es")]).collect()
}

fn repeats(doc: &Doc) -> bool {
    let Some(name) = name_of(&doc.item) else { return false };
    let known = parts(name);
    let text = doc.text.join(" ").to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !FILLERS.contains(word)).all(|word| known.contains(word))
}

/// What a `# Errors` section says, when that is nothing.
fn empty_errors(doc: &Doc) -> Option<String> {
    let start = doc.text.iter().position(|line| line == "# Errors")?;
    let body = doc.text[start + 1..].iter().take_while(|line| !line.starts_with("# "));
    let body = body.filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    (body.is_empty() || EMPTY_ERRORS.contains(&body.as_str())).then_some(body)
}

#[test]
fn documentation_says_something() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        if !name.starts_with("src/") || name.contains("tests") {
            continue;
        }
        for doc in docs_of(&read(&path)) {
            let at = format!("{name}:{}", doc.line);
            if doc.text.iter().all(String::is_empty) {
                found.push(format!("{at}: empty"));
            } else if repeats(&doc) {
                found.push(format!("{at}: repeats the name: {}", doc.text.join(" ")));
            }
            if let Some(body) = empty_errors(&doc) {
                found.push(format!("{at}: # Errors without a condition: {body}"));
            }
        }
    }
    expect_none("documentation that says nothing", &found);
}

#[test]
fn the_documentation_test_sees_what_it_should() {
    let text = "/// A rule type.\npub struct RuleType {\n    /// The name.\n    name: u8,\n}\n\
                /// Reads it.\n///\n/// # Errors\n///\n/// SQLite's.\npub fn read() {}\n\
                /// Sessions that have expired.\n#[test]\nfn sessions() {}\n";
    let docs = docs_of(text);
    assert_eq!(docs.iter().map(repeats).collect::<Vec<_>>(), [true, false, false, false]);
    let errors: Vec<bool> = docs.iter().map(|doc| empty_errors(doc).is_some()).collect();
    assert_eq!(errors, [false, false, true, false]);
}
