#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::model::point::Point;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::FileExt as _;

const NOW_MS: i64 = 1_770_625_800_000;

fn set(number: i64) -> SampleSet {
    let timestamp_ms = NOW_MS + number * 10_000;
    let points = vec![
        Point::plain("load.load_1", timestamp_ms, number as f64),
        Point::labelled("disk.total", "mount", "/", timestamp_ms, 1e12),
    ];
    SampleSet { timestamp_ms, points }
}

fn open(dir: &Path, sets_max: usize) -> Buffer {
    Buffer::open(Some(dir), sets_max, NOW_MS)
}

/// All that waits, by the numbers of [`sample set`], in order.
fn waiting(buffer: &mut Buffer) -> Vec<i64> {
    let Some(front) = buffer.front(usize::MAX) else { return Vec::new() };
    front.sets.iter().map(|set| (set.timestamp_ms - NOW_MS) / 10_000).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "oxb"))
        .collect();
    all.sort();
    all
}

#[test]
fn memory_alone_keeps_order_and_gives_up_the_oldest() {
    let mut buffer = Buffer::open(None, 3, NOW_MS);
    for number in 0..5 {
        buffer.push(&set(number));
    }
    assert_eq!((buffer.len(), buffer.dropped()), (3, 2));
    assert_eq!(waiting(&mut buffer), [2, 3, 4]);
    let front = buffer.front(4).unwrap();
    assert_eq!(front.sets, [set(2), set(3)]);
    buffer.done(front.from, front.to);
    assert_eq!(waiting(&mut buffer), [4]);
}

#[test]
fn what_was_pushed_is_there_after_a_restart_and_gone_once_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = open(dir.path(), 100);
    for number in 0..5 {
        buffer.push(&set(number));
    }
    let front = buffer.front(6).unwrap();
    buffer.done(front.from, front.to);
    drop(buffer);
    let mut buffer = open(dir.path(), 100);
    assert_eq!(waiting(&mut buffer), [3, 4]);
    let (sequence, newest) = buffer.newest().unwrap();
    assert_eq!(newest, set(4));
    buffer.done(sequence, sequence);
    drop(buffer);
    let mut buffer = open(dir.path(), 100);
    assert_eq!(waiting(&mut buffer), [3]);
    let front = buffer.front(1).unwrap();
    buffer.done(front.from, front.to);
    assert!(segments(dir.path()).is_empty(), "nothing waits, so no file is left");
}

#[test]
fn the_files_stay_small_however_long_the_outage() {
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = open(dir.path(), 50);
    let points = (0..400)
        .map(|n| Point::labelled("network.bytes_recv", "interface", &n.to_string(), NOW_MS, 1.0))
        .collect();
    let big = SampleSet { timestamp_ms: NOW_MS, points };
    for _ in 0..400 {
        buffer.push(&big);
    }
    let size: u64 = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!((buffer.len(), buffer.dropped()), (50, 350));
    assert!(size < 1024 * 1024, "{size}");
}

#[test]
fn damage_in_the_middle_costs_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = open(dir.path(), 100);
    for number in 0..9 {
        buffer.push(&set(number));
    }
    drop(buffer);
    let file = segments(dir.path()).remove(0);
    let size = fs::metadata(&file).unwrap().len();
    let handle = fs::OpenOptions::new().write(true).open(&file).unwrap();
    handle.write_all_at(b"\xff\xff\xff", size / 2).unwrap();
    let mut buffer = open(dir.path(), 100);
    let left = waiting(&mut buffer);
    assert_eq!(left.len(), 8, "{left:?}");
    assert!(left.is_sorted());
}

#[test]
fn a_folder_that_can_not_be_used_is_used_once_it_can() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("buffer");
    fs::write(&dir, "in the way").unwrap();
    let mut buffer = open(&dir, 100);
    buffer.push(&set(0));
    buffer.push(&set(1));
    assert_eq!(waiting(&mut buffer), [0, 1]);
    fs::remove_file(&dir).unwrap();
    buffer.push(&set(2));
    drop(buffer);
    assert_eq!(waiting(&mut open(&dir, 100)), [0, 1, 2]);
}

#[test]
fn a_folder_in_use_by_another_agent_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), 100);
    first.push(&set(0));
    let mut second = Buffer::open(Some(dir.path()), 100, NOW_MS + 1);
    second.push(&set(7));
    assert_eq!(waiting(&mut second), [7]);
    assert_eq!(waiting(&mut first), [0]);
    drop(first);
    second.push(&set(8));
    assert_eq!(waiting(&mut second), [0, 7, 8]);
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0000000000000001.oxb");
    fs::write(&path, b"OXMBUF\x02\x00something new").unwrap();
    let mut buffer = open(dir.path(), 100);
    let sequence = buffer.push(&set(0));
    buffer.done(sequence, sequence);
    assert!(path.exists());
}

#[test]
fn a_new_folder_takes_what_waits() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut buffer = open(old.path(), 100);
    for number in 0..4 {
        buffer.push(&set(number));
    }
    buffer.reconfigure(Some(new.path()), 3);
    assert_eq!(waiting(&mut buffer), [1, 2, 3]);
    drop(buffer);
    assert!(waiting(&mut open(old.path(), 100)).is_empty());
    assert_eq!(waiting(&mut open(new.path(), 100)), [1, 2, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    /// The oldest so many are done.
    Done(usize),
    /// The newest is done before the others.
    DoneNewest,
    /// SIGKILL after so many thousandths of what the step before wrote.
    Crash(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Push),
        2 => (1..5_usize).prop_map(Step::Done),
        1 => Just(Step::DoneNewest),
        2 => (0..=1000_u64).prop_map(Step::Crash),
    ]
}

/// What waits, as it should be: number and sequence.
type Model = Vec<(i64, u64)>;

/// The newest segment with its length, and the oldest.
fn newest(dir: &Path) -> (PathBuf, u64, Option<PathBuf>) {
    let all = segments(dir);
    let last = all.last().cloned().unwrap_or_default();
    let size = fs::metadata(&last).map_or(0, |data| data.len());
    (last, size, all.first().cloned())
}

fn apply(step: &Step, buffer: &mut Buffer, model: &mut Model, number: &mut i64) {
    let gone = match step {
        Step::Push => {
            model.push((*number, buffer.push(&set(*number))));
            *number += 1;
            return;
        }
        Step::Done(count) => model.drain(..(*count).min(model.len())).collect::<Vec<_>>(),
        Step::DoneNewest => model.pop().into_iter().collect(),
        Step::Crash(_) => return,
    };
    if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
        buffer.done(first.1, last.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_is_whole_stays_in_order_once(steps in proptest::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = open(dir.path(), 1000);
        let (mut number, mut model) = (0, Model::new());
        let mut before = (newest(dir.path()), model.clone());
        for step in steps {
            if let Step::Crash(per_mille) = step {
                drop(buffer);
                let ((old_file, old_size, old_first), old_model) = before;
                let (file, size, first) = newest(dir.path());
                let start = if file == old_file { old_size } else { 0 };
                let cut = start + (size - start) * per_mille / 1000;
                // Files are deleted only after the note that allows it was written.
                if cut < size && (old_first.is_none() || first == old_first) {
                    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();
                    model = old_model;
                }
                buffer = open(dir.path(), 1000);
            }
            before = (newest(dir.path()), model.clone());
            apply(&step, &mut buffer, &mut model, &mut number);
            let numbers: Vec<i64> = model.iter().map(|(number, _)| *number).collect();
            prop_assert_eq!(waiting(&mut buffer), numbers);
        }
    }
}
