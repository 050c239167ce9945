//! The reference documents that are made from the code. A test fails when one is stale;
//! `make docs` writes them anew.
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
    if let Some(line) = written.lines().zip(fresh.lines()).position(|(old, new)| old != new) {
        panic!("docs/{file} is stale at line {}: run `make docs`", line + 1);
    }
    assert!(written == fresh, "docs/{file} is stale: run `make docs`");
}
