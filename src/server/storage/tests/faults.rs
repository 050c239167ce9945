use super::*;
use crate::server::storage::{Page, PointFilter, PointRow};

const ALL: Page = Page { limit: 1_000, offset: 0 };

#[test]
fn a_damaged_file_is_set_aside_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    store(&engine, "a", vec![Point::plain("x", NOON, 1.0)]).unwrap();
    store(&engine, "a", vec![Point::plain("x", NOON - DAY_MS, 1.0)]).unwrap();
    drop(engine);
    std::fs::write(folder.path().join("2026-02-09.db"), "not a database at all".repeat(500))
        .unwrap();
    let engine = open(folder.path());
    assert_eq!(engine.report().unwrap().damaged, ["2026-02-09.db.damaged-1"]);
    store(&engine, "a", vec![Point::plain("x", NOON + 1, 2.0)]).unwrap();
    assert_eq!(engine.list(&PointFilter::default(), ALL).unwrap().total, 2);
    drop(engine);
    assert_eq!(open(folder.path()).report().unwrap().damaged.len(), 1);
}

#[test]
fn a_damaged_chunk_is_set_aside_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for index in 0..100 {
        store(&engine, "a", vec![Point::plain("x", MIDNIGHT + index * index, index as f64)])
            .unwrap();
    }
    let file = rusqlite::Connection::open(folder.path().join("2026-02-09.db")).unwrap();
    file.execute("UPDATE chunks SET data = zeroblob(9)", []).unwrap();
    drop(file);
    // Many readers meet the damage at once, and some of them when it has been dealt with.
    let meet = || (0..20).any(|_| engine.list(&PointFilter::default(), ALL).is_err());
    let met = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
        readers.into_iter().any(|reader| reader.join().unwrap())
    });
    assert!(met, "nobody met the damage");
    wait_for("the file to be set aside", || engine.report().unwrap().damaged.len() == 1);
    // What was still in memory is in the fresh file, and new points are taken.
    wait_for("the head to be kept", || {
        engine.list(&PointFilter::default(), ALL).is_ok_and(|list| list.total > 0)
    });
    wait_for("a new point", || store(&engine, "a", vec![Point::plain("x", NOON, 5.0)]).is_ok());
    assert_eq!(engine.latest("a").unwrap()[0].value, 5.0);
    drop(engine);
    let engine = open(folder.path());
    assert_eq!(
        engine.report().unwrap().damaged,
        ["2026-02-09.db.damaged-1"],
        "the fresh one stays"
    );
}

/// A small random sequence that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

#[test]
fn whatever_damage_a_file_has_the_server_starts_and_stores() {
    let whole = tempfile::tempdir().unwrap();
    let engine = open(whole.path());
    for index in 0..150i64 {
        let points = ["x", "y", "z"].map(|metric| {
            Point::labelled(metric, "mount", "/", MIDNIGHT + index * index, index as f64 * 0.37)
        });
        store(&engine, "a", points.to_vec()).unwrap();
        store(&engine, "b", vec![Point::plain("x", NOON - DAY_MS + index, 1.0)]).unwrap();
    }
    drop(engine);
    let file = std::fs::read(whole.path().join("2026-02-09.db")).unwrap();
    let other = std::fs::read(whole.path().join("2026-02-08.db")).unwrap();
    for seed in 1..40u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = file.clone();
        if seed % 3 == 0 {
            bytes.truncate(random.below(file.len()));
        } else {
            for _ in 0..1 + random.below(20) {
                let at = random.below(bytes.len());
                let end = (at + 1 + random.below(64)).min(bytes.len());
                bytes[at..end].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            }
        }
        std::fs::write(folder.path().join("2026-02-09.db"), &bytes).unwrap();
        std::fs::write(folder.path().join("2026-02-08.db"), &other).unwrap();
        let engine = open(folder.path());
        wait_for(&format!("a point to be stored, seed {seed}"), || {
            // What reading finds is set aside meanwhile.
            let _ = engine.list(&PointFilter::default(), ALL);
            let _ = engine.summary("a", "x", MIDNIGHT, NOON);
            store(&engine, "a", vec![Point::plain("new", NOON, 1.0)]).is_ok()
        });
        let count = engine.summary("b", "x", NOON - DAY_MS, NOON - 1).unwrap().count;
        assert_eq!(count, 150, "the other day is whole, seed {seed}");
        wait_for("a list", || engine.list(&PointFilter::default(), ALL).is_ok());
        for row in engine.list(&PointFilter::default(), ALL).unwrap().items {
            assert!(was_stored(&row), "{row:?} was never sent, seed {seed}");
        }
    }
}

/// Whether a point is one of those that the test above stored.
fn was_stored(row: &PointRow) -> bool {
    let metric = &*row.key.metric;
    let index = ((row.timestamp_ms - MIDNIGHT) as f64).sqrt();
    match &*row.key.agent {
        "a" if metric == "new" => (row.timestamp_ms, row.value) == (NOON, 1.0),
        "a" => {
            ["x", "y", "z"].contains(&metric) && index.fract() == 0.0 && row.value == index * 0.37
        }
        "b" => metric == "x" && row.value == 1.0 && row.timestamp_ms < MIDNIGHT,
        _ => false,
    }
}

#[test]
fn a_digit_that_became_another_is_damage() {
    let changes = [
        "UPDATE samples SET data = replace(data, '7', '8')",
        "UPDATE samples SET timestamp = timestamp + 1",
        "UPDATE layouts SET series = '[2,1]'",
        "UPDATE series SET metric = 'cpu.usagf'",
        "UPDATE agents SET name = 'c'",
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        for tick in 0..3 {
            let points = ["cpu.usage", "load.1"].map(|name| Point::plain(name, NOON + tick, 7.0));
            store(&engine, "a", points.to_vec()).unwrap();
        }
        drop(engine);
        let file = rusqlite::Connection::open(folder.path().join("2026-02-09.db")).unwrap();
        assert!(file.execute(change, []).unwrap() > 0, "{change}");
        drop(file);
        assert_eq!(open(folder.path()).report().unwrap().damaged.len(), 1, "{change}");
    }
}

#[test]
fn a_summary_of_a_chunk_that_changed_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for index in 0..100 {
        store(&engine, "a", vec![Point::plain("x", MIDNIGHT + index, index as f64)]).unwrap();
    }
    let file = rusqlite::Connection::open(folder.path().join("2026-02-09.db")).unwrap();
    assert!(file.execute("UPDATE chunks SET max = max + 1", []).unwrap() > 0);
    drop(file);
    assert!(engine.summary("a", "x", MIDNIGHT, NOON).is_err());
    wait_for("the file to be set aside", || engine.report().unwrap().damaged.len() == 1);
}

/// A small file system that can be filled; `None` where the test may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|out| out.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: only root may mount the small file system that this test fills");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_stops_writes_alone_and_they_go_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("4m") else { return };
    let folder = disk.0.path().to_owned();
    let mut config = config(&folder);
    config.storage.pack_points = 100;
    let engine = open_at(&config, &ManualClock::at(NOON));
    let mut stored = 0i64;
    let send = |ts: i64| {
        let points = (0..60).map(|n| Point::plain(&format!("m{n}"), ts, (ts * 31 % 9_973) as f64));
        store(&engine, "a", points.collect())
    };
    for _ in 0..20 {
        send(MIDNIGHT + stored).unwrap();
        stored += 1;
    }
    std::fs::write(folder.join("filler"), vec![0; 16 << 20]).unwrap_err();
    let full = (0..20_000).find_map(|_| match send(MIDNIGHT + stored) {
        Ok(_) => {
            stored += 1;
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(full, Some(StorageError::DiskFull)), "{full:?}");
    assert!(engine.report().unwrap().disk_full);
    for _ in 0..3 {
        assert!(matches!(send(MIDNIGHT + stored), Err(StorageError::DiskFull)));
        let summary = engine.summary("a", "m7", MIDNIGHT, NOON).unwrap();
        assert_eq!(summary.count, stored as u64, "reads go on, and nothing half is seen");
    }
    std::fs::remove_file(folder.join("filler")).unwrap();
    for _ in 0..200 {
        send(MIDNIGHT + stored).unwrap();
        stored += 1;
    }
    assert!(!engine.report().unwrap().disk_full);
    drop(engine);
    let engine = open_at(&config, &ManualClock::at(NOON));
    assert_eq!(engine.summary("a", "m7", MIDNIGHT, NOON).unwrap().count, stored as u64);
}

#[test]
fn a_day_that_nobody_has_open_is_read_on_a_full_disk() {
    use crate::server::storage::day::Day;
    use crate::server::storage::day::file::{day_of, open_reader, open_writer};

    let Some(disk) = SmallDisk::mount("1m") else { return };
    let path = disk.0.path().join("2026-02-09.db");
    let writer = open_writer(&path).unwrap();
    writer.execute_batch("INSERT INTO agents (name, crc) VALUES ('a', 0), ('b', 0)").unwrap();
    drop(writer);
    std::fs::write(disk.0.path().join("filler"), vec![0; 2 << 20]).unwrap_err();
    assert!(matches!(open_reader(&path), Err(StorageError::DiskFull)), "the index has no room");
    let day = Day::new(day_of(NOON), path, &Arc::default());
    let count = |file: &rusqlite::Connection| {
        let rows = file.query_row("SELECT count(*) FROM agents", [], |row| row.get::<_, i64>(0));
        Ok(rows.unwrap())
    };
    assert_eq!(day.read(count).unwrap(), 2);
    day.mark_gone();
    assert!(matches!(day.read(count), Err(StorageError::Moved(_))));
}
