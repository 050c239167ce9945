//! Fuzzing of everything that reads bytes from outside, on stable Rust.
//!
//! Each target takes bytes and returns a word for what became of them. Inputs are mutations of the
//! corpus in `tests/fixtures/corpus/TARGET`; one that gives a new word joins the corpus for the
//! rest of the run, which leads the mutations on without instrumented code. A panic, or an input
//! that takes longer than [`SLOW`], fails the test and is written beside the corpus as `crash-…`;
//! once mended, it stays there as a test.
//!
//! `OXMON_FUZZ_SECS` is the time for each target: half a second by default, a minute in CI, and
//! what `make fuzz` shares out of an hour.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod mutate;
mod receive;
mod targets;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// No input may take longer: well over what the largest takes, on a machine with other work.
const SLOW: Duration = Duration::from_secs(5);
/// Bytes of an input.
const INPUT_BYTES_MAX: usize = 8_192;
/// Inputs kept in memory.
const KEPT_MAX: usize = 4_000;

/// Fuzzes one target for its time.
fn fuzz(name: &str, words: &[&str], mut target: impl FnMut(&[u8]) -> String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus").join(name);
    let mut corpus = read_corpus(&dir);
    assert!(!corpus.is_empty(), "{} has no inputs", dir.display());
    let seed = number("OXMON_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut mutator = Mutator::new(seed, words);
    let mut seen = HashSet::new();
    let mut run = |input: &[u8]| -> bool {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
        let took = started.elapsed();
        let failed = match &outcome {
            Err(_) => Some("panicked".to_owned()),
            Ok(_) if took > SLOW => Some(format!("took {took:?}")),
            Ok(_) => None,
        };
        if let Some(what) = failed {
            let path = keep(&dir, input);
            panic!("{name} {what} on {} (OXMON_FUZZ_SEED={seed})", path.display());
        }
        outcome.is_ok_and(|word| seen.insert(shape(&word)))
    };
    for input in &corpus {
        run(input);
    }
    let time = number("OXMON_FUZZ_SECS").map_or(Duration::from_millis(500), Duration::from_secs);
    let (started, mut runs, kept) = (Instant::now(), 0_u64, corpus.len());
    while started.elapsed() < time {
        let input = mutator.next(&corpus, INPUT_BYTES_MAX);
        if run(&input) && corpus.len() < KEPT_MAX {
            corpus.push(input);
        }
        runs += 1;
    }
    println!("{name}: {runs} inputs, {} of them new, seed {seed}", corpus.len() - kept);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn read_corpus(dir: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an input can be read")).collect()
}

/// Writes an input that failed.
fn keep(dir: &Path, input: &[u8]) -> PathBuf {
    let path = dir.join(format!("crash-{:08x}", crc32fast::hash(input)));
    std::fs::write(&path, input).expect("an input can be written");
    path
}

/// An outcome without its numbers and quoted texts, so that there are not as many as inputs.
fn shape(word: &str) -> String {
    let mut out = String::new();
    for (index, part) in word.split(['`', '"', '\'']).enumerate() {
        if index % 2 == 0 {
            let digits = part.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
            let _ = write!(out, "{}", digits.take(120).collect::<String>().replace("00", "0"));
        }
    }
    out
}
