use super::*;
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::severity::Severity;
use crate::server::storage::{EventFilter, Page, PointFilter, StoreHealth};

const ALL: Page = Page { limit: 1_000, offset: 0 };

fn tick(ts: i64, value: f64) -> Vec<Point> {
    vec![
        Point::plain("cpu.usage", ts, value),
        Point::labelled("disk.total", "mount", "/", ts, 1e12),
    ]
}

#[test]
fn what_is_acknowledged_is_read_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for index in 0..5 {
        let stored = store(&engine, "web-01", tick(NOON + index * 10_000, index as f64)).unwrap();
        assert_eq!(stored, Stored { new: 2, duplicate: 0, rejected: 0 });
    }
    let check = |engine: &Engine| {
        let latest = engine.latest("web-01").unwrap();
        assert_eq!(latest.len(), 2);
        assert_eq!((latest[0].timestamp_ms, latest[0].value), (NOON + 40_000, 4.0));
        assert_eq!(latest[1].key.labels.get("mount"), Some("/"));
        let page = engine.list(&PointFilter::default(), Page { limit: 3, offset: 1 }).unwrap();
        assert_eq!((page.total, page.items.len()), (10, 3));
        assert_eq!(page.items[0].timestamp_ms, NOON + 40_000);
        let summary = engine.summary("web-01", "cpu.usage", 0, i64::MAX).unwrap();
        assert_eq!((summary.min, summary.max, summary.avg, summary.count), (0.0, 4.0, 2.0, 5));
        let names = engine.names(NOON, NOON, ALL).unwrap();
        assert_eq!(names.items, ["cpu.usage", "disk.total"]);
        assert_eq!(engine.agents(0, NOON - 1, ALL).unwrap().total, 0);
        assert_eq!(engine.agents_seen().unwrap()[0].newest_ms, NOON + 40_000);
        assert_eq!(engine.health(), StoreHealth { agents: 1, ..StoreHealth::default() });
    };
    check(&engine);
    engine.stop();
    assert!(store_refused(&engine));
    drop(engine);
    check(&open(folder.path()));
}

fn store_refused(engine: &Engine) -> bool {
    let batch = Batch { agent_id: "a".into(), timestamp_ms: 1, points: tick(NOON, 1.0) };
    submit_batch(engine, batch, Box::new(|_| {})).is_err()
}

#[test]
fn a_point_that_comes_again_is_known_and_the_first_value_stays() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    store(&engine, "a", tick(NOON, 1.0)).unwrap();
    let again = [tick(NOON, 9.0), vec![Point::plain("new", NOON, 3.0)]].concat();
    let stored = store(&engine, "a", again).unwrap();
    assert_eq!(stored, Stored { new: 1, duplicate: 2, rejected: 0 });
    assert_eq!(engine.latest("a").unwrap()[0].value, 1.0);
}

#[test]
fn points_outside_of_the_kept_days_make_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let points = [NOON - 9 * DAY_MS, NOON + 2 * DAY_MS, 0, i64::MAX, i64::MIN, NOON]
        .map(|ts| Point::plain("m", ts, 1.0));
    let stored = store(&engine, "a", points.to_vec()).unwrap();
    assert_eq!(stored, Stored { new: 1, duplicate: 0, rejected: 5 });
    assert_eq!(engine.report().unwrap().partitions.len(), 1);
}

#[test]
fn a_second_server_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let second =
        Engine::open(&config(folder.path()), ManualClock::at(NOON), &prometheus::Registry::new());
    assert!(matches!(second, Err(StorageError::Locked(_))));
    drop(engine);
    open(folder.path());
}

pub(super) fn event(id: &str, ts: i64) -> AlertEvent {
    AlertEvent {
        id: id.into(),
        rule_id: "r".into(),
        rule_name: "rule".into(),
        agent_id: "a".into(),
        metric_name: "m".into(),
        severity: Severity::Warning,
        message: "too much".into(),
        labels: Labels::one("mount", "/"),
        value: 91.5,
        threshold: 90.0,
        timestamp_ms: ts,
        predicted_breach_ms: None,
        first_triggered_at_ms: ts - 1,
        status: AlertStatus::Firing,
        resolved_at_ms: None,
        facts: None,
    }
}

#[test]
fn events_are_kept_by_day_and_replaced_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let events: Vec<AlertEvent> =
        (0..4).map(|n| event(&format!("e{n}"), NOON - n * DAY_MS / 2)).collect();
    engine.put_events(&events).unwrap();
    let resolved = AlertEvent { status: AlertStatus::Resolved, ..events[1].clone() };
    engine.put_event(&resolved).unwrap();
    assert_eq!(engine.event("e1").unwrap(), Some(resolved));
    assert_eq!(engine.event("none").unwrap(), None);
    let page = engine.events(&EventFilter::default(), Page { limit: 2, offset: 1 }).unwrap();
    assert_eq!(page.total, 4);
    assert_eq!(page.items.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["e1", "e2"]);
    let critical = EventFilter { severity: Some(Severity::Critical), ..EventFilter::default() };
    assert_eq!(engine.events(&critical, ALL).unwrap().total, 0);
    let total = |filter: EventFilter| engine.events(&filter, ALL).unwrap().total;
    let status = Some(AlertStatus::Resolved);
    assert_eq!(total(EventFilter { status, ..EventFilter::default() }), 1);
    let text = |text: &str| Some(text.to_owned());
    let one = &events[0];
    for (field, most) in [(&one.rule_name, 4), (&"%".to_owned(), 0)] {
        assert_eq!(total(EventFilter { rule_part: text(field), ..EventFilter::default() }), most);
    }
    for (id, most) in [(&one.rule_id, 4), (&"other".to_owned(), 0)] {
        assert_eq!(total(EventFilter { rule_id: text(id), ..EventFilter::default() }), most);
    }
    for (name, most) in [(&one.metric_name, 4), (&"other".to_owned(), 0)] {
        assert_eq!(total(EventFilter { metric: text(name), ..EventFilter::default() }), most);
    }
    let agent = one.agent_id.clone();
    let of = |agent_part| total(EventFilter { agent_part, ..EventFilter::default() });
    assert_eq!((of(Some(agent)), of(text("no such host"))), (4, 0));
    assert!(engine.put_event(&event("old", 0)).is_err());
}

#[test]
fn plain_sqlite_sees_the_points_that_are_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    store(&engine, "a", tick(NOON, 0.1)).unwrap();
    store(&engine, "a", tick(NOON + 1, -2.0)).unwrap();
    store(&engine, "a", tick(NOON + 2, 1e300)).unwrap();
    let file = rusqlite::Connection::open(folder.path().join("2026-02-09.db")).unwrap();
    let mut query = file
        .prepare("SELECT agent_id, metric_name, labels, timestamp, value FROM metrics ORDER BY 4,2")
        .unwrap();
    let rows: Vec<(String, String, String, i64, f64)> = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0], ("a".into(), "cpu.usage".into(), "{}".into(), NOON, 0.1));
    assert_eq!((rows[1].2.as_str(), rows[1].4), ("{\"mount\":\"/\"}", 1e12));
    assert_eq!((rows[2].4, rows[4].4), (-2.0, 1e300));
}

#[test]
fn a_series_that_a_batch_names_twice_at_one_time_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let points = vec![
        Point::plain("x", NOON, 1.0),
        Point::plain("x", NOON, 2.0),
        Point::plain("y", NOON, f64::NAN),
    ];
    let stored = store(&engine, "a", points).unwrap();
    assert_eq!(stored, Stored { new: 1, duplicate: 1, rejected: 1 });
    assert_eq!(engine.latest("a").unwrap()[0].value, 1.0);
}
