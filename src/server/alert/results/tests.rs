#![allow(clippy::unwrap_used)]
use super::*;
use crate::model::series::Labels;
use crate::server::alert::shard::tests::rules;
use crate::server::alert::tracked::TransitionKind;
use serde_json::{Value, json};

fn rule(config: Value) -> Value {
    json!({"name": "r", "type": "promql", "config_json": config})
}

fn key(agent: &str) -> SeriesKey {
    SeriesKey { agent: agent.into(), metric: "*".into(), labels: Labels::none() }
}

struct World {
    results: Results,
    rules: Arc<RuleSet>,
}

impl World {
    fn new(config: Value) -> Self {
        let mut world = Self { results: Results::default(), rules: rules(&[rule(config)]) };
        world.results.set_rules(world.rules.enabled());
        world
    }

    /// Takes a result at a second; gives agent and kind of each change.
    fn take(&mut self, secs: i64, series: &[(&str, f64)]) -> Vec<(String, TransitionKind)> {
        let answer = Answer {
            rule: Arc::clone(&self.rules.all()[0]),
            at_ms: secs * 1_000,
            series: series.iter().map(|(agent, value)| (key(agent), *value)).collect(),
        };
        let mut changes = Vec::new();
        let now = Now::from(secs * 1_000);
        self.results.take(&answer, now, &mut changes);
        let mut out: Vec<_> =
            changes.iter().map(|one| (one.key[1].clone(), one.transition.kind)).collect();
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }
}

fn of(agent: &str, kind: TransitionKind) -> Vec<(String, TransitionKind)> {
    vec![(agent.to_owned(), kind)]
}

#[test]
fn each_series_of_a_result_is_an_alert_until_it_is_missing() {
    let mut world = World::new(json!({"expr": "x > 1", "duration_secs": 60}));
    assert_eq!(world.take(0, &[("a", 2.0)]), of("a", TransitionKind::Kept));
    assert_eq!(
        world.take(60, &[("a", 2.0), ("b", 3.0)]),
        [("a".to_owned(), TransitionKind::Fired), ("b".to_owned(), TransitionKind::Kept),]
    );
    assert_eq!(
        world.take(120, &[("b", 3.0)]),
        [("a".to_owned(), TransitionKind::Resolved), ("b".to_owned(), TransitionKind::Fired),]
    );
    assert_eq!(world.take(180, &[]), of("b", TransitionKind::Resolved));
    // What an old result says changes nothing any more.
    assert!(world.take(170, &[("b", 3.0)]).is_empty());
    // After the repeat interval nothing of them is left.
    world.take(2_000, &[]);
    assert!(world.results.tracked["r"].is_empty());
}

#[test]
fn a_series_that_is_missing_for_less_than_it_keeps_firing_goes_on() {
    let mut world = World::new(json!({"expr": "x > 1", "keep_firing_secs": 120}));
    assert_eq!(world.take(0, &[("a", 2.0)]), of("a", TransitionKind::Fired));
    assert!(world.take(60, &[]).is_empty());
    assert!(world.take(120, &[("a", f64::NAN)]).is_empty());
    assert!(world.take(180, &[]).is_empty());
    assert_eq!(world.take(300, &[]), of("a", TransitionKind::Resolved));
}

#[test]
fn results_of_a_rule_that_was_changed_meanwhile_are_not_taken() {
    let mut world = World::new(json!({"expr": "x > 1"}));
    assert_eq!(world.take(0, &[("a", 2.0)]).len(), 1);
    let new = rules(&[rule(json!({"expr": "x > 5"}))]);
    world.results.set_rules(new.enabled());
    let mut changes = Vec::new();
    world.results.rebuild(&new, 1_000, &mut changes);
    assert!(changes.is_empty());
    assert!(world.take(60, &[]).is_empty());
    world.rules = new;
    assert_eq!(world.take(60, &[]), of("a", TransitionKind::Resolved));
}

#[test]
fn alerts_of_a_rule_that_is_gone_end() {
    let mut world = World::new(json!({"expr": "x > 1"}));
    world.take(0, &[("a", 2.0)]);
    let none = rules(&[]);
    world.results.set_rules(none.enabled());
    let mut changes = Vec::new();
    world.results.rebuild(&none, 1_000, &mut changes);
    assert_eq!(changes[0].transition.kind, TransitionKind::Ended);
    let message = &changes[0].transition.events[1].message;
    assert_eq!(message, "a ended: the rule was deleted (rule r)");
    assert!(world.results.tracked.is_empty());
}
