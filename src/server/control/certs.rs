//! Domains whose certificates are checked. What checks found is in `checks`.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use crate::server::storage::{Listing, Page};

pub(crate) mod checks;

/// `cert_domains` keeps its columns (docs/compatibility.md), so that SQL by hand goes on working: a
/// row put in by hand is checked like any other. `state` is the result of the last check: `new`
/// (none yet of the domain as it is now), `seen` (a certificate was served) or `unseen` (none was).
pub(crate) const SCHEMA: &str = "
CREATE TABLE cert_domains (
  id TEXT PRIMARY KEY,
  domain TEXT NOT NULL UNIQUE,
  port INTEGER NOT NULL DEFAULT 443,
  enabled INTEGER NOT NULL DEFAULT 1,
  check_interval_secs INTEGER,
  note TEXT,
  starttls TEXT,
  state TEXT NOT NULL DEFAULT 'new',
  last_checked_at INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE cert_checks (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL REFERENCES cert_domains(id) ON DELETE CASCADE,
  is_valid INTEGER NOT NULL,
  chain_valid INTEGER NOT NULL,
  not_before_ms INTEGER,
  not_after_ms INTEGER,
  days_until_expiry INTEGER,
  issuer TEXT,
  subject TEXT,
  san_list TEXT,
  resolved_ips TEXT,
  error_kind TEXT,
  error TEXT,
  addresses TEXT NOT NULL,
  checked_at_ms INTEGER NOT NULL
);
CREATE INDEX cert_checks_domain ON cert_checks (domain_id, checked_at_ms);
CREATE TABLE certificates (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL UNIQUE REFERENCES cert_domains(id) ON DELETE CASCADE,
  not_after_ms INTEGER NOT NULL,
  issuer TEXT NOT NULL,
  ip_addresses TEXT NOT NULL,
  chain_valid INTEGER NOT NULL,
  chain_error TEXT,
  details TEXT NOT NULL,
  last_checked_ms INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
";

/// What version 3 changes: a domain may be checked on several ports. SQLite drops no constraint, so
/// the three tables are made again; children first, since dropping a parent deletes their rows.
pub(crate) const SCHEMA_3: &str = "
CREATE TABLE cert_domains_3 (
  id TEXT PRIMARY KEY,
  domain TEXT NOT NULL,
  port INTEGER NOT NULL DEFAULT 443,
  enabled INTEGER NOT NULL DEFAULT 1,
  check_interval_secs INTEGER,
  note TEXT,
  starttls TEXT,
  state TEXT NOT NULL DEFAULT 'new',
  last_checked_at INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (domain, port)
);
INSERT INTO cert_domains_3 SELECT id, domain, port, enabled, check_interval_secs, note, starttls,
  state, last_checked_at, created_at, updated_at FROM cert_domains;
CREATE TABLE cert_checks_3 (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL REFERENCES cert_domains_3(id) ON DELETE CASCADE,
  is_valid INTEGER NOT NULL,
  chain_valid INTEGER NOT NULL,
  not_before_ms INTEGER,
  not_after_ms INTEGER,
  days_until_expiry INTEGER,
  issuer TEXT,
  subject TEXT,
  san_list TEXT,
  resolved_ips TEXT,
  error_kind TEXT,
  error TEXT,
  addresses TEXT NOT NULL,
  checked_at_ms INTEGER NOT NULL
);
INSERT INTO cert_checks_3 SELECT * FROM cert_checks;
CREATE TABLE certificates_3 (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL UNIQUE REFERENCES cert_domains_3(id) ON DELETE CASCADE,
  not_after_ms INTEGER NOT NULL,
  issuer TEXT NOT NULL,
  ip_addresses TEXT NOT NULL,
  chain_valid INTEGER NOT NULL,
  chain_error TEXT,
  details TEXT NOT NULL,
  last_checked_ms INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
INSERT INTO certificates_3 SELECT * FROM certificates;
DROP TABLE cert_checks;
DROP TABLE certificates;
DROP TABLE cert_domains;
ALTER TABLE cert_domains_3 RENAME TO cert_domains;
ALTER TABLE cert_checks_3 RENAME TO cert_checks;
ALTER TABLE certificates_3 RENAME TO certificates;
CREATE INDEX cert_checks_domain ON cert_checks (domain_id, checked_at_ms);
";

/// The last check saw a certificate.
pub(crate) const SEEN: &str = "seen";
/// The last check saw none.
pub(crate) const UNSEEN: &str = "unseen";

/// A domain; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of cert_domains")]
pub struct DomainRow {
    pub id: String,
    pub domain: String,
    pub port: i64,
    pub enabled: bool,
    pub check_interval_secs: Option<i64>,
    pub note: Option<String>,
    pub starttls: Option<String>,
    pub last_checked_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
}

const COLUMNS: &str = "id, domain, port, enabled, check_interval_secs, note, starttls, \
    last_checked_at, created_at, updated_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<DomainRow> {
    Ok(DomainRow {
        id: row.get(0)?,
        domain: row.get(1)?,
        port: row.get(2)?,
        enabled: row.get(3)?,
        check_interval_secs: row.get(4)?,
        note: row.get(5)?,
        starttls: row.get(6)?,
        last_checked_at: row.get(7)?,
        created_at: row.get(8)?,
        updated_at: row.get(9)?,
    })
}

/// Which domains a list is about. `None` means any.
#[derive(Debug, Clone, Default)]
pub(crate) struct DomainFilter {
    /// Those that are checked, or those that are not.
    pub enabled: Option<bool>,
    /// Those with this in their name.
    pub contains: Option<String>,
}

/// A page of the domains, by name.
pub(crate) fn list(
    db: &Connection,
    filter: &DomainFilter,
    page: Page,
) -> rusqlite::Result<Listing<DomainRow>> {
    let mut condition = "1".to_owned();
    let mut values: Vec<Value> = Vec::new();
    if let Some(enabled) = filter.enabled {
        condition.push_str(" AND enabled = ?");
        values.push(Value::Integer(enabled.into()));
    }
    if let Some(part) = &filter.contains {
        condition.push_str(" AND instr(domain, ?)");
        values.push(Value::Text(part.to_lowercase()));
    }
    let sql = format!("SELECT COUNT(*) FROM cert_domains WHERE {condition}");
    let total: i64 = db.query_row(&sql, params_from_iter(&values), |row| row.get(0))?;
    let sql = format!(
        "SELECT {COLUMNS} FROM cert_domains WHERE {condition} ORDER BY domain, port LIMIT ? OFFSET ?"
    );
    values.extend([Value::Integer(page.limit as i64), Value::Integer(page.offset as i64)]);
    let mut query = db.prepare_cached(&sql)?;
    let items = query.query_map(params_from_iter(&values), from_row)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total: total.unsigned_abs() })
}

/// The domain with this id, or else that of this name: of several ports 443, or the one that was
/// added first. `name:port` names one of them.
pub(crate) fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<DomainRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cert_domains
         WHERE id = ?1 OR domain = ?1 OR domain || ':' || port = ?1
         ORDER BY id = ?1 DESC, port = 443 DESC, created_at, id LIMIT 1"
    );
    db.prepare_cached(&sql)?.query_row([key], from_row).optional()
}

/// How many domains there are.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = db.query_row("SELECT COUNT(*) FROM cert_domains", [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Adds a domain; false when its name and port are there already.
pub(crate) fn insert(db: &Connection, row: &DomainRow) -> rusqlite::Result<bool> {
    let added = db
        .prepare_cached(
            "INSERT INTO cert_domains (id, domain, port, enabled, check_interval_secs, note,
               starttls, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (domain, port) DO NOTHING",
        )?
        .execute(params![
            row.id,
            row.domain,
            row.port,
            row.enabled,
            row.check_interval_secs,
            row.note,
            row.starttls,
            row.created_at,
            row.updated_at
        ])?;
    Ok(added == 1)
}

/// Writes what of a domain can change. What is asked of another port, or in another protocol, has
/// not been checked yet.
pub(crate) fn update(db: &Connection, row: &DomainRow) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE cert_domains SET
           state = CASE WHEN port = ?2 AND starttls IS ?6 THEN state ELSE 'new' END,
           port = ?2, enabled = ?3, check_interval_secs = ?4, note = ?5, starttls = ?6,
           updated_at = ?7 WHERE id = ?1",
    )?
    .execute(params![
        row.id,
        row.port,
        row.enabled,
        row.check_interval_secs,
        row.note,
        row.starttls,
        row.updated_at
    ])
    .map(drop)
}

/// Removes a domain with all that was found of it.
pub(crate) fn delete(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM cert_domains WHERE id = ?1", [id]).map(drop)
}

/// Name and port of the domains that are checked.
pub(crate) fn watched(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut query = db.prepare_cached("SELECT domain, port FROM cert_domains WHERE enabled = 1")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Ids of the domains that are checked, by name.
pub(crate) fn enabled(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query =
        db.prepare_cached("SELECT id FROM cert_domains WHERE enabled = 1 ORDER BY domain")?;
    query.query_map([], |row| row.get(0))?.collect()
}

/// Ids of domains whose check is due at `now_secs`, the one that waits for longest first.
///
/// A new domain is due at once. One that served nothing is due again after a 24th of its
/// interval, a minute at the least, so that a passing fault does not stay for a whole day. A last
/// check that lies ahead is one from before the clock was set back.
pub(crate) fn due(
    db: &Connection,
    now_secs: i64,
    default_secs: i64,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare_cached(
        "WITH checked AS (
           SELECT id, state, last_checked_at AS last,
             COALESCE(check_interval_secs, ?2) AS every FROM cert_domains WHERE enabled = 1)
         SELECT id FROM checked
         WHERE state = 'new' OR last IS NULL OR last > ?1
           OR last + CASE state WHEN 'unseen' THEN MAX(every / 24, MIN(every, 60)) ELSE every END
              <= ?1
         ORDER BY COALESCE(last, 0), id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query.query_map([now_secs, default_secs, limit], |row| row.get(0))?.collect()
}

/// Notes that a domain was checked as it is in `row`; false when it has been changed
/// meanwhile, or removed.
pub(crate) fn set_checked(
    db: &Connection,
    row: &DomainRow,
    state: &str,
    now_secs: i64,
) -> rusqlite::Result<bool> {
    let changed = db
        .prepare_cached(
            "UPDATE cert_domains SET state = ?4, last_checked_at = ?5
             WHERE id = ?1 AND port = ?2 AND starttls IS ?3",
        )?
        .execute(params![row.id, row.port, row.starttls, state, now_secs])?;
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(id: &str, port: i64) -> DomainRow {
        DomainRow {
            id: id.to_owned(),
            domain: "a.example".to_owned(),
            port,
            enabled: true,
            check_interval_secs: None,
            note: None,
            starttls: None,
            last_checked_at: None,
            created_at: 1,
            updated_at: 1,
        }
    }

    #[test]
    fn a_domain_of_version_2_keeps_what_was_found_and_takes_more_ports() {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "foreign_keys", "ON").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db.execute_batch(
            "INSERT INTO cert_domains (id, domain, port, created_at, updated_at)
             VALUES ('a', 'a.example', 8443, 1, 1);
             INSERT INTO cert_checks (id, domain_id, is_valid, chain_valid, addresses,
               checked_at_ms) VALUES ('c', 'a', 1, 1, '[]', 5);
             INSERT INTO certificates VALUES ('x', 'a', 9, 'i', '[]', 1, NULL, '{}', 5, 1, 1);",
        )
        .unwrap();
        let transaction = db.unchecked_transaction().unwrap();
        db.execute_batch(SCHEMA_3).unwrap();
        transaction.commit().unwrap();
        let count = |table: &str| -> i64 {
            db.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("cert_checks"), count("certificates")), (1, 1));
        assert!(insert(&db, &row("b", 443)).unwrap());
        assert!(!insert(&db, &row("c", 443)).unwrap(), "name and port are taken");
        let id = |key: &str| get(&db, key).unwrap().map(|row| row.id);
        assert_eq!(id("a.example").as_deref(), Some("b"), "443 stands for the name");
        assert_eq!(id("a.example:8443").as_deref(), Some("a"));
        assert_eq!(id("a.example:25"), None);
        assert_eq!(watched(&db).unwrap().len(), 2);
        delete(&db, "a").unwrap();
        assert_eq!((count("cert_checks"), count("certificates")), (0, 0), "children go with it");
    }
}
