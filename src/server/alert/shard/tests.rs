#![allow(clippy::unwrap_used)]
use super::*;
use crate::model::series::Labels;
use crate::server::alert::rule::{Draft, Origin};
use serde_json::{Value, json};

pub(crate) fn rules(values: &[Value]) -> Arc<RuleSet> {
    let built = values.iter().map(|value| {
        let draft = Draft::from_map(value.as_object().unwrap()).unwrap();
        let id = draft.name.clone();
        Arc::new(Rule::build(id, draft, Origin::Api, (1, 1)).unwrap())
    });
    Arc::new(RuleSet::new(&[], built.collect()))
}

fn disk(value: f64) -> Value {
    json!({
        "name": "disk", "type": "threshold", "metric": "disk.used_percent",
        "operator": "greater_than", "value": value,
    })
}

fn cpu() -> Value {
    json!({
        "name": "cpu", "type": "threshold", "metric": "cpu.usage",
        "operator": "greater_than", "value": 90,
    })
}

/// A stored point.
pub(crate) struct Stored {
    pub series: Arc<Series>,
    pub sample: Sample,
}

pub(crate) fn each(points: &[Stored]) -> impl Iterator<Item = (&Arc<Series>, Sample)> {
    points.iter().map(|point| (&point.series, point.sample))
}

fn point(number: u32, metric: &str, labels: Labels, at_ms: i64, value: f64) -> Stored {
    let key = SeriesKey { agent: "web".into(), metric: metric.into(), labels };
    Stored {
        series: Arc::new(Series { number, metric_number: 0, key }),
        sample: Sample { at_ms, value },
    }
}

fn mounts(at_ms: i64, values: &[f64]) -> Vec<Stored> {
    let point = |(index, value): (usize, &f64)| {
        let labels = Labels::one("mount", &format!("/{index}"));
        point(index as u32, "disk.used_percent", labels, at_ms, *value)
    };
    values.iter().enumerate().map(point).collect()
}

fn happened(shard: &mut Shard) -> Vec<(String, TransitionKind)> {
    let changes = shard.take_changes().into_iter();
    changes.map(|change| (change.key[3].clone(), change.transition.kind)).collect()
}

#[test]
fn one_full_mount_among_five_fires_once_and_for_that_mount() {
    let mut shard = Shard::new(rules(&[disk(90.0), cpu()]));
    for step in 0..5 {
        let points = mounts(step * 1_000, &[50.0, 60.0, 95.0, 10.0, 90.0]);
        shard.points("web", each(&points), step * 1_000);
    }
    assert_eq!(happened(&mut shard), [("{\"mount\":\"/2\"}".to_owned(), TransitionKind::Fired)]);
    assert_eq!(shard.take_evaluated(), 25);
}

#[test]
fn series_that_no_rule_wants_are_passed_over() {
    let mut shard = Shard::new(rules(&[cpu()]));
    shard.points("web", each(&mounts(1, &[1.0, 2.0])), 1);
    assert_eq!((shard.take_evaluated(), shard.entries.len()), (0, 0));
    shard.set_rules(rules(&[cpu(), disk(1.5)]), Arc::default(), 2);
    shard.points("web", each(&mounts(3, &[1.0, 2.0])), 3);
    assert_eq!(shard.take_evaluated(), 2);
    assert_eq!(happened(&mut shard).len(), 1);
}

#[test]
fn a_changed_rule_keeps_the_state_of_the_others() {
    let mut shard = Shard::new(rules(&[disk(90.0), cpu()]));
    shard.points("web", each(&mounts(1_000, &[95.0])), 1_000);
    shard.points("web", each(&[point(9, "cpu.usage", Labels::none(), 1_000, 95.0)]), 1_000);
    assert_eq!(happened(&mut shard).len(), 2);
    shard.set_rules(rules(&[disk(80.0), cpu()]), Arc::default(), 2_000);
    let kept = shard.take_changes();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].transition.kind, TransitionKind::Kept);
    assert!(kept[0].transition.notification.is_none(), "it still fires, and says nothing");
    assert_eq!(kept[0].active.as_ref().unwrap().threshold, 80.0);
    shard.points("web", each(&[point(9, "cpu.usage", Labels::none(), 3_000, 95.0)]), 3_000);
    assert!(happened(&mut shard).is_empty(), "the other rule goes on firing, and says nothing");
    shard.points("web", each(&mounts(3_000, &[85.0])), 3_000);
    assert!(happened(&mut shard).is_empty(), "85 is over 80");
    shard.points("web", each(&mounts(4_000, &[75.0])), 4_000);
    assert_eq!(happened(&mut shard)[0].1, TransitionKind::Resolved);
    shard.points("web", each(&mounts(5_000, &[85.0])), 5_000);
    assert_eq!(happened(&mut shard).len(), 1);
    shard.set_rules(rules(&[disk(90.0), cpu()]), Arc::default(), 6_000);
    let ended = shard.take_changes();
    let (event, kind) = ended[0].transition.notification.as_ref().unwrap();
    assert_eq!(*kind, crate::server::alert::NotifyKind::Ended);
    assert!(event.message.contains("is 85: the rule was changed and no longer fires"), "{event:?}");
}

#[test]
fn a_series_that_ends_ends_its_alert_while_its_agent_reports() {
    let mut shard = Shard::new(rules(&[disk(90.0)]));
    for secs in 0..=10_i64 {
        shard.points("web", each(&mounts(secs * 10_000, &[95.0, 96.0])), secs * 10_000);
    }
    assert_eq!(happened(&mut shard).len(), 2);
    for secs in 11..=69_i64 {
        shard.points("web", each(&mounts(secs * 10_000, &[95.0])), secs * 10_000);
        shard.tick(secs * 10_000);
    }
    assert!(happened(&mut shard).is_empty(), "ten minutes have not passed");
    for secs in 70..=72_i64 {
        shard.points("web", each(&mounts(secs * 10_000, &[95.0])), secs * 10_000);
        shard.tick(secs * 10_000);
    }
    let changes = shard.take_changes();
    assert_eq!(changes.len(), 1);
    let (event, _) = changes[0].transition.notification.as_ref().unwrap();
    assert_eq!(
        event.message,
        "disk.used_percent{mount=\"/1\"} on web is no longer reported (rule disk)"
    );
    for secs in 73..=400_i64 {
        shard.tick(secs * 10_000);
    }
    assert!(happened(&mut shard).is_empty(), "a host that is down keeps its alerts");
    assert_eq!(shard.end_agent("web", "agent removed", 4_000_000), 1);
    let changes = shard.take_changes();
    let (event, _) = changes[0].transition.notification.as_ref().unwrap();
    assert!(event.message.ends_with("on web ended: agent removed (rule disk)"), "{event:?}");
}

#[test]
fn a_new_name_or_severity_keeps_the_alert_and_a_disabled_rule_ends_it() {
    let mut shard = Shard::new(rules(&[cpu()]));
    let cpu_point = |at_ms| [point(9, "cpu.usage", Labels::none(), at_ms, 95.0)];
    shard.points("web", each(&cpu_point(1_000)), 1_000);
    assert_eq!(happened(&mut shard).len(), 1);
    let mut louder = cpu();
    louder["silence_secs"] = json!(5);
    shard.set_rules(rules(&[louder.clone()]), Arc::default(), 2_000);
    assert!(happened(&mut shard).is_empty());
    louder["enabled"] = json!(false);
    shard.set_rules(rules(&[louder]), Arc::default(), 3_000);
    assert_eq!(happened(&mut shard), [("{}".to_owned(), TransitionKind::Ended)]);
    shard.points("web", each(&cpu_point(4_000)), 4_000);
    assert!(happened(&mut shard).is_empty());
}

#[test]
fn people_act_on_the_alert_of_an_event() {
    let mut shard = Shard::new(rules(&[cpu()]));
    shard.points("web", each(&[point(9, "cpu.usage", Labels::none(), 1_000, 95.0)]), 1_000);
    let id = shard.take_changes()[0].active.clone().unwrap().id;
    assert!(shard.act("nothing", &Act::Acknowledge, 1_500).is_none());
    let known = shard.act(&id, &Act::Acknowledge, 1_500).unwrap();
    assert_eq!(known.status as i64, 2);
    assert!(shard.take_changes()[0].row.as_ref().unwrap().acknowledged);
    let over = shard.act(&id, &Act::Resolve { who: "ann".to_owned() }, 2_000).unwrap();
    assert_eq!(over.status as i64, 3);
    let change = shard.take_changes().remove(0);
    assert!(change.active.is_none());
    let (recovery, _) = change.transition.notification.unwrap();
    assert_eq!(recovery.message, "cpu.usage on web was resolved by ann (rule cpu)");
    shard.points("web", each(&[point(9, "cpu.usage", Labels::none(), 3_000, 95.0)]), 3_000);
    assert!(shard.take_changes().is_empty(), "it stays quiet while it goes on");
}

#[test]
fn an_agent_whose_clock_was_ahead_is_judged_again_as_soon_as_it_is_put_right() {
    const DAY: i64 = 86_400_000;
    let mut spike = json!({
        "name": "spike", "type": "rate_of_change", "metric": "cpu.usage", "rate_threshold": 50,
        "window_secs": 300,
    });
    spike["silence_secs"] = json!(600);
    let mut shard = Shard::new(rules(&[cpu(), spike]));
    let mut send = |at_ms: i64, now_ms: i64, value: f64| {
        shard.points("web", each(&[point(9, "cpu.usage", Labels::none(), at_ms, value)]), now_ms);
        let mut seen: Vec<(String, TransitionKind)> = Vec::new();
        for change in shard.take_changes() {
            let quiet =
                matches!(change.transition.kind, TransitionKind::Kept | TransitionKind::Late);
            assert_eq!(change.transition.notification.is_none(), quiet, "{change:?}");
            seen.push((change.key[0].clone(), change.transition.kind));
        }
        seen
    };
    // An hour ahead, it fires and recovers.
    let ahead = DAY + 3_600_000;
    assert_eq!(send(ahead, DAY, 95.0), [("cpu".to_owned(), TransitionKind::Fired)]);
    assert_eq!(
        send(ahead + 10_000, DAY + 10_000, 90.0),
        [("cpu".to_owned(), TransitionKind::Resolved)]
    );
    // Put right: what comes now is new, is notified, and ends too.
    let fired = [("cpu".to_owned(), TransitionKind::Fired)];
    assert_eq!(send(DAY + 20_000, DAY + 20_000, 96.0), fired);
    let next = send(DAY + 30_000, DAY + 30_000, 40.0);
    let resolved = ("cpu".to_owned(), TransitionKind::Resolved);
    assert_eq!(next, [resolved, ("spike".to_owned(), TransitionKind::Fired)]);
    // A minute ahead is no more than a clock may be off: its late points stay late ones.
    assert!(send(DAY + 120_000, DAY + 60_000, 41.0).is_empty());
    assert_eq!(send(DAY + 70_000, DAY + 70_000, 99.0), [("cpu".to_owned(), TransitionKind::Late)]);
}
