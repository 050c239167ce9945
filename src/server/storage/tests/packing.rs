use super::*;
use crate::base::clock::Clock;
use crate::server::storage::{Page, PointFilter};

const ALL: Page = Page { limit: 1_000, offset: 0 };

fn chunk_rows(folder: &Path, day: &str) -> i64 {
    let file = rusqlite::Connection::open(folder.join(format!("{day}.db"))).unwrap();
    file.query_row("SELECT count(*) FROM metric_chunks", [], |row| row.get(0)).unwrap()
}

fn log_rows(folder: &Path, day: &str) -> i64 {
    let file = rusqlite::Connection::open(folder.join(format!("{day}.db"))).unwrap();
    file.query_row("SELECT count(*) FROM metrics", [], |row| row.get(0)).unwrap()
}

#[test]
fn points_leave_the_log_as_chunks_and_late_ones_still_end_up_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let send = |ts: i64| store(&engine, "a", vec![Point::plain("m", ts, ts as f64)]).unwrap();
    for index in 0..200 {
        assert_eq!(send(MIDNIGHT + index * 10).new, 1);
    }
    let chunks = chunk_rows(folder.path(), "2026-02-09");
    assert!(chunks >= 8, "{chunks}");
    for index in 0..200 {
        assert_eq!(send(MIDNIGHT + index * 10).duplicate, 1, "{index}");
        assert_eq!(send(MIDNIGHT + index * 10 + 5).new, 1, "{index}");
    }
    let page = engine.list(&PointFilter::default(), ALL).unwrap();
    assert_eq!(page.total, 400);
    let times: Vec<i64> = page.items.iter().rev().map(|row| row.timestamp_ms).collect();
    assert_eq!(times, (0..400).map(|index| MIDNIGHT + index * 5).collect::<Vec<_>>());
    let summary = engine.summary("a", "m", MIDNIGHT + 5, MIDNIGHT + 1_000).unwrap();
    assert_eq!(summary.count, 200);
}

#[test]
fn a_packed_minus_zero_keeps_its_sign() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for index in 0..200 {
        store(&engine, "a", vec![Point::plain("x", MIDNIGHT + index, -0.0)]).unwrap();
    }
    assert!(chunk_rows(folder.path(), "2026-02-09") > 0);
    let page = engine.list(&PointFilter::default(), ALL).unwrap();
    assert_eq!(page.total, 200);
    assert!(page.items.iter().all(|row| row.value.to_bits() == (-0.0f64).to_bits()));
}

#[test]
fn a_day_that_is_over_becomes_one_chunk_a_series() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let engine = open_at(&config(folder.path()), &clock);
    for index in 0..100 {
        let ts = MIDNIGHT + index * 1_000;
        let points = vec![Point::plain("x", ts, 1.5), Point::plain("y", ts, index as f64)];
        store(&engine, "a", points).unwrap();
    }
    clock.advance(DAY_MS);
    wait_for("the day to settle", || {
        engine.maintain_now();
        chunk_rows(folder.path(), "2026-02-09") == 2 && log_rows(folder.path(), "2026-02-09") == 0
    });
    assert_eq!(engine.list(&PointFilter::default(), ALL).unwrap().total, 200);
    // A late point is taken, and later merged too.
    store(&engine, "a", vec![Point::plain("x", MIDNIGHT + 1_500, 7.0)]).unwrap();
    assert_eq!(engine.summary("a", "x", MIDNIGHT, NOON).unwrap().count, 101);
    clock.advance(DAY_MS / 2);
    wait_for("the late point to settle", || {
        engine.maintain_now();
        chunk_rows(folder.path(), "2026-02-09") == 2 && log_rows(folder.path(), "2026-02-09") == 0
    });
    assert_eq!(engine.summary("a", "x", MIDNIGHT, NOON).unwrap().max, 7.0);
    drop(engine);
    let engine = open_at(&config(folder.path()), &clock);
    assert_eq!(engine.list(&PointFilter::default(), ALL).unwrap().total, 201);
}

#[test]
fn a_late_point_that_overtakes_the_merging_is_merged_too() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let engine = open_at(&config(folder.path()), &clock);
    for index in 0..100 {
        store(&engine, "a", vec![Point::plain("x", MIDNIGHT + index * 1_000, 1.5)]).unwrap();
    }
    // At the merging's first step a late point arrives, and grows old before the merging ends.
    let (late, late_clock) = (Arc::downgrade(&engine), Arc::clone(&clock));
    let once = std::sync::Once::new();
    engine.probe(Box::new(move |step| {
        if step != "compaction" {
            return;
        }
        once.call_once(|| {
            let engine = late.upgrade().unwrap();
            let points = vec![Point::plain("x", MIDNIGHT + 1_500, 7.0)];
            let batch = Batch { agent_id: "a".into(), timestamp_ms: NOON, points };
            assert!(submit_batch(&*engine, batch, Box::new(|_| {})).is_ok());
            late_clock.advance(DAY_MS / 2);
            engine.maintain_now();
        });
    }));
    clock.advance(DAY_MS);
    wait_for("both to be merged", || {
        engine.maintain_now();
        engine.summary("a", "x", MIDNIGHT, NOON).unwrap().count == 101
            && chunk_rows(folder.path(), "2026-02-09") == 1
            && log_rows(folder.path(), "2026-02-09") == 0
    });
}

#[test]
fn old_days_go_and_the_newest_stay_within_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let mut config = config(folder.path());
    config.retention_days = 3;
    let engine = open_at(&config, &clock);
    for day in 0..4 {
        store(&engine, "a", vec![Point::plain("x", NOON - day * DAY_MS, 1.0)]).unwrap();
    }
    assert!(engine.cleanup().unwrap().removed.is_empty());
    clock.advance(DAY_MS);
    let gone = engine.cleanup().unwrap();
    assert_eq!(gone.removed[0].date, "2026-02-06");
    assert!(gone.freed_bytes > 0 && !folder.path().join("2026-02-06.db").exists());
    assert_eq!(engine.list(&PointFilter::default(), ALL).unwrap().total, 3);
    drop(engine);
    config.retention_max_bytes = 1;
    let engine = open_at(&config, &clock);
    store(&engine, "a", vec![Point::plain("x", NOON + DAY_MS, 1.0)]).unwrap();
    engine.cleanup().unwrap();
    let left = engine.report().unwrap().partitions;
    assert_eq!(left.iter().map(|part| part.date.as_str()).collect::<Vec<_>>(), ["2026-02-10"]);
}

/// A clock that has just jumped from one time to another.
struct Jumped(i64, i64);

impl Clock for Jumped {
    fn now_ms(&self) -> i64 {
        self.1
    }

    fn possible_ms(&self) -> (i64, i64) {
        (self.0.min(self.1), self.0.max(self.1))
    }
}

#[test]
fn a_clock_that_has_just_jumped_drops_no_day_and_refuses_no_point() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    store(&engine, "a", vec![Point::plain("x", NOON - 6 * DAY_MS, 1.0)]).unwrap();
    drop(engine);
    for jump in [30 * 365 * DAY_MS, -30 * DAY_MS] {
        let clock = Arc::new(Jumped(NOON, NOON + jump));
        let config = config(folder.path());
        let engine = Engine::open(&config, clock, &prometheus::Registry::new()).unwrap();
        assert!(engine.cleanup().unwrap().removed.is_empty(), "{jump}");
        let late = vec![Point::plain("x", NOON - 6 * DAY_MS + jump.signum(), 2.0)];
        assert_eq!(store(&engine, "a", late).unwrap().new, 1, "{jump}");
    }
    let engine = open(folder.path());
    assert_eq!(engine.list(&PointFilter::default(), ALL).unwrap().total, 3);
}

#[test]
fn a_day_that_goes_is_read_to_the_end_and_then_missed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let engine = open_at(&config(folder.path()), &clock);
    for index in 0..100 {
        store(&engine, "a", vec![Point::plain("x", MIDNIGHT + index, index as f64)]).unwrap();
    }
    clock.advance(8 * DAY_MS);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let count = engine.summary("a", "x", MIDNIGHT, NOON).unwrap().count;
                assert!(count == 100 || count == 0, "{count}");
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        assert_eq!(engine.cleanup().unwrap().removed.len(), 1);
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(engine.summary("a", "x", MIDNIGHT, NOON).unwrap().count, 0);
    let names = std::fs::read_dir(folder.path()).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left: Vec<String> = names.filter(|name| name.starts_with("2026")).collect();
    assert_eq!(left, Vec::<String>::new());
}
