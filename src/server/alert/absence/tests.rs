#![allow(clippy::unwrap_used)]
use super::*;
use crate::server::alert::shard::Shard;
use crate::server::alert::shard::tests::{Stored, each, rules};
use crate::server::alert::tracked::TransitionKind;
use crate::server::storage::Series;
use serde_json::{Value, json};

fn gone(metric: &str) -> Value {
    json!({"name": "gone", "type": "no_data", "metric": metric, "duration_secs": 60})
}

fn cpu(number: u32, at_ms: i64) -> Stored {
    let key = SeriesKey { agent: "web".into(), metric: "cpu.usage".into(), labels: Labels::none() };
    Stored {
        series: Arc::new(Series { number, metric_number: 0, key }),
        sample: Sample { at_ms, value: 1.0 },
    }
}

fn happened(shard: &mut Shard) -> Vec<(String, TransitionKind)> {
    let changes = shard.take_changes().into_iter();
    changes.map(|change| (change.key[1].clone(), change.transition.kind)).collect()
}

#[test]
fn an_agent_that_stops_is_missed_once_and_welcomed_back() {
    let mut shard = Shard::new(rules(&[gone("*")]));
    shard.points("web", each(&[cpu(0, 0)]), 0);
    for now in (0..60_000).step_by(1_000) {
        shard.tick(now);
    }
    assert!(happened(&mut shard).is_empty());
    for now in (60_000..120_000).step_by(1_000) {
        shard.tick(now);
    }
    let changes = shard.take_changes();
    assert_eq!(changes.len(), 1);
    let (event, _) = changes[0].transition.notification.as_ref().unwrap();
    assert_eq!(event.message, "web has not reported for 1m, over 1m (rule gone)");
    assert_eq!((event.first_triggered_at_ms, event.timestamp_ms), (0, 60_000));
    // A late point is a sign of life as any other.
    shard.points("web", each(&[cpu(0, 500)]), 130_000);
    let changes = shard.take_changes();
    assert_eq!(changes[0].transition.kind, TransitionKind::Resolved);
    let (event, _) = changes[0].transition.notification.as_ref().unwrap();
    assert_eq!(event.message, "web reports again after 2m 10s (rule gone)");
}

#[test]
fn a_metric_can_fall_silent_while_its_agent_speaks() {
    let mut shard = Shard::new(rules(&[gone("cpu.usage")]));
    shard.points("web", each(&[cpu(0, 0)]), 0);
    for now in (0..90_000).step_by(1_000) {
        shard.points("web", each(&[]), now);
        shard.tick(now);
    }
    assert_eq!(happened(&mut shard), [("web".to_owned(), TransitionKind::Fired)]);
    shard.points("web", each(&[cpu(0, 90_000)]), 90_000);
    assert_eq!(happened(&mut shard), [("web".to_owned(), TransitionKind::Resolved)]);
}

#[test]
fn who_never_comes_back_after_a_start_is_missed_after_a_grace() {
    let mut shard = Shard::new(rules(&[gone("*")]));
    let agents = [("dead".to_owned(), -500_000), ("alive".to_owned(), -500)];
    shard.start(&agents, &Warm::default(), 0);
    shard.tick(59_000);
    assert!(happened(&mut shard).is_empty());
    shard.tick(60_000);
    assert_eq!(
        happened(&mut shard),
        [("dead".to_owned(), TransitionKind::Fired), ("alive".to_owned(), TransitionKind::Fired)]
    );
    let long = json!({"name": "gone", "type": "no_data", "metric": "*", "duration_secs": 3_600});
    let mut shard = Shard::new(rules(&[long]));
    shard.start(&[("dead".to_owned(), -9_000_000)], &Warm::default(), 0);
    shard.tick(GRACE_MS_MAX - 1);
    assert!(happened(&mut shard).is_empty());
    shard.tick(GRACE_MS_MAX);
    assert_eq!(happened(&mut shard).len(), 1);
}

#[test]
fn a_silence_that_fires_is_restored_and_ends() {
    let mut first = Shard::new(rules(&[gone("*")]));
    first.points("web", each(&[cpu(0, 0)]), 0);
    first.tick(70_000);
    let row = first.take_changes().remove(0).row.unwrap();
    let mut second = Shard::new(rules(&[gone("*")]));
    second.start(&[("web".to_owned(), 0)], &Warm::default(), 100_000);
    second.restore(&row, 100_000);
    second.tick(400_000);
    assert!(happened(&mut second).is_empty(), "it is not sent again");
    second.points("web", each(&[cpu(0, 400_500)]), 401_000);
    assert_eq!(happened(&mut second), [("web".to_owned(), TransitionKind::Resolved)]);
    // Seen after the row was written, and never evaluated: the recovery is notified now.
    let mut third = Shard::new(rules(&[gone("*")]));
    third.start(&[("web".to_owned(), 95_000)], &Warm::default(), 100_000);
    third.restore(&row, 100_000);
    third.tick(100_500);
    assert_eq!(happened(&mut third), [("web".to_owned(), TransitionKind::Resolved)]);
}

#[test]
fn a_rule_that_is_made_later_knows_who_has_spoken() {
    let mut shard = Shard::new(rules(&[]));
    shard.points("web", each(&[cpu(0, 0)]), 0);
    shard.set_rules(rules(&[gone("*")]), Arc::default(), 10_000);
    shard.tick(61_000);
    assert_eq!(happened(&mut shard), [("web".to_owned(), TransitionKind::Fired)]);
    shard.set_rules(rules(&[]), Arc::default(), 62_000);
    assert_eq!(happened(&mut shard), [("web".to_owned(), TransitionKind::Ended)]);
}

#[test]
fn a_server_whose_clock_is_put_right_misses_nobody_for_it() {
    let hour_ms = 3_600_000;
    for jump_ms in [hour_ms, 9 * 24 * hour_ms, -hour_ms] {
        let mut shard = Shard::new(rules(&[gone("*"), gone_cpu()]));
        let now =
            |at_ms: i64| Now { wall_ms: 20_000 * hour_ms + at_ms + jump_ms, steady_ms: at_ms };
        shard.points("web", each(&[cpu(0, 0)]), Now { wall_ms: 20_000 * hour_ms, steady_ms: 0 });
        shard.tick(now(30_000));
        assert!(happened(&mut shard).is_empty(), "{jump_ms}");
        shard.points("web", each(&[cpu(0, 40_000)]), now(40_000));
        shard.tick(now(99_000));
        assert!(happened(&mut shard).is_empty(), "{jump_ms}");
        shard.tick(now(100_000));
        let changes = shard.take_changes();
        assert_eq!(changes.len(), 2, "who is silent is missed as ever: {jump_ms}");
        let (event, _) = changes[0].transition.notification.as_ref().unwrap();
        assert_eq!(event.first_triggered_at_ms, now(40_000).wall_ms);
        shard.points("web", each(&[cpu(0, 101_000)]), now(101_000));
        assert_eq!(happened(&mut shard).len(), 2);
    }
}

fn gone_cpu() -> Value {
    let mut rule = gone("cpu.usage");
    rule["name"] = json!("gone-cpu");
    rule
}
