#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::model::point::Point;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::FileExt as _;

const NOW_MS: i64 = 1_770_625_800_000;

fn tick(number: i64) -> Tick {
    let timestamp_ms = NOW_MS + number * 10_000;
    let points = vec![
        Point::plain("load.load_1", timestamp_ms, number as f64),
        Point::labelled("disk.total", "mount", "/", timestamp_ms, 1e12),
    ];
    Tick { timestamp_ms, points }
}

fn open(dir: &Path, ticks_max: usize) -> Buffer {
    Buffer::open(Some(dir), ticks_max, NOW_MS)
}

/// All that waits, by the numbers of [`tick`], in order.
fn waiting(buffer: &mut Buffer) -> Vec<i64> {
    let Some(front) = buffer.front(usize::MAX) else { return Vec::new() };
    front.ticks.iter().map(|tick| (tick.timestamp_ms - NOW_MS) / 10_000).collect()
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
        buffer.push(&tick(number));
    }
    assert_eq!((buffer.len(), buffer.dropped()), (3, 2));
    assert_eq!(waiting(&mut buffer), [2, 3, 4]);
    let front = buffer.front(4).unwrap();
    assert_eq!(front.ticks, [tick(2), tick(3)]);
    buffer.done(front.from, front.to);
    assert_eq!(waiting(&mut buffer), [4]);
}

#[test]
fn what_was_pushed_is_there_after_a_restart_and_gone_once_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = open(dir.path(), 100);
    for number in 0..5 {
        buffer.push(&tick(number));
    }
    let front = buffer.front(6).unwrap();
    buffer.done(front.from, front.to);
    drop(buffer);
    let mut buffer = open(dir.path(), 100);
    assert_eq!(waiting(&mut buffer), [3, 4]);
    let (sequence, newest) = buffer.newest().unwrap();
    assert_eq!(newest, tick(4));
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
    let big = Tick { timestamp_ms: NOW_MS, points };
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
        buffer.push(&tick(number));
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
    buffer.push(&tick(0));
    buffer.push(&tick(1));
    assert_eq!(waiting(&mut buffer), [0, 1]);
    fs::remove_file(&dir).unwrap();
    buffer.push(&tick(2));
    drop(buffer);
    assert_eq!(waiting(&mut open(&dir, 100)), [0, 1, 2]);
}

#[test]
fn a_folder_in_use_by_another_agent_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), 100);
    first.push(&tick(0));
    let mut second = open(dir.path(), 100);
    second.push(&tick(7));
    assert_eq!(waiting(&mut second), [7]);
    assert_eq!(waiting(&mut first), [0]);
    drop(first);
    second.push(&tick(8));
    assert_eq!(waiting(&mut second), [0, 7, 8]);
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0000000000000001.oxb");
    fs::write(&path, b"OXMBUF\x02\x00something new").unwrap();
    let mut buffer = open(dir.path(), 100);
    let sequence = buffer.push(&tick(0));
    buffer.done(sequence, sequence);
    assert!(path.exists());
}

#[test]
fn a_new_folder_takes_what_waits() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut buffer = open(old.path(), 100);
    for number in 0..4 {
        buffer.push(&tick(number));
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
    /// The process ends, and so much of the newest segment is left, in 1/1000.
    Crash(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Push),
        2 => (1..5_usize).prop_map(Step::Done),
        1 => Just(Step::DoneNewest),
        1 => (0..=1000_u64).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_whole_is_lost_or_comes_back(steps in proptest::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = open(dir.path(), 1000);
        let mut number = 0;
        // What should wait, and what each record did to it, with the newest segment's length then.
        let mut model: Vec<(i64, u64)> = Vec::new();
        let mut journal: Vec<(PathBuf, u64, Vec<(i64, u64)>)> = Vec::new();
        for step in steps {
            match step {
                Step::Push => {
                    let sequence = buffer.push(&tick(number));
                    model.push((number, sequence));
                    number += 1;
                }
                Step::Done(count) if !model.is_empty() => {
                    let gone: Vec<_> = model.drain(..count.min(model.len())).collect();
                    buffer.done(gone[0].1, gone[gone.len() - 1].1);
                }
                Step::DoneNewest => {
                    if let Some((_, sequence)) = model.pop() {
                        buffer.done(sequence, sequence);
                    }
                }
                Step::Done(_) => {}
                Step::Crash(per_mille) => {
                    drop(buffer);
                    if let Some(last) = segments(dir.path()).pop() {
                        let cut = fs::metadata(&last).unwrap().len() * per_mille / 1000;
                        let file = fs::OpenOptions::new().write(true).open(&last).unwrap();
                        file.set_len(cut).unwrap();
                        // Only steps that wrote to this segment can be undone by the cut.
                        let start = journal.iter().position(|(path, _, _)| *path == last);
                        let before = match start {
                            Some(0) | None => Vec::new(),
                            Some(at) => journal[at - 1].2.clone(),
                        };
                        model = journal[start.unwrap_or(0)..].iter().rfind(|(_, end, _)| *end <= cut)
                            .map_or(before, |(_, _, state)| state.clone());
                    }
                    buffer = open(dir.path(), 1000);
                    let numbers: Vec<i64> = model.iter().map(|(number, _)| *number).collect();
                    prop_assert_eq!(waiting(&mut buffer), numbers);
                    journal.clear();
                    let all = segments(dir.path());
                    if let Some(last) = all.last() {
                        let end = fs::metadata(last).unwrap().len();
                        journal.push((last.clone(), end.min(8), model.clone()));
                    }
                    continue;
                }
            }
            match segments(dir.path()).pop() {
                Some(last) => {
                    let end = fs::metadata(&last).unwrap().len();
                    journal.push((last, end, model.clone()));
                }
                None => journal.clear(),
            }
        }
        let numbers: Vec<i64> = model.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(waiting(&mut buffer), numbers);
    }
}
