//! The pages on rules, in both languages: every example in them is taken, and every type and field
//! is in them.

use serde_json::{Map, Value};

use super::*;
use crate::server::alert::evaluate::{COMMON, TABLE};
use crate::server::alert::rule::{Draft, Origin};

const PAGES: [&str; 2] = [
    include_str!("../../../../docs/alert-rules.md"),
    include_str!("../../../../docs/alert-rules.zh-CN.md"),
];

fn blocks(page: &str, language: &str) -> Vec<String> {
    let mark = format!("```{language}\n");
    let found = page.split(&mark).skip(1).filter_map(|rest| rest.split("```").next());
    found.map(str::to_owned).collect()
}

#[test]
fn every_example_is_taken() {
    for page in PAGES {
        examples_are_taken(page);
    }
}

fn examples_are_taken(page: &str) {
    let mut types = Vec::new();
    for text in blocks(page, "toml") {
        let config = ServerConfig::from_source(&Source::embedded("alert-rules.md", &text));
        let rules = ruleset::file_rules(&config.unwrap().alert.rules, 0).unwrap();
        assert!(!rules.is_empty(), "{text}");
        types.extend(rules.iter().map(|rule| rule.spec.name));
    }
    for spec in TABLE {
        assert!(types.contains(&spec.name), "no example of {}", spec.name);
    }
    let bodies = blocks(page, "json");
    assert!(bodies.len() >= 2);
    for text in bodies {
        let mut body: Map<String, Value> = serde_json::from_str(&text).unwrap();
        body.retain(|name, _| !name.starts_with("timestamp__"));
        let draft = Draft::from_map(&body).unwrap();
        Rule::build("r".to_owned(), draft, Origin::Api, (0, 0)).unwrap();
    }
}

#[test]
fn every_type_and_field_is_described() {
    for (page, spec) in PAGES.iter().flat_map(|page| TABLE.iter().map(move |spec| (page, spec))) {
        assert!(page.contains(&format!("## `{}`", spec.name)), "{}", spec.name);
        for field in spec.fields.iter().chain(COMMON) {
            let row = format!("| `{}` |", field.name);
            assert!(page.contains(&row), "{}: {}", spec.name, field.name);
        }
    }
}

#[test]
fn both_languages_have_the_same_examples() {
    let [english, chinese] = PAGES;
    for language in ["toml", "json"] {
        assert_eq!(blocks(english, language), blocks(chinese, language));
    }
}

#[test]
fn the_messages_in_them_are_those_that_are_sent() {
    let message = "cpu.usage on web-01 is 95.2, over 90 for 5m (rule high-cpu)";
    assert!(PAGES.iter().all(|page| page.contains(message)));
    let first = blocks(PAGES[0], "toml").remove(0);
    let world = World::new(&first);
    let process = world.start(0);
    process.feed_series(&cpu("web-01"), 0, 95.2);
    process.feed_series(&cpu("web-01"), 300, 95.2);
    process.settle();
    assert_eq!(world.notified(), [message]);
}
