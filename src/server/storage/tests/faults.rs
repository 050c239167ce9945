use super::*;
use crate::server::storage::{Page, PointFilter};

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
    let broken = engine.list(&PointFilter::default(), ALL);
    assert!(matches!(broken, Err(StorageError::Damaged { .. })), "{broken:?}");
    wait_for("the file to be set aside", || engine.report().unwrap().damaged.len() == 1);
    // What was still in memory is in the fresh file, and new points are taken.
    wait_for("the head to be kept", || {
        engine.list(&PointFilter::default(), ALL).is_ok_and(|list| list.total > 0)
    });
    wait_for("a new point", || store(&engine, "a", vec![Point::plain("x", NOON, 5.0)]).is_ok());
    assert_eq!(engine.latest("a").unwrap()[0].value, 5.0);
}
