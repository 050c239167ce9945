//! `oxmon-server sql` and plain `sqlite3`, beside a running server.

use oxmon::base::clock::{DAY_MS, HOUR_MS, utc_day};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;

use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::sql;

const CONFIG: &str = "[storage]\npack_points = 16\n[cert_check]\nenabled = false\n";
const TICKS: i64 = 50;

/// Two agents with two series on two days, most of it packed; gives the first time of the newer.
fn filled(server: &Server) -> i64 {
    let client = Client::to(server.grpc_port);
    let base_ms = now_ms() - HOUR_MS;
    for tick in 0..TICKS {
        for agent in ["web-01", "db-01"] {
            for start in [base_ms - DAY_MS, base_ms] {
                let at = start + tick * 1_000;
                let points = vec![
                    Point::plain("cpu.usage", at, tick as f64 + 0.25),
                    Point::labelled("disk.total", "mount", "/", at, 1e12),
                ];
                let sent = Batch { agent_id: agent.into(), timestamp_ms: at, points };
                assert!(client.report(&batch_to_proto(&sent)).expect("taken").success);
            }
        }
    }
    base_ms
}

#[test]
fn sql_reads_every_day_beside_a_running_server() {
    let server = Server::start(CONFIG);
    let base_ms = filled(&server);
    let data = server.data();
    let columns = "SELECT * FROM metrics WHERE agent_id = 'web-01' AND metric_name = 'cpu.usage'
                   AND timestamp BETWEEN ";
    let one = format!("{columns} {base_ms} AND {base_ms}");
    let row = sql::csv(&data, &one);
    let (head, row) = row.trim_end().split_once('\n').expect("a header and a row");
    assert_eq!(head, "id,timestamp,agent_id,metric_name,value,labels,created_at");
    let cells: Vec<&str> = row.split(',').collect();
    assert_eq!(cells[1..6], [&base_ms.to_string(), "web-01", "cpu.usage", "0.25", "{}"]);
    let created: i64 = cells[6].parse().expect("a time");
    assert!((base_ms..=now_ms()).contains(&created), "{created}");

    let daily = "SELECT agent_id, count(*), sum(value) FROM metrics
                 WHERE metric_name = 'cpu.usage' GROUP BY 1 ORDER BY 1";
    let json = sql::run(&data, &[daily, "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let sum = 2.0 * (0..TICKS).map(|tick| tick as f64 + 0.25).sum::<f64>();
    assert_eq!(rows[0]["agent_id"], "db-01");
    assert_eq!(rows[1]["count(*)"], TICKS * 2);
    assert_eq!(rows[1]["sum(value)"], sum);

    let table = sql::run(&data, &["SELECT username FROM users"]);
    assert_eq!(String::from_utf8_lossy(&table.stdout), "username\n--------\nadmin\n");
    let labels = "SELECT DISTINCT labels FROM metrics WHERE metric_name = 'disk.total'";
    assert_eq!(sql::csv(&data, labels), "labels\n\"{\"\"mount\"\":\"\"/\"\"}\"\n");
    assert_eq!(sql::csv(&data, "SELECT count(*) FROM alert_events"), "count(*)\n0\n");
}

#[test]
fn sql_changes_nothing_and_says_what_is_wrong() {
    let server = Server::start(CONFIG);
    filled(&server);
    let data = server.data();
    let before = sql::csv(&data, "SELECT count(*) FROM metrics");
    for change in ["DELETE FROM metrics", "DELETE FROM users", "DROP TABLE users", "VACUUM"] {
        let out = sql::run(&data, &[change]);
        assert_eq!(out.status.code(), Some(1), "{change}: {out:?}");
        assert!(out.stderr.starts_with(b"oxmon-server: sql: "), "{change}: {out:?}");
    }
    assert_eq!(sql::csv(&data, "SELECT count(*) FROM metrics"), before);
    let out = sql::run(&data, &["SELECT nothing FROM metrics"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("nothing"), "{out:?}");
    assert_eq!(sql::run(&data, &["SELECT 1", "--format", "xml"]).status.code(), Some(2));
    assert_eq!(sql::run(&data, &[]).status.code(), Some(2));
    let nowhere = tempfile::tempdir().unwrap();
    assert_eq!(sql::run(nowhere.path(), &["SELECT 1"]).status.code(), Some(5));
}

#[test]
fn sql_refuses_everything_but_reading() {
    let server = Server::start(CONFIG);
    let data = server.data();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.db");
    let path = copy.display();
    let listing = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    for (statement, word) in [
        (format!("VACUUM INTO '{path}'"), "VACUUM"),
        (format!("VACUUM control INTO '{path}'"), "VACUUM"),
        (format!("/* a */ vacuum into '{path}'"), "VACUUM"),
        (format!("ATTACH '{path}' AS x"), "ATTACH"),
        (format!("ATTACH 'file:{path}?mode=rwc' AS x"), "ATTACH"),
        ("DETACH control".to_owned(), "DETACH"),
        ("PRAGMA query_only = OFF".to_owned(), "PRAGMA query_only"),
        ("PRAGMA journal_mode = DELETE".to_owned(), "PRAGMA journal_mode"),
        ("PRAGMA control.user_version = 7".to_owned(), "PRAGMA user_version"),
        ("PRAGMA wal_checkpoint(TRUNCATE)".to_owned(), "PRAGMA wal_checkpoint"),
        ("PRAGMA writable_schema = ON".to_owned(), "PRAGMA writable_schema"),
        ("PRAGMA temp_store_directory = '/tmp'".to_owned(), "PRAGMA temp_store_directory"),
        ("PRAGMA mmap_size = 0".to_owned(), "PRAGMA mmap_size"),
        ("SELECT load_extension('/tmp/x.so')".to_owned(), "load_extension"),
        ("CREATE TEMP TABLE t (a)".to_owned(), "schema"),
        ("CREATE TABLE t AS SELECT 1".to_owned(), "schema"),
        ("UPDATE users SET role = 'admin'".to_owned(), "change of a table"),
        ("WITH a AS (SELECT 1) DELETE FROM users".to_owned(), "change of a table"),
        ("INSERT INTO users SELECT * FROM users".to_owned(), "change of a table"),
        ("REINDEX".to_owned(), "schema"),
        ("ANALYZE".to_owned(), "refused"),
        ("BEGIN".to_owned(), "transaction"),
    ] {
        let out = sql::run(&data, &[&statement]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{statement}: {said}");
        assert!(said.contains(word) && said.contains("only reads"), "{statement}: {said}");
        assert!(out.stdout.is_empty(), "{statement}");
    }
    assert!(!copy.exists());
    assert_eq!(listing(), before);
    for reading in [
        "PRAGMA table_info(users)",
        "SELECT name FROM pragma_table_info('users')",
        "PRAGMA control.user_version",
        "PRAGMA database_list",
        "EXPLAIN QUERY PLAN SELECT * FROM metrics",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT * FROM n",
        "SELECT json_extract(labels, '$.mount'), count(*) FROM metrics GROUP BY 1",
    ] {
        let out = sql::run(&data, &[reading]);
        assert!(out.status.success(), "{reading}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn sql_prints_nothing_that_a_terminal_or_a_spreadsheet_obeys() {
    let server = Server::start(CONFIG);
    let data = server.data();
    let query = "SELECT char(27) || '[31mred' || char(10) || char(155) || char(8238) AS a, -1 AS b";
    let table = sql::run(&data, &[query]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.lines().count(), 3, "{table:?}");
    assert!(table.contains(r"\u{1b}[31mred\n\u{9b}\u{202e}"), "{table:?}");
    let head = sql::run(&data, &["SELECT 1 AS \"a\u{1b}[2J\""]);
    assert!(!head.stdout.contains(&27), "{head:?}");
    let csv = sql::csv(&data, "SELECT '=1+1' AS a, '@x' AS b, '-5' AS c, -5 AS d, '-5a' AS e");
    assert_eq!(csv, "a,b,c,d,e\n\"'=1+1\",\"'@x\",-5,-5,\"'-5a\"\n");
}

#[test]
fn sql_takes_the_configuration_as_its_sister_commands_do() {
    let server = Server::start(CONFIG);
    let config = server.data().with_file_name("server.toml");
    let out = sql::run(&config, &["SELECT username FROM users", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "username\r\nadmin\r\n", "{out:?}");
    let order = sql::run(&config, &["SELECT 1 AS z, 2 AS a", "--format", "json"]);
    assert_eq!(String::from_utf8_lossy(&order.stdout), "[\n{\"z\":1,\"a\":2}\n]\n");
    let missing = sql::run(&config.with_file_name("none.toml"), &["SELECT 1"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}

#[test]
fn plain_sqlite_sees_a_days_points_and_chunks() {
    let server = Server::start(CONFIG);
    let base_ms = filled(&server);
    let file = server.data().join(format!("{}.db", utc_day(base_ms)));
    let log: u64 = sql::sqlite3(&file, "SELECT count(*) FROM metrics").parse().expect("a number");
    let packed = sql::sqlite3(&file, "SELECT sum(count) FROM metric_chunks");
    let packed: u64 = packed.parse().expect("a number");
    assert!(packed > 0, "some points are packed");
    // A day's end may lie within the fifty seconds.
    let today = format!("SELECT count(*) FROM metrics WHERE id LIKE '{}-%'", utc_day(base_ms));
    let all = sql::csv(&server.data(), &today);
    assert_eq!(all, format!("count(*)\n{}\n", log + packed));
    let columns =
        sql::sqlite3(&file, "SELECT group_concat(name) FROM pragma_table_info('metrics')");
    assert_eq!(columns, "id,timestamp,agent_id,metric_name,value,labels,created_at");
    let chunk = sql::sqlite3(
        &file,
        "SELECT metric_name, labels, min, max, avg, first, last FROM metric_chunks
         WHERE agent_id = 'web-01' AND metric_name = 'disk.total' ORDER BY start_time LIMIT 1",
    );
    let value = "1000000000000.0";
    let same = [value; 5].join("|");
    assert_eq!(chunk, format!("disk.total|{{\"mount\":\"/\"}}|{same}"));
    assert_eq!(sql::sqlite3(&file, "PRAGMA integrity_check"), "ok");
}
