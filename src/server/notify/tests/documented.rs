//! The examples of `docs/channels.md` are ones that the program takes.

use serde_json::Value;

use crate::server::notify::channels::ALL;
use crate::server::notify::channels::webhook::default_body;
use crate::server::notify::manage::{new_channel, new_window};
use crate::server::notify::message::Notification;

const PAGE: &str = include_str!("../../../../docs/channels.md");

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
        for field in spec.fields {
            assert!(PAGE.contains(field.name), "{} {}", spec.kind, field.name);
        }
    }
    assert_eq!(windows, 3);
}

#[test]
fn the_default_body_of_the_page_has_the_fields_of_the_real_one() {
    let page = examples();
    let shown = page.iter().find(|example| example.get("alerts").is_some()).unwrap();
    let real = default_body(&Notification::test(0, "x"));
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(shown), names(&real));
    assert_eq!(names(&shown["alerts"][0]), names(&real["alerts"][0]));
}
