//! Rules and alerts as people manage them.

use serde_json::{Map, Value, json};

use super::*;
use crate::model::alert::AlertStatus;
use crate::model::severity::Severity;
use crate::server::alert::manage::AlertError;
use crate::server::alert::shard::Act;

fn body(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn low_disk() -> Map<String, Value> {
    body(json!({
        "name": "low-disk", "rule_type": "threshold", "metric": "cpu.usage",
        "config_json": "{\"operator\": \"less_than\", \"value\": 5}",
    }))
}

#[test]
fn a_rule_of_the_api_is_in_force_at_once_and_outlives_the_process() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    let rule = process.alerts.create_rule(&low_disk()).unwrap();
    process.feed(0, 1.0);
    assert_eq!(world.notified(), ["cpu.usage on web is 1, under 5 (rule low-disk)"]);
    process.kill();
    let process = world.start(10);
    assert_eq!(process.alerts.rule(&rule.id).unwrap().draft, rule.draft);
    assert_eq!(process.alerts.rule("low-disk").unwrap().id, rule.id);
    assert_eq!(process.alerts.active().len(), 1);
    process.alerts.delete_rule(&rule.id).unwrap();
    let reason = "cpu.usage on web ended: the rule was deleted (rule low-disk)";
    assert_eq!(*world.notifier.ended.lock(), [reason]);
    assert!(process.alerts.active().is_empty(), "its alert ends with it");
    assert_eq!(world.notified().len(), 1, "it is not a recovery");
    assert!(matches!(process.alerts.rule("low-disk"), Err(AlertError::NotFound(..))));
}

#[test]
fn names_are_taken_once_and_the_file_is_read_only() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.alerts.create_rule(&low_disk()).unwrap();
    let conflict = |result: Result<Arc<Rule>, AlertError>| match result {
        Err(AlertError::Conflict(message)) => message,
        other => panic!("{other:?}"),
    };
    let text = conflict(process.alerts.create_rule(&low_disk()));
    assert_eq!(text, "there is a rule `low-disk` already");
    let mut same = low_disk();
    same.insert("name".into(), json!("high-cpu"));
    let text = conflict(process.alerts.create_rule(&same));
    assert_eq!(text, "there is a rule `high-cpu` already");
    let text = conflict(process.alerts.delete_rule("high-cpu"));
    assert!(text.contains("is in the server's configuration file"), "{text}");
    let change = body(json!({"severity": "info"}));
    conflict(process.alerts.update_rule("high-cpu", &change));
    let renamed = body(json!({"name": "high-cpu"}));
    conflict(process.alerts.update_rule("low-disk", &renamed));
}

#[test]
fn a_change_is_in_force_at_once_and_keeps_the_other_rules_alerts() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.alerts.create_rule(&low_disk()).unwrap();
    process.feed(0, 95.0);
    let change = body(json!({"config_json": {"operator": "less_than", "value": 99}}));
    process.alerts.update_rule("low-disk", &change).unwrap();
    process.feed(10, 96.0);
    let notified = world.notified();
    assert_eq!(notified.len(), 2, "{notified:?}");
    assert_eq!(notified[1], "cpu.usage on web is 96, under 99 (rule low-disk)");
    assert_eq!(process.alerts.active().len(), 2);
    let off = body(json!({"enabled": false}));
    process.alerts.update_rule("low-disk", &off).unwrap();
    assert_eq!(process.alerts.active().len(), 1);
}

#[test]
fn the_files_rules_are_read_again() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    let id = process.alerts.active()[0].id.clone();
    let more = format!("{}\n{}", high_cpu(0), high_cpu(0).replace("high-cpu", "second"));
    process.alerts.reload_file_rules(&config(&more)).unwrap();
    assert_eq!(process.alerts.active()[0].id, id, "the first rule's alert goes on");
    process.feed(10, 95.0);
    assert_eq!(world.notified().len(), 2);
    process.alerts.reload_file_rules(&config("")).unwrap();
    assert!(process.alerts.active().is_empty());
    assert!(process.alerts.rules().all().is_empty());
    assert_eq!(world.notified().len(), 2);
}

#[test]
fn what_people_do_about_an_alert_outlives_the_process() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    let id = process.alerts.active()[0].id.clone();
    let event = process.alerts.act(&id, &Act::Acknowledge).unwrap();
    assert_eq!(event.status, AlertStatus::Acknowledged);
    assert_eq!(world.store.history()[0].status, AlertStatus::Acknowledged);
    process.kill();
    let process = world.start(10);
    assert_eq!(process.alerts.active()[0].status, AlertStatus::Acknowledged);
    let event = process.alerts.act(&id, &Act::Resolve { who: "ann".to_owned() }).unwrap();
    assert_eq!(event.status, AlertStatus::Resolved);
    assert_eq!(world.notified()[1], "cpu.usage on web was resolved by ann (rule high-cpu)");
    process.feed(20, 95.0);
    assert!(process.alerts.active().is_empty());
    let again = process.alerts.act(&id, &Act::Acknowledge);
    assert!(matches!(again, Err(AlertError::Conflict(_))), "{again:?}");
    let again = process.alerts.act(&id, &Act::Resolve { who: "bob".to_owned() }).unwrap();
    assert_eq!((again.status, again.resolved_at_ms), (event.status, event.resolved_at_ms));
    let nothing = process.alerts.act("nothing", &Act::Acknowledge);
    assert!(matches!(nothing, Err(AlertError::NotFound(..))), "{nothing:?}");
}

#[test]
fn beginnings_are_counted_and_recoveries_are_not() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    process.feed(10, 10.0);
    process.alerts.stop();
    let counts = process.alerts.count_since(START).unwrap();
    assert_eq!(counts[1], (Severity::Warning, 1));
    assert_eq!(process.alerts.count_since(START + 5_000).unwrap()[1].1, 0);
}
