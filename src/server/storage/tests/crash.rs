//! Crashes. At every step of committing, packing, merging and dropping, the folder is copied as a
//! crash would leave it; an engine on the copy has every acknowledged point once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::server::storage::shared::Probe;
use crate::server::storage::{Page, PointFilter};

const ALL: Page = Page { limit: 100_000, offset: 0 };

type Points = BTreeMap<(i64, String), f64>;

/// A copy of the folder, and what had been acknowledged when it was made.
struct Image {
    step: String,
    folder: tempfile::TempDir,
    acknowledged: Points,
}

#[derive(Default)]
struct Record {
    images: Vec<Image>,
    sent: Points,
    acknowledged: Points,
    steps: BTreeMap<String, usize>,
}

/// The files as they are at one moment: the writer of another day may be in the middle of moving
/// its log into its file, and goes on until it comes to a step of its own.
fn copy(from: &Path) -> tempfile::TempDir {
    let read = || -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(from).unwrap().flatten();
        let named = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"));
        named.filter_map(|entry| Some((entry.path(), std::fs::read(entry.path()).ok()?))).collect()
    };
    let mut files = read();
    loop {
        let again = read();
        if again == files {
            break;
        }
        files = again;
    }
    let to = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        std::fs::write(to.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    to
}

fn read(engine: &Engine) -> Points {
    let list = engine.list(&PointFilter::default(), ALL).unwrap();
    assert_eq!(list.total, list.items.len() as u64, "the total is that of the list");
    let points: Points = list
        .items
        .iter()
        .map(|row| ((row.timestamp_ms, row.key.metric.to_string()), row.value))
        .collect();
    assert_eq!(points.len(), list.items.len(), "no point is stored twice");
    points
}

fn check(image: &Image, sent: &Points, clock: &Arc<ManualClock>) {
    let engine = open_at(&config(image.folder.path()), clock);
    let found = read(&engine);
    let (first, _) = (clock_day(clock) - 7, ());
    for (key, value) in &image.acknowledged {
        if key.0.div_euclid(DAY_MS) >= first {
            assert_eq!(found.get(key), Some(value), "{key:?} is lost after {}", image.step);
        }
    }
    for (key, value) in &found {
        assert_eq!(sent.get(key), Some(value), "{key:?} was never sent, after {}", image.step);
    }
    // It goes on from there.
    store(&engine, "a", vec![Point::plain("after", NOON, 1.0)]).unwrap();
}

fn clock_day(clock: &Arc<ManualClock>) -> i64 {
    use crate::base::clock::Clock;
    clock.now_ms().div_euclid(DAY_MS)
}

/// Copies are made of each kind of step at its first times and then ever more seldom.
fn is_wanted(times: usize) -> bool {
    times <= 3 || times.is_multiple_of(37)
}

fn probed(folder: PathBuf, record: &Arc<Mutex<Record>>) -> Probe {
    let record = Arc::clone(record);
    Box::new(move |step| {
        let mut record = record.lock().unwrap();
        let times = record.steps.entry(step.to_owned()).or_default();
        *times += 1;
        if is_wanted(*times) {
            let acknowledged = record.acknowledged.clone();
            let folder = copy(&folder);
            record.images.push(Image { step: step.to_owned(), folder, acknowledged });
        }
    })
}

#[test]
fn a_crash_after_any_step_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let engine = open_at(&config(folder.path()), &clock);
    let record: Arc<Mutex<Record>> = Arc::default();
    engine.probe(probed(folder.path().to_owned(), &record));
    let send = |ts: i64| {
        let points: Vec<Point> =
            ["x", "y"].iter().map(|metric| Point::plain(metric, ts, (ts % 1_013) as f64)).collect();
        let keys = |point: &Point| ((ts, point.metric.to_string()), point.value);
        record.lock().unwrap().sent.extend(points.iter().map(keys));
        store(&engine, "a", points.clone()).unwrap();
        record.lock().unwrap().acknowledged.extend(points.iter().map(keys));
    };
    for index in 0..120 {
        send(NOON - 3_600_000 + index * 10_000);
        // Late points of the day before.
        send(NOON - DAY_MS + index * 777);
    }
    clock.advance(DAY_MS);
    wait_for("both days to be merged", || {
        engine.maintain_now();
        record.lock().unwrap().steps.get("compaction").is_some_and(|&times| times >= 6)
    });
    clock.advance(7 * DAY_MS);
    engine.cleanup().unwrap();
    drop(engine);
    let record = std::mem::take(&mut *record.lock().unwrap());
    for step in ["written", "committed", "packed", "compaction", "dropping"] {
        assert!(record.steps.contains_key(step), "{step} was not met: {:?}", record.steps);
    }
    let clock = ManualClock::at(NOON + DAY_MS);
    record.images.iter().filter(|image| image.step != "dropping").for_each(|image| {
        check(image, &record.sent, &clock);
    });
    let clock = ManualClock::at(NOON + 8 * DAY_MS);
    for image in record.images.iter().filter(|image| image.step == "dropping") {
        // A day that was being dropped is gone or goes again; the folder opens either way.
        let engine = open_at(&config(image.folder.path()), &clock);
        engine.cleanup().unwrap();
    }
}
