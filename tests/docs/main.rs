//! The reference documents that are made from the code. A test fails when one is stale;
//! `make docs` writes them again.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod api;
mod configuration;
mod limits;
mod metrics;

use std::path::PathBuf;

/// Compares a document with what the code says now, or writes it when `OXMON_WRITE_DOCS` is set.
fn check(file: &str, fresh: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    if std::env::var_os("OXMON_WRITE_DOCS").is_some() {
        std::fs::write(&path, fresh).expect("the document is written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = first_difference(&written, fresh) {
        panic!("docs/{file} is stale at line {line}: run `make docs`");
    }
}

/// The first line, from 1, at which a document is not what the code says.
fn first_difference(written: &str, fresh: &str) -> Option<usize> {
    let differs = written.lines().zip(fresh.lines()).position(|(old, new)| old != new);
    let shorter = written.lines().count().min(fresh.lines().count());
    differs.or((written != fresh).then_some(shorter)).map(|index| index + 1)
}

#[test]
fn a_stale_document_is_found() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
    assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    assert_eq!(first_difference("a\nb\n", "a\n"), Some(2));
    assert_eq!(first_difference("", "a\n"), Some(1));
    assert_eq!(first_difference("a", "a\n"), Some(2));
}
