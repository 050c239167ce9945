#![allow(clippy::unwrap_used)]
use super::*;
use crate::base::clock::parse_rfc3339;
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::alert::rule::{Draft, Origin};
use serde_json::{Value, json};

const START: i64 = 1_770_625_800_000;

fn rule(value: Value) -> Arc<Rule> {
    let draft = Draft::from_map(value.as_object().unwrap()).unwrap();
    Arc::new(Rule::build("r1".to_owned(), draft, Origin::Api, (1, 1)).unwrap())
}

fn cpu(duration_secs: u64) -> Arc<Rule> {
    rule(json!({
        "name": "high-cpu", "type": "threshold", "metric": "cpu.usage", "severity": "critical",
        "operator": "greater_than", "value": 90, "duration_secs": duration_secs,
    }))
}

fn key() -> SeriesKey {
    SeriesKey { agent: "web-01".into(), metric: "cpu.usage".into(), labels: Labels::none() }
}

fn feed(tracked: &mut Tracked, secs: i64, value: f64) -> Option<Transition> {
    tracked.point(&key(), Sample { at_ms: START + secs * 1_000, value })
}

#[test]
fn an_alert_from_pending_to_recovery() {
    let mut tracked = Tracked::new(cpu(300));
    assert_eq!(feed(&mut tracked, 0, 91.0).unwrap().kind, TransitionKind::Kept);
    assert_eq!(tracked.row(&key()).unwrap().state, "pending");
    assert!(feed(&mut tracked, 290, 91.0).is_none());
    let fired = feed(&mut tracked, 300, 95.2).unwrap();
    let (event, kind) = fired.notification.unwrap();
    assert_eq!(kind, NotifyKind::Firing);
    assert_eq!(event.message, "cpu.usage on web-01 is 95.2, over 90 for 5m (rule high-cpu)");
    assert_eq!((event.timestamp_ms, event.first_triggered_at_ms), (START + 300_000, START));
    assert_eq!((event.severity, event.status), (Severity::Critical, AlertStatus::Firing));
    assert!(feed(&mut tracked, 310, 99.0).is_none());
    let over = feed(&mut tracked, 720, 40.0).unwrap();
    let (recovery, kind) = over.notification.unwrap();
    assert_eq!(kind, NotifyKind::Recovered { firing_id: event.id.clone() });
    assert_eq!(recovery.message, "cpu.usage on web-01 is back at 40 after 12m (rule high-cpu)");
    assert_ne!(recovery.id, event.id);
    assert!(recovery.is_recovery());
    let [firing, again] = &over.events[..] else { panic!("{:?}", over.events) };
    assert_eq!((&firing.id, firing.status), (&event.id, AlertStatus::Resolved));
    assert_eq!(firing.resolved_at_ms, Some(START + 720_000));
    assert!(!firing.is_recovery());
    assert_eq!(again, &recovery);
}

#[test]
fn a_row_brings_an_alert_back_as_it_was() {
    let mut tracked = Tracked::new(cpu(0));
    let fired = feed(&mut tracked, 0, 95.0).unwrap();
    let acknowledged = tracked.acknowledge().unwrap();
    assert_eq!(acknowledged.events[0].status, AlertStatus::Acknowledged);
    let row = tracked.row(&key()).unwrap();
    assert!(row.acknowledged);
    let mut back = Tracked::restored(cpu(0), &row);
    assert_eq!(back.state, tracked.state);
    assert_eq!(back.active.as_deref(), Some(&acknowledged.events[0]));
    assert!(feed(&mut back, 10, 96.0).is_none(), "it is not notified again");
    let over = feed(&mut back, 20, 10.0).unwrap();
    assert!(over.notification.is_some(), "its recovery is notified");
    assert_eq!(over.events[0].id, fired.events[0].id);
}

#[test]
fn a_late_point_never_takes_a_newer_state_back() {
    let mut tracked = Tracked::new(cpu(0));
    feed(&mut tracked, 100, 95.0).unwrap();
    assert!(feed(&mut tracked, 50, 10.0).is_none(), "an older good point does not end it");
    assert_eq!(tracked.state.phase, Phase::Firing);
    feed(&mut tracked, 200, 10.0).unwrap();
    let late = feed(&mut tracked, 150, 99.0).unwrap();
    assert_eq!(late.kind, TransitionKind::Late);
    assert!(late.notification.is_none(), "nobody is woken for what has ended");
    let event = &late.events[0];
    assert_eq!((event.timestamp_ms, event.status), (START + 150_000, AlertStatus::Resolved));
    assert_eq!(event.resolved_at_ms, Some(START + 200_000));
    assert_eq!(tracked.state.phase, Phase::Ok);
    let end = feed(&mut tracked, 160, 10.0).unwrap();
    assert_eq!(end.events[0].id, event.id);
    assert_eq!(end.events[0].resolved_at_ms, Some(START + 160_000));
}

#[test]
fn late_points_are_held_against_the_duration_at_their_own_time() {
    let mut tracked = Tracked::new(cpu(60));
    feed(&mut tracked, 1_000, 10.0);
    let late: Vec<_> = (0..10).map(|step| feed(&mut tracked, step * 10, 95.0)).collect();
    let fired: Vec<_> = late.into_iter().flatten().collect();
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].events[0].timestamp_ms, START + 60_000);
    let mut tracked = Tracked::new(cpu(60));
    feed(&mut tracked, 100, 95.0);
    feed(&mut tracked, 150, 95.0);
    feed(&mut tracked, 120, 10.0);
    assert!(feed(&mut tracked, 160, 95.0).is_none(), "a good point lies between");
    assert_eq!(feed(&mut tracked, 210, 95.0).unwrap().kind, TransitionKind::Fired);
}

#[test]
fn a_certificate_becomes_critical_as_a_new_notice() {
    let rule = rule(json!({
        "name": "cert", "type": "cert_expiration", "metric": "certificate.days_until_expiry",
        "silence_secs": 86_400,
    }));
    let key = SeriesKey {
        agent: "cert-checker".into(),
        metric: "certificate.days_until_expiry".into(),
        labels: Labels::one("domain", "example.com"),
    };
    let mut tracked = Tracked::new(rule);
    let mut feed =
        |secs: i64, value| tracked.point(&key, Sample { at_ms: START + secs * 1_000, value });
    let warning = feed(0, 20.0).unwrap();
    let (warned, _) = warning.notification.unwrap();
    assert_eq!(warned.severity, Severity::Warning);
    assert!(feed(10, 19.0).is_none());
    let graver = feed(20, 6.0).unwrap();
    assert_eq!(graver.kind, TransitionKind::Escalated);
    let (critical, kind) = graver.notification.unwrap();
    assert_eq!((critical.severity, kind), (Severity::Critical, NotifyKind::Firing));
    assert_eq!(graver.events[0].id, warned.id);
    assert_eq!(graver.events[0].status, AlertStatus::Resolved);
    assert!(feed(30, 10.0).is_none(), "it does not become milder before it has ended");
    let over = feed(40, 89.0).unwrap();
    let (recovery, _) = over.notification.unwrap();
    assert_eq!(
        recovery.message,
        "The certificate of example.com is valid for another 89 days (rule cert)"
    );
}

#[test]
fn a_trend_that_has_come_true_is_no_recovery() {
    let rule = rule(json!({
        "name": "full", "type": "trend_prediction", "metric": "cpu.usage",
        "predict_threshold": 95, "horizon_secs": 3_600, "min_data_points": 10,
    }));
    let mut tracked = Tracked::new(rule);
    let rising = (0..400).map(|step| 80.0 + 0.05 * f64::from(step)).take_while(|v| *v < 99.0);
    let full = std::iter::repeat_n(99.0, 200);
    let mut happened = Vec::new();
    let mut step = 0;
    for value in rising.chain(full) {
        step += 1;
        let transition = feed(&mut tracked, step * 10, value);
        happened.extend(transition.map(|transition| (transition.kind, value)));
    }
    assert_eq!(happened.len(), 1, "it fires once and goes on: {happened:?}");
    assert_eq!(happened[0].0, TransitionKind::Fired);
    assert!(happened[0].1 < 95.0);
    // After a restart it still knows from where it came.
    let row = tracked.row(&key()).unwrap();
    let mut back = Tracked::restored(Arc::clone(&tracked.rule), &row);
    for more in 0..20 {
        assert!(feed(&mut back, (step + more) * 10, 99.0).is_none(), "it is full still");
    }
    let over = (20..200).find_map(|more| feed(&mut back, (step + more) * 10, 60.0)).unwrap();
    assert_eq!(over.kind, TransitionKind::Resolved);
    assert!(over.notification.is_some());
}

#[test]
fn the_same_alert_found_again_has_the_same_id() {
    let fire = |start: i64| {
        let mut tracked = Tracked::new(cpu(0));
        tracked.point(&key(), Sample { at_ms: start, value: 95.0 }).unwrap().events[0].id.clone()
    };
    let at = parse_rfc3339("2026-02-09T08:30:00Z").unwrap();
    assert_eq!(fire(at), fire(at));
    assert_ne!(fire(at), fire(at + 1));
}
