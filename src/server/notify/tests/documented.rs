//! The examples of `docs/channels.md` are ones that the program takes, and both languages of the
//! page describe every type and field.

use std::time::Duration;

use serde_json::Value;

use crate::server::config::Outgoing;
use crate::server::notify::channels::config::Config;
use crate::server::notify::channels::json::document;
use crate::server::notify::channels::webhook::default_body;
use crate::server::notify::channels::{ALL, Sending};
use crate::server::notify::client::Client;
use crate::server::notify::lang::Language;
use crate::server::notify::manage::{new_channel, new_window};
use crate::server::notify::message::Notification;
use crate::server::notify::voice::Voice;

const PAGE: &str = include_str!("../../../../docs/channels.md");
const CHINESE: &str = include_str!("../../../../docs/channels.zh-CN.md");

fn examples() -> Vec<Value> {
    let blocks = PAGE.split("```json\n").skip(1);
    blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap()).collect()
}

#[test]
fn every_example_of_the_page_is_taken() {
    let mut kinds = Vec::new();
    let mut windows = 0;
    for example in examples() {
        if example.get("channel_type").is_some() {
            let row = new_channel(serde_json::from_value(example).unwrap(), 0).unwrap();
            kinds.push(row.channel_type);
        } else if example.get("start_time").is_some() {
            let input = serde_json::from_value(example).unwrap();
            new_window(input, &jiff::tz::TimeZone::UTC, 0).unwrap();
            windows += 1;
        }
    }
    for spec in ALL {
        assert!(kinds.iter().any(|kind| kind == spec.kind), "no example of {}", spec.kind);
    }
    assert_eq!(windows, 3);
}

#[test]
fn both_languages_describe_every_type_and_field_with_the_same_examples() {
    for (language, page) in [("en", PAGE), ("zh-CN", CHINESE)] {
        for spec in ALL {
            let heading = format!("\n## {}\n", spec.kind);
            let section = page.split_once(heading.as_str());
            let (_, section) = section.unwrap_or_else(|| panic!("{language}: {}", spec.kind));
            let section = section.split("\n## ").next().unwrap();
            for field in spec.fields.iter().filter(|field| field.name != "language") {
                let row = |line: &&str| {
                    line.starts_with("| `") && line.contains(&format!("`{}`", field.name))
                };
                let described = section.lines().any(|line| row(&line));
                assert!(described, "{language}: {} {}", spec.kind, field.name);
            }
        }
        assert!(page.contains("\n| `language` |"), "{language}");
        let headings = page.lines().filter(|line| line.starts_with("## ")).count();
        assert_eq!(headings, PAGE.lines().filter(|line| line.starts_with("## ")).count());
        let blocks = |page: &'static str| page.split("```").skip(1).step_by(2).collect::<Vec<_>>();
        assert_eq!(blocks(page), blocks(PAGE), "{language}");
    }
}

#[test]
fn the_default_body_of_the_page_has_the_fields_of_the_real_one() {
    let page = examples();
    let shown = page.iter().find(|example| example.get("alert_id").is_some()).unwrap();
    let real = default_body(&Notification::test(0, "x"));
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(shown), names(&real));
    assert_eq!(names(&shown["alerts"][0]), names(&real["alerts"][0]));
    let shown = page.iter().find(|example| example.get("version").is_some()).unwrap();
    let notification = Notification::test(0, "x");
    let config = Config::new();
    let client =
        Client::new(Duration::from_secs(1), None, &Outgoing::default(), Default::default())
            .unwrap();
    let zone = jiff::tz::TimeZone::UTC;
    let sending = Sending {
        config: &config,
        notification: &notification,
        voice: Voice { words: Language::En.words(), zone: &zone, public_url: None },
        client: &client,
        now_ms: 0,
    };
    let real = document(&sending);
    assert_eq!(names(shown), names(&real));
    assert_eq!(names(&shown["alerts"][0]), names(&real["alerts"][0]));
}
