//! What a forwarder sees, and days whose samples go.

use parking_lot::Mutex;

use super::basics::event;
use super::*;
use crate::base::clock::HOUR_MS;
use crate::server::storage::{Arrived, Feed, PointFilter, SampleSet, Tap, day_of};

/// Agent, time and number of samples of each set that was seen.
#[derive(Default)]
struct Seen(Mutex<Vec<(String, i64, usize)>>);

impl Tap for Seen {
    fn committed(&self, agent: &Arc<str>, sets: &[SampleSet]) {
        let row = |set: &SampleSet| (agent.to_string(), set.timestamp_ms, set.values.len());
        self.0.lock().extend(sets.iter().map(row));
    }
}

#[test]
fn new_samples_are_seen_once_and_before_their_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let seen = Arc::new(Seen::default());
    engine.tap(Arc::clone(&seen) as Arc<dyn Tap>);
    let points = || vec![Point::plain("m", NOON, 1.0), Point::plain("n", NOON, 2.0)];
    for _ in 0..2 {
        let (send, receive) = bounded(1);
        let at_ack = Arc::clone(&seen);
        let ack = Box::new(move |_| send.send(at_ack.0.lock().len()).unwrap());
        let batch = Batch { agent_id: "a".into(), timestamp_ms: NOON, points: points() };
        assert!(submit_batch(&*engine, batch, ack).is_ok());
        assert_eq!(receive.recv().unwrap(), 1);
    }
    let mut more = points();
    more.push(Point::plain("late", NOON - DAY_MS, 3.0));
    store(&engine, "a", more).unwrap();
    let all = [("a".to_owned(), NOON, 2), ("a".to_owned(), NOON - DAY_MS, 1)];
    assert_eq!(*seen.0.lock(), all);
}

#[test]
fn what_arrived_since_a_time_is_found_whenever_it_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let engine = open_at(&config(folder.path()), &clock);
    let point = |ts: i64| vec![Point::plain("m", ts, 1.0)];
    // In time, and packed for the most part.
    for at in 0..40 {
        store(&engine, "a", point(NOON - 1_000 + at * 10)).unwrap();
    }
    clock.set(NOON + HOUR_MS);
    // A day late, and packed for the most part.
    let late = NOON - DAY_MS;
    for at in 0..40 {
        store(&engine, "b", point(late + at * 10)).unwrap();
    }
    let newest = NOON + HOUR_MS - 5;
    store(&engine, "a", point(newest)).unwrap();
    let check = |engine: &Engine| {
        let found = engine.arrived_since(NOON + HOUR_MS / 2).unwrap();
        let of = |agent: &str| -> Vec<&Arrived> {
            found.iter().filter(|arrived| *arrived.agent == *agent).collect()
        };
        let [a] = of("a")[..] else { panic!("{found:?}") };
        assert_eq!((a.from_ms, a.to_ms), (newest, newest));
        let [b] = of("b")[..] else { panic!("{found:?}") };
        assert_eq!((b.from_ms, b.to_ms), (late, late + 390));
        assert_eq!(engine.arrived_since(NOON + 2 * HOUR_MS).unwrap(), []);
    };
    check(&engine);
    drop(engine);
    check(&open_at(&config(folder.path()), &clock));
}

#[test]
fn a_day_sheds_its_samples_and_keeps_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let yesterday = NOON - DAY_MS;
    for ts in [NOON, yesterday, yesterday - DAY_MS] {
        store(&engine, "a", vec![Point::plain("m", ts, 1.0)]).unwrap();
    }
    engine.put_event(&event("e", yesterday)).unwrap();
    let days = [yesterday - DAY_MS, yesterday, NOON].map(day_of);
    assert_eq!(engine.days_with_samples(), days);
    engine.shed_day(days[0]).unwrap();
    engine.shed_day(days[1]).unwrap();
    engine.shed_day(days[1]).unwrap();
    assert_eq!(engine.days_with_samples(), days[2..]);
    let all = crate::server::storage::Page { limit: 10, offset: 0 };
    assert_eq!(engine.list(&PointFilter::default(), all).unwrap().total, 1);
    assert!(engine.event("e").unwrap().is_some());
    let file = |date: &str| folder.path().join(format!("{date}.db")).exists();
    assert!(file("2026-02-08") && !file("2026-02-07"));
    // A sample that comes late is stored as ever.
    let late = vec![Point::plain("m", yesterday + 1, 2.0)];
    assert_eq!(store(&engine, "a", late).unwrap().new, 1);
    assert_eq!(engine.days_with_samples(), days[1..]);
}
