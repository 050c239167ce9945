//! SQL over a store of several days, packed and not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::*;
use crate::base::clock::{DAY_MS, ManualClock, SECOND_MS};
use crate::model::point::{Batch, Point};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::storage::Store as _;
use crate::server::storage::engine::Engine;
use crate::server::storage::submit_batch;

const NOW: i64 = 1_770_681_600_000 + 12 * 3_600_000;

/// Two agents, two days, a hundred ticks each; few enough points a chunk that most are packed.
fn store(dir: &Path) -> Arc<Engine> {
    let config = ServerConfig {
        data_dir: dir.to_owned(),
        storage: crate::server::config::Storage { pack_points: 16, ..Default::default() },
        ..ServerConfig::default()
    };
    let clock = ManualClock::at(NOW);
    let engine = Engine::open(&config, clock, &prometheus::Registry::new()).unwrap();
    for tick in 0..100 {
        for agent in ["web-01", "web-02"] {
            for start in [NOW - DAY_MS, NOW - 2_000 * SECOND_MS] {
                let at = start + tick * 10 * SECOND_MS;
                let batch = Batch {
                    agent_id: agent.into(),
                    timestamp_ms: at,
                    points: vec![
                        Point::plain("cpu.usage", at, tick as f64),
                        Point::labelled("disk.total", "mount", "/", at, 1e12),
                    ],
                };
                let (done, wait) = bounded(1);
                let ack = Box::new(move |outcome| drop(done.send(outcome)));
                assert!(submit_batch(&*engine, batch, ack).is_ok());
                wait.recv().unwrap().unwrap();
            }
        }
    }
    engine
}

fn query(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let count = statement.column_count();
    let rows = statement
        .query_map([], |row| {
            let cells: Result<Vec<String>, _> = (0..count)
                .map(|column| {
                    let value: rusqlite::types::Value = row.get(column)?;
                    Ok(format!("{value:?}"))
                })
                .collect();
            cells.map(|cells| cells.join(" "))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn every_point_of_every_day_is_seen_once_beside_a_running_store() {
    let dir = tempfile::tempdir().unwrap();
    drop(Control::open(dir.path()).unwrap());
    let engine = store(dir.path());
    let sql = open(dir.path()).unwrap();
    assert_eq!(number(&sql, "SELECT count(*) FROM metrics"), 800);
    assert_eq!(number(&sql, "SELECT count(DISTINCT id) FROM metrics"), 800);
    assert_eq!(number(&sql, "SELECT count(*) FROM metrics WHERE agent_id = 'web-01'"), 400);
    let one = "agent_id = 'web-01' AND metric_name = 'cpu.usage'";
    let sum = format!("SELECT CAST(sum(value) AS INTEGER) FROM metrics WHERE {one}");
    assert_eq!(number(&sql, &sum), 2 * 4_950);
    let since = NOW - 2_000 * SECOND_MS + 50 * 10 * SECOND_MS;
    let part = format!("SELECT count(*) FROM metrics WHERE {one} AND timestamp >= {since}");
    assert_eq!(number(&sql, &part), 50);
    let part = format!("SELECT count(*) FROM metrics WHERE {one} AND timestamp > {since}");
    assert_eq!(number(&sql, &part), 49);
    let part = format!("SELECT count(*) FROM metrics WHERE {one} AND timestamp = {since}");
    assert_eq!(number(&sql, &part), 1);
    assert_eq!(number(&sql, "SELECT count(*) FROM metrics WHERE agent_id = 'nobody'"), 0);
    let labels = "SELECT DISTINCT labels FROM metrics WHERE metric_name = 'disk.total'";
    assert_eq!(query(&sql, labels), ["Text(\"{\\\"mount\\\":\\\"/\\\"}\")"]);
    engine.stop();
}

#[test]
fn agent_metric_and_time_are_pushed_down() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let sql = open(dir.path()).unwrap();
    let plan = query(
        &sql,
        "EXPLAIN QUERY PLAN SELECT * FROM metrics WHERE agent_id = 'a' AND metric_name = 'm'
         AND timestamp BETWEEN 1 AND 2 AND value > 3",
    );
    assert!(plan[0].contains("VIRTUAL TABLE INDEX 0:am><"), "{plan:?}");
}

#[test]
fn control_tables_and_events_are_there_and_nothing_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    drop(Control::open(dir.path()).unwrap());
    let engine = store(dir.path());
    let sql = open(dir.path()).unwrap();
    assert_eq!(number(&sql, "SELECT count(*) FROM users"), 0);
    assert_eq!(number(&sql, "SELECT count(*) FROM alert_events"), 0);
    for change in ["DELETE FROM users", "DELETE FROM alert_events", "CREATE TABLE t (x)"] {
        assert!(sql.execute(change, []).is_err(), "{change}");
    }
    engine.stop();
}

#[test]
fn a_folder_without_databases_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(open(dir.path()).unwrap_err().message.contains("no database"));
    assert!(open(Path::new("/no/such/folder")).is_err());
}

#[test]
fn a_file_that_is_not_what_was_written_is_named_and_can_be_left_out() {
    let day = crate::server::storage::day::file::day_of(NOW) - 1;
    for harm in [
        "UPDATE agents SET name = 'web-03' WHERE name = 'web-01'",
        "UPDATE series SET metric = 'cpu.usual' WHERE metric = 'cpu.usage'",
        "UPDATE layouts SET series = '[1]'",
        "DROP VIEW metrics; DROP VIEW metric_chunks; ALTER TABLE agents DROP COLUMN packed",
        "DROP TABLE layouts",
    ] {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path()).stop();
        let path = crate::server::storage::day::file::path_of(dir.path(), day);
        Connection::open(&path).unwrap().execute_batch(harm).unwrap();
        let sql = open(dir.path()).unwrap();
        let error = sql.query_row("SELECT count(*) FROM metrics", [], |row| row.get::<_, i64>(0));
        let error = error.unwrap_err().to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(&format!("{name} is damaged: ")), "{harm}: {error}");
        let rest =
            format!("SELECT count(*) FROM metrics WHERE timestamp >= {}", (day + 1) * DAY_MS);
        assert_eq!(number(&sql, &rest), 400, "{harm}");
    }
}
