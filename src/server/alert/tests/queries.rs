//! Rules in PromQL over a store, from their evaluation to what is notified.

use serde_json::json;

use super::*;
use crate::server::alert::backtest;
use crate::server::alert::rule::{Draft, Origin};

const RULE: &str = "[[alert.rules]]\nname = \"busy\"\ntype = \"promql\"\n\
                    expr = \"oxmon_cpu_usage > 90\"\ninterval_secs = 10\nduration_secs = 20\n";

impl Process {
    /// Evaluates what is due at a second after the start, and waits for what follows.
    fn query(&self, secs: i64) {
        self.clock.set(START + secs * 1_000);
        let alerts = &self.alerts;
        alerts.queries.round(&alerts.shared, &alerts.pool, &Stop::never());
        self.settle();
    }
}

fn values(world: &World, from: i64, values: &[f64]) {
    for (step, value) in (from..).step_by(10).zip(values) {
        world.store_only(step, *value);
    }
}

#[test]
fn an_expression_fires_for_each_series_and_recovers() {
    let world = World::new(RULE);
    let process = world.start(0);
    values(&world, 0, &[95.0, 96.0, 97.0, 98.0, 20.0]);
    world.store.add(&cpu("db"), START, 10.0);
    for secs in [0, 10, 20] {
        process.query(secs);
    }
    let fired = "cpu.usage on web is 97: oxmon_cpu_usage > 90, for 20s (rule busy)";
    assert_eq!(world.notified(), [fired]);
    let active = process.alerts.active();
    assert_eq!((active[0].value, active[0].threshold), (97.0, 90.0));
    assert_eq!((&*active[0].agent_id, &*active[0].metric_name), ("web", "cpu.usage"));
    process.alerts.stop();
    // It is known after a restart, and notified once.
    let process = world.start(30);
    process.query(30);
    assert_eq!(world.notified().len(), 1);
    process.query(40);
    let ended = "cpu.usage on web no longer matches after 40s: oxmon_cpu_usage > 90 (rule busy)";
    assert_eq!(world.notified()[1], ended);
    assert!(process.alerts.active().is_empty());
    process.alerts.stop();
    assert_eq!(world.store.history().len(), 2);
}

#[test]
fn a_failure_is_noted_and_changes_no_alert() {
    let world = World::new(&RULE.replace("duration_secs = 20\n", ""));
    let process = world.start(0);
    values(&world, 0, &[95.0]);
    process.query(0);
    assert_eq!(process.alerts.active().len(), 1);
    let id = process.alerts.active()[0].rule_id.clone();
    assert_eq!(process.alerts.queries().health(&id).unwrap().error, None);
    world.store.fail.store(true, Ordering::SeqCst);
    process.query(10);
    assert!(process.alerts.queries().health(&id).unwrap().error.is_some());
    assert_eq!(process.alerts.active().len(), 1);
}

#[test]
fn somebody_resolves_it_by_hand() {
    let world = World::new(&RULE.replace("duration_secs = 20\n", ""));
    let process = world.start(0);
    values(&world, 0, &[95.0]);
    process.query(0);
    let id = process.alerts.active()[0].id.clone();
    let act = shard::Act::Resolve { who: "kim".to_owned() };
    process.alerts.act(&id, &act).unwrap();
    process.query(10);
    assert!(process.alerts.active().is_empty(), "it stays quiet while it lasts");
    assert_eq!(world.notified().len(), 2);
}

#[test]
fn an_expression_without_agents_is_one_alert() {
    let expr = "expr = \"count(oxmon_cpu_usage > 90) >= 2\"";
    let world = World::new(&RULE.replace("expr = \"oxmon_cpu_usage > 90\"", expr).replace(
        "duration_secs = 20\n",
        "message = \"{{ $value }} hosts\"\nalert_labels = { team = \"{{ $value }}-a\" }\n",
    ));
    let process = world.start(0);
    for agent in ["a", "b", "c"] {
        world.store.add(&cpu(agent), START, 95.0);
    }
    process.query(0);
    assert_eq!(world.notified(), ["3 hosts (rule busy)"]);
    let active = &process.alerts.active()[0];
    assert_eq!((&*active.agent_id, &*active.metric_name), ("promql", "*"));
    assert_eq!(active.labels.get("team"), Some("3-a"));
}

#[test]
fn a_backtest_sees_what_a_running_server_sees() {
    let world = World::new(RULE);
    let process = world.start(0);
    values(&world, 0, &[95.0, 96.0, 97.0, 98.0, 20.0, 95.0, 95.0]);
    let rule = json!({
        "name": "busy", "type": "promql", "expr": "oxmon_cpu_usage > 90", "interval_secs": 10,
        "duration_secs": 20,
    });
    let draft = Draft::from_map(rule.as_object().unwrap()).unwrap();
    let rule = Arc::new(Rule::build("r".to_owned(), draft, Origin::Api, (0, 0)).unwrap());
    let (from, to) = (START, START + 200_000);
    let queries = process.alerts.queries();
    let found = backtest::run(&*world.store, queries, &rule, from, to).unwrap();
    let spans: Vec<_> = found
        .alerts
        .iter()
        .map(|would| (would.event.timestamp_ms - START, would.resolved_ms.map(|ms| ms - START)))
        .collect();
    // The last value is seen for five minutes.
    assert_eq!(spans, [(20_000, Some(40_000)), (70_000, None)]);
    assert_eq!((found.total, found.series), (2, 1));
    process.alerts.stop();
}
