#![allow(clippy::unwrap_used)]
use super::*;
use crate::server::alert::shard::tests::rules;
use serde_json::json;

fn times(schedule: &mut Schedule, rules: &RuleSet, now_ms: i64) -> Vec<(String, i64)> {
    let due = schedule.due(rules, now_ms);
    due.iter().map(|(rule, at_ms)| (rule.id.clone(), *at_ms)).collect()
}

#[test]
fn rules_are_due_at_the_multiples_of_their_interval() {
    let rule = |name: &str, interval: u64, expr: &str| json!({"name": name, "type": "promql", "expr": expr, "interval_secs": interval});
    let set = rules(&[rule("a", 10, "x"), rule("b", 60, "x")]);
    let mut schedule = Schedule::new(None, 5_000);
    let at = |name: &str, ms: i64| (name.to_owned(), ms);
    assert_eq!(times(&mut schedule, &set, 5_000), [at("a", 5_000), at("b", 5_000)]);
    assert!(times(&mut schedule, &set, 9_999).is_empty());
    assert_eq!(times(&mut schedule, &set, 10_400), [at("a", 10_000)]);
    assert!(times(&mut schedule, &set, 19_000).is_empty());
    // What a slow evaluation missed is not made up for.
    assert_eq!(times(&mut schedule, &set, 61_000), [at("a", 60_000), at("b", 60_000)]);
    // A rule that was changed is evaluated at once.
    let set = rules(&[rule("a", 10, "y"), rule("b", 60, "x")]);
    assert_eq!(times(&mut schedule, &set, 62_000), [at("a", 62_000)]);
    // The clock was put back.
    assert_eq!(times(&mut schedule, &set, 3_000), [at("a", 0),]);
}

#[test]
fn after_a_long_stop_agents_get_time_to_report_again() {
    let set = rules(&[json!({"name": "a", "type": "promql", "expr": "x"})]);
    let mut schedule = Schedule::new(Some(0), 600_000);
    assert!(times(&mut schedule, &set, 659_000).is_empty());
    assert_eq!(times(&mut schedule, &set, 660_000).len(), 1);
    let mut schedule = Schedule::new(Some(590_000), 600_000);
    assert_eq!(times(&mut schedule, &set, 600_000).len(), 1);
}
