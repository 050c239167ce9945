//! What rules would have done over stored history.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::server::alert::backtest::{self, Found};
use crate::server::alert::rule::{Draft, Origin};

fn run(store: &MemStore, rule: Value, from_secs: i64, to_secs: i64) -> Found {
    let draft = Draft::from_map(rule.as_object().unwrap()).unwrap();
    let rule = Rule::build("r".to_owned(), draft, Origin::Api, (0, 0)).unwrap();
    let at = |secs: i64| START + secs * 1_000;
    backtest::run(store, &queries(), &Arc::new(rule), at(from_secs), at(to_secs)).unwrap()
}

fn queries() -> Queries {
    let registry = prometheus::Registry::new();
    Queries::new(Arc::new(MemStore::default()), &registry, "agent", Schedule::default())
}

fn spans(found: &Found) -> Vec<(i64, Option<i64>, bool)> {
    let secs = |at_ms: i64| (at_ms - START) / 1_000;
    let each = found
        .alerts
        .iter()
        .map(|would| (secs(would.event.timestamp_ms), would.resolved_ms.map(secs), would.notified));
    each.collect()
}

fn high(duration_secs: u64, silence_secs: u64) -> Value {
    json!({
        "name": "t", "type": "threshold", "metric": "cpu.usage", "operator": "greater_than",
        "value": 90, "duration_secs": duration_secs, "silence_secs": silence_secs,
    })
}

#[test]
fn a_backtest_that_takes_too_long_is_given_up() {
    let store = MemStore::default();
    for index in 0..10 {
        store.add(&cpu("web"), START + index * 10_000, 95.0);
    }
    let draft = Draft::from_map(high(20, 600).as_object().unwrap()).unwrap();
    let rule = Arc::new(Rule::build("r".to_owned(), draft, Origin::Api, (0, 0)).unwrap());
    let time = (START, START + 100_000);
    let run = |within| backtest::run_within(&store, &queries(), &rule, time, within);
    let outcome = run(Duration::ZERO);
    assert!(outcome.unwrap_err().to_string().contains("takes more than 0 s"));
    assert!(run(Duration::from_secs(60)).is_ok());
}

#[test]
fn it_says_what_would_have_fired_and_for_how_long() {
    let store = MemStore::default();
    let values = [10.0, 95.0, 95.0, 95.0, 10.0, 95.0, 95.0, 95.0, 95.0];
    for (index, value) in values.into_iter().enumerate() {
        store.add(&cpu("web"), START + index as i64 * 10_000, value);
        store.add(&cpu("db"), START + index as i64 * 10_000, 50.0);
    }
    let found = run(&store, high(20, 600), 0, 80);
    assert_eq!(spans(&found), [(30, Some(40), true), (70, None, false)]);
    assert_eq!((found.total, found.series, found.points), (2, 2, 18));
    let found = run(&store, high(20, 10), 0, 80);
    assert_eq!(spans(&found), [(30, Some(40), true), (70, None, true)]);
    let found = run(&store, high(20, 10), 50, 80);
    assert_eq!(spans(&found), [(70, None, true)], "what fired before is left out");
}

#[test]
fn a_window_reaches_back_before_the_time() {
    let store = MemStore::default();
    store.add(&cpu("web"), START, 20.0);
    store.add(&cpu("web"), START + 100_000, 40.0);
    let rule = json!({
        "name": "t", "type": "rate_of_change", "metric": "cpu.usage",
        "rate_threshold": 50, "window_secs": 300,
    });
    assert_eq!(spans(&run(&store, rule, 90, 200)), [(100, None, true)]);
}

#[test]
fn silence_is_found_between_points_and_at_the_end() {
    let store = MemStore::default();
    for secs in [0, 10, 20, 200, 210, 300] {
        store.add(&cpu("web"), START + secs * 1_000, 1.0);
    }
    for metric in ["*", "cpu.usage"] {
        let rule = json!({
            "name": "t", "type": "no_data", "metric": metric, "duration_secs": 60,
            "silence_secs": 0,
        });
        let found = run(&store, rule, 0, 1_000);
        let expected = [(80, Some(200), true), (270, Some(300), true), (360, None, true)];
        assert_eq!(spans(&found), expected, "{metric}");
    }
}

#[test]
fn nothing_is_stored_or_told() {
    let world = World::new("");
    let process = world.start(0);
    world.store_only(0, 95.0);
    assert_eq!(run(&world.store, high(0, 600), 0, 10).total, 1);
    assert!(process.alerts.active().is_empty());
    process.alerts.stop();
    assert!(world.notified().is_empty() && world.store.history().is_empty());
}
