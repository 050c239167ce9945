//! A `data_dir` as the first release leaves it: every table, several days of points. Made by SQL
//! when a test runs; `OXMON_IMPORT_POINTS` sets how many points.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::symm::{Cipher, encrypt_aead};
use oxmon::base::clock::{DAY_MS, utc_day};
use rusqlite::{Connection, params};

use super::grpc::now_ms;

/// Days with points, the newest of them yesterday.
pub const DAYS: i64 = 5;
/// The password of `admin`, which everybody knows.
pub const DEFAULT_PASSWORD: &str = "changeme";
/// The password of `alice`.
pub const ALICES_PASSWORD: &str = "correct horse battery";
/// The token of the agent `web-01`.
pub const TOKEN: &str = "q0Vb2mJ0mB4n5mO0yq8kq0r7m2s1c3f5h7j9l1n3p5E=";
/// Agents with points.
pub const AGENTS: i64 = 6;

const CONTROL: &str = include_str!("../../fixtures/first_release/cert.sql");
const DAY: &str = include_str!("../../fixtures/first_release/day.sql");

/// How many points a fixture has.
pub fn points() -> i64 {
    let set = std::env::var("OXMON_IMPORT_POINTS").ok();
    set.map_or(60_000, |text| text.parse().expect("OXMON_IMPORT_POINTS is a number"))
}

/// Dates with points, oldest first.
pub fn dates() -> Vec<String> {
    (1..=DAYS).rev().map(|back| utc_day(now_ms() - back * DAY_MS)).collect()
}

/// Makes the folder.
pub fn make(dir: &Path, points: i64) {
    std::fs::create_dir_all(dir).unwrap();
    control(dir);
    let dates = dates();
    for (index, date) in dates.iter().enumerate() {
        day(&dir.join(format!("{date}.db")), index as i64, points / DAYS);
    }
}

fn control(dir: &Path) {
    let key = [7; 32];
    std::fs::write(dir.join("token.key"), key).unwrap();
    let db = open(&dir.join("cert.db"));
    db.execute_batch(CONTROL).unwrap();
    for (id, name, password) in
        [("101", "admin", DEFAULT_PASSWORD), ("102", "alice", ALICES_PASSWORD)]
    {
        let hash = bcrypt::hash_with_salt(password, 5, [9; 16]).unwrap().to_string();
        let sql = "INSERT INTO users VALUES (?1, ?2, ?3, 3, 1770000000, 1770000100)";
        db.execute(sql, [id, name, &hash]).unwrap();
    }
    let (nonce, mut tag) = ([3; 12], [0; 16]);
    let cipher = Cipher::aes_256_gcm();
    let sealed = encrypt_aead(cipher, &key, Some(&nonce), &[], TOKEN.as_bytes(), &mut tag).unwrap();
    let text = STANDARD.encode([nonce.as_slice(), &sealed, &tag].concat());
    let sql =
        "INSERT INTO agent_whitelist VALUES (?1, ?2, 'unused', ?3, ?4, 1770000000, 1770000200)";
    db.execute(sql, params!["201", "web-01", text, "the first"]).unwrap();
    db.execute(sql, params!["202", "web-02", None::<String>, None::<String>]).unwrap();
}

/// 31 series an agent, each collector with a time of its own, as the first agent reported.
fn day(path: &Path, index: i64, points: i64) {
    let db = open(path);
    db.execute_batch(DAY).unwrap();
    let start_ms = (now_ms().div_euclid(DAY_MS) - DAYS + index) * DAY_MS;
    let steps = points / 31 / AGENTS + 1;
    let interval = (DAY_MS - 60_000) / steps;
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").unwrap();
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
         INSERT INTO metrics
         SELECT ?2 * 100000000 + i, ?3 + i / 31 / ?4 * ?5 + s.late, 'host-' || (i / 31 % ?4),
                s.metric, s.scale * (1 + ((i * 7919 + ?2) % 1000003) / 1000003.0), s.labels,
                (?3 + i / 31 / ?4 * ?5) / 1000, (?3 + i / 31 / ?4 * ?5) / 1000
         FROM n JOIN fixture_series s ON s.no = i % 31",
        params![points, index + 1, start_ms, AGENTS, interval],
    )
    .unwrap();
    db.execute_batch("DROP TABLE fixture_series").unwrap();
    let event = "INSERT INTO alert_events (id, rule_id, rule_name, agent_id, metric_name, severity,
        message, value, threshold, timestamp, predicted_breach, labels, first_triggered_at,
        created_at, updated_at, status)
        VALUES (?1, '301', ?2, 'host-0', 'cpu.usage', ?3, 'cpu.usage above 90', 93.5, 90.0, ?4,
                ?5, '{\"core\":\"1\"}', ?6, ?7, ?7, ?8)";
    let (at, secs) = (start_ms + 3_600_000, start_ms / 1_000 + 3_700);
    for (number, (name, severity, status)) in [
        ("high cpu", "critical", Some("open")),
        ("high cpu", "warning", Some("acknowledged")),
        ("", "info", Some("resolved")),
        ("high cpu", "warning", None),
    ]
    .into_iter()
    .enumerate()
    {
        let number = number as i64;
        let id = format!("{}", 9_000_000 + index * 10 + number);
        let breach = (number == 1).then_some(at + 86_400_000);
        let first = (number == 0).then_some(at - 60_000);
        let values = params![id, name, severity, at + number, breach, first, secs, status];
        db.execute(event, values).unwrap();
    }
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db
}

/// Every file of a folder with its size, time of change and content's checksum.
pub fn state(dir: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime, u32)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::metadata(&path).unwrap();
        let sum = crc32fast::hash(&std::fs::read(&path).unwrap());
        files.insert(path, (meta.len(), meta.modified().unwrap(), sum));
    }
    files
}
