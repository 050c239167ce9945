#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// What a first visit may load, packed: every file that the page's start imports.
const FIRST_LOAD_BYTES_MAX: usize = 60 * 1_024;
/// What all files may weigh together, packed, in one language.
const ALL_BYTES_MAX: usize = 100 * 1_024;
/// A line of a file, in characters.
const COLUMNS_MAX: usize = 100;

fn text(path: &str) -> &'static str {
    let (_, bytes) = FILES.iter().find(|(known, _)| *known == path).unwrap();
    std::str::from_utf8(bytes).unwrap()
}

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().map(|(path, _)| *path).filter(|path| path.ends_with(".js")).map(|p| (p, text(p)))
}

/// The texts between `before` and the next quote.
fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let starts = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
    starts.map(|rest| rest.split('"').next().unwrap()).collect()
}

fn packed(path: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text(path).as_bytes()).unwrap();
    encoder.finish().unwrap().len()
}

/// The files that `path` imports, and those that they import.
fn imported(path: &str, found: &mut BTreeSet<String>) {
    if found.insert(path.to_owned()) {
        for name in quoted_after(text(path), "from \"./") {
            imported(&format!("/{name}"), found);
        }
    }
}

#[test]
fn all_that_a_file_names_is_a_row_of_the_table() {
    assert_eq!(ROUTES.len(), FILES.len());
    let has = |path: &str| ROUTES.iter().any(|route| route.path == path);
    for (path, script) in scripts() {
        for before in ["from \"./", "import(\"./"] {
            for name in quoted_after(script, before) {
                assert!(has(&format!("/{name}")), "{path} imports {name}, which is not served");
            }
        }
    }
    for before in ["href=\"", "src=\""] {
        for path in quoted_after(text("/"), before).iter().filter(|path| path.starts_with('/')) {
            assert!(has(path), "the page names {path}, which is not served");
        }
    }
}

#[test]
fn a_first_visit_loads_little_and_lines_are_short() {
    let mut first = BTreeSet::new();
    for path in ["/app.js", "/overview.js", "/lang-en.js"] {
        imported(path, &mut first);
    }
    let page = ["/", "/style.css", "/icon.svg"].iter().map(|path| packed(path)).sum::<usize>();
    let bytes = page + first.iter().map(|path| packed(path)).sum::<usize>();
    assert!(bytes <= FIRST_LOAD_BYTES_MAX, "a first visit loads {bytes} bytes");
    let other = |path: &&&str| **path != "/lang-zh.js";
    let all: usize = FILES.iter().map(|(path, _)| path).filter(other).map(|p| packed(p)).sum();
    assert!(all <= ALL_BYTES_MAX, "all files have {all} bytes");
    eprintln!("first visit: {bytes} bytes packed; all files: {all}");
    for (path, _) in FILES {
        for line in text(path).lines() {
            assert!(line.chars().count() <= COLUMNS_MAX, "{path}: over 100 columns: {line}");
        }
    }
}

#[test]
fn no_text_becomes_markup_and_nothing_comes_from_elsewhere() {
    let unwanted = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "Function(",
        "style=",
        "//cdn",
        "@import",
    ];
    for (path, _) in FILES {
        for word in unwanted {
            assert!(!text(path).contains(word), "{path} has `{word}`");
        }
    }
    assert!(!text("/").contains(" on"), "a handler in the markup");
    assert_eq!(text("/").matches("<script").count(), 1);
}

/// The texts of a language by their keys.
fn table(path: &str) -> BTreeMap<&'static str, &'static str> {
    let body = text(path).split_once("{\n").unwrap().1;
    let mut found = BTreeMap::new();
    for entry in body.split("\n  \"").map(|entry| entry.trim_start_matches("  \"")) {
        let (key, value) = entry.split_once("\":").unwrap();
        assert!(found.insert(key, value).is_none(), "{path} has {key} twice");
    }
    found
}

fn placeholders(value: &str) -> BTreeSet<&str> {
    value.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

#[test]
fn both_languages_have_every_text() {
    let (english, chinese) = (table("/lang-en.js"), table("/lang-zh.js"));
    assert!(english.len() > 100, "the tables are read");
    let keys = |table: &BTreeMap<&'static str, &str>| table.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(&english), keys(&chinese));
    for (key, value) in &english {
        assert_eq!(placeholders(value), placeholders(chinese[key]), "{key}");
    }
    for (path, script) in scripts().filter(|(path, _)| !path.starts_with("/lang-")) {
        for key in quoted_after(script, "t(\"") {
            // Only calls of `t`, and not of what ends in it.
            let call = |before: &str| script.contains(&format!("{before}t(\"{key}\""));
            let is_text = [" ", "(", "[", "{", "!", "\n"].iter().any(|before| call(before));
            assert!(!is_text || english.contains_key(key), "{path} has {key}, which has no text");
        }
    }
}

#[test]
fn the_page_knows_every_type_and_field_of_channels_and_rules() {
    let english = table("/lang-en.js");
    let has = |key: &str| assert!(english.contains_key(key), "{key} has no text");
    let (channels, rules) = (text("/channels.js"), text("/ruletypes.js"));
    for spec in crate::server::notify::channels::ALL {
        has(&format!("channel.kind.{}", spec.kind));
        has(&format!("channel.recipient.{}", spec.recipient.name()));
        for field in spec.fields {
            has(&format!("channel.field.{}", field.name));
            let kind = crate::server::api::routes::channel_types::kind_name(field.kind);
            assert!(channels.contains(&format!("\n  {kind}: {{")), "the form knows no kind {kind}");
        }
    }
    for spec in crate::server::alert::evaluate::TABLE {
        has(&format!("rule.kind.{}", spec.name));
        assert!(rules.contains(&format!("\n  {}: {{", spec.name)), "no form for {}", spec.name);
        for field in spec.fields {
            has(&format!("rule.{}", field.name));
            assert!(rules.contains(&format!("\"{}\"", field.name)), "{} {}", spec.name, field.name);
        }
    }
    for field in crate::server::alert::evaluate::COMMON {
        has(&format!("rule.{}", field.name));
        assert!(rules.contains(&format!("\"{}\"", field.name)), "{}", field.name);
    }
    // A test of the checks holds this table against what they find.
    let guide = include_str!("../../../../../docs/certificates.md");
    let kinds: Vec<&str> =
        guide.lines().filter_map(|line| line.strip_prefix("| `")?.split("` |").next()).collect();
    assert!(kinds.contains(&"self_signed") && kinds.contains(&"denied"), "{kinds:?}");
    let is_kind = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    for kind in kinds.iter().filter(is_kind) {
        has(&format!("certs.error.{kind}"));
    }
}

#[test]
fn tags_differ_when_contents_do() {
    let tags: BTreeSet<u64> = FILES.iter().map(|(_, bytes)| fnv1a(bytes)).collect();
    assert_eq!(tags.len(), FILES.len());
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value for `a`");
}
