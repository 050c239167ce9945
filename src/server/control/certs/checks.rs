//! What checks found: the history of each domain, and the newest certificate that it served.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use serde::{Deserialize, Serialize};

use crate::base::limits::CERT_CHECKS_PER_DOMAIN_MAX;
use crate::server::storage::{Listing, Page};

/// What one address of a name served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the API's CertAddress documents the fields")]
pub struct AddressRow {
    pub address: String,
    pub is_valid: bool,
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub not_after_ms: Option<i64>,
    pub fingerprint_sha256: Option<String>,
}

/// One check. Lists are stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's CertCheck documents the fields")]
pub struct CheckRow {
    pub id: String,
    pub domain_id: String,
    /// Read from the domain.
    pub domain: String,
    pub is_valid: bool,
    pub chain_valid: bool,
    pub not_before_ms: Option<i64>,
    pub not_after_ms: Option<i64>,
    pub days_until_expiry: Option<i64>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub san_list: Option<Vec<String>>,
    pub resolved_ips: Option<Vec<String>>,
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub addresses: Vec<AddressRow>,
    pub checked_at_ms: i64,
}

/// The newest certificate of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of certificates")]
pub(crate) struct CertificateRow {
    pub id: String,
    pub domain_id: String,
    /// Read from the domain.
    pub domain: String,
    pub not_after_ms: i64,
    pub issuer: String,
    pub ip_addresses: Vec<String>,
    pub chain_valid: bool,
    pub chain_error: Option<String>,
    /// The other fields of the certificate, as JSON.
    pub details: String,
    pub last_checked_ms: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
}

/// Domains counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract names them")]
pub struct Counts {
    pub total_domains: u64,
    pub valid: u64,
    pub invalid: u64,
    pub expiring_soon: u64,
}

const CHECK_COLUMNS: &str = "c.id, c.domain_id, d.domain, c.is_valid, c.chain_valid, \
    c.not_before_ms, c.not_after_ms, c.days_until_expiry, c.issuer, c.subject, c.san_list, \
    c.resolved_ips, c.error_kind, c.error, c.addresses, c.checked_at_ms";
const CHECKS: &str = "cert_checks c JOIN cert_domains d ON d.id = c.domain_id";
/// Only the newest check of each domain.
const NEWEST: &str = "c.id = (SELECT n.id FROM cert_checks n WHERE n.domain_id = d.id
    ORDER BY n.checked_at_ms DESC, n.id DESC LIMIT 1)";

/// A list in JSON. What was written here can be read; anything else reads as empty.
fn json<T: for<'a> Deserialize<'a> + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}

fn to_json(list: &impl Serialize) -> String {
    serde_json::to_string(list).unwrap_or_else(|_| "[]".to_owned())
}

fn from_check(row: &Row<'_>) -> rusqlite::Result<CheckRow> {
    let list = |index: usize| -> rusqlite::Result<Option<Vec<String>>> {
        Ok(row.get::<_, Option<String>>(index)?.as_deref().map(json))
    };
    Ok(CheckRow {
        id: row.get(0)?,
        domain_id: row.get(1)?,
        domain: row.get(2)?,
        is_valid: row.get(3)?,
        chain_valid: row.get(4)?,
        not_before_ms: row.get(5)?,
        not_after_ms: row.get(6)?,
        days_until_expiry: row.get(7)?,
        issuer: row.get(8)?,
        subject: row.get(9)?,
        san_list: list(10)?,
        resolved_ips: list(11)?,
        error_kind: row.get(12)?,
        error: row.get(13)?,
        addresses: json(&row.get::<_, String>(14)?),
        checked_at_ms: row.get(15)?,
    })
}

/// Writes a check, and lets go of the domain's checks from before `oldest_ms` and of those over
/// their number. This one stays in any case.
pub(crate) fn insert(tx: &Connection, row: &CheckRow, oldest_ms: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO cert_checks VALUES
           (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        row.id,
        row.domain_id,
        row.is_valid,
        row.chain_valid,
        row.not_before_ms,
        row.not_after_ms,
        row.days_until_expiry,
        row.issuer,
        row.subject,
        row.san_list.as_ref().map(to_json),
        row.resolved_ips.as_ref().map(to_json),
        row.error_kind,
        row.error,
        to_json(&row.addresses),
        row.checked_at_ms,
    ])?;
    tx.prepare_cached(
        "DELETE FROM cert_checks WHERE domain_id = ?1 AND id <> ?2 AND checked_at_ms < MAX(?3,
           COALESCE((SELECT checked_at_ms FROM cert_checks WHERE domain_id = ?1
                     ORDER BY checked_at_ms DESC LIMIT 1 OFFSET ?4 - 1), ?3))",
    )?
    .execute(params![row.domain_id, row.id, oldest_ms, CERT_CHECKS_PER_DOMAIN_MAX])
    .map(drop)
}

/// Writes the certificate that a domain serves; the row's id and the time of its making stay.
pub(crate) fn put_certificate(tx: &Connection, row: &CertificateRow) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO certificates VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (domain_id) DO UPDATE SET not_after_ms = ?3, issuer = ?4, ip_addresses = ?5,
           chain_valid = ?6, chain_error = ?7, details = ?8, last_checked_ms = ?9,
           updated_at = ?11",
    )?
    .execute(params![
        row.id,
        row.domain_id,
        row.not_after_ms,
        row.issuer,
        to_json(&row.ip_addresses),
        row.chain_valid,
        row.chain_error,
        row.details,
        row.last_checked_ms,
        row.created_at,
        row.updated_at,
    ])
    .map(drop)
}

/// A domain's checks, newest first.
pub(crate) fn history(
    db: &Connection,
    domain: &str,
    page: Page,
) -> rusqlite::Result<Listing<CheckRow>> {
    let sql = "SELECT COUNT(*) FROM cert_checks WHERE domain_id = ?1";
    let total: i64 = db.query_row(sql, [domain], |row| row.get(0))?;
    let sql = format!(
        "SELECT {CHECK_COLUMNS} FROM {CHECKS} WHERE c.domain_id = ?1
         ORDER BY c.checked_at_ms DESC, c.id DESC LIMIT ?2 OFFSET ?3"
    );
    let mut query = db.prepare_cached(&sql)?;
    let page = params![domain, page.limit as i64, page.offset as i64];
    let items = query.query_map(page, from_check)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total: total.unsigned_abs() })
}

/// A domain's newest check.
pub(crate) fn newest(db: &Connection, domain: &str) -> rusqlite::Result<Option<CheckRow>> {
    let found = history(db, domain, Page { limit: 1, offset: 0 })?;
    Ok(found.items.into_iter().next())
}

/// The newest check of each domain that has one, by name.
pub(crate) fn status(db: &Connection, page: Page) -> rusqlite::Result<Listing<CheckRow>> {
    let sql = format!("SELECT COUNT(DISTINCT c.domain_id) FROM {CHECKS}");
    let total: i64 = db.query_row(&sql, [], |row| row.get(0))?;
    let sql = format!(
        "SELECT {CHECK_COLUMNS} FROM {CHECKS} WHERE {NEWEST}
         ORDER BY d.domain LIMIT ?1 OFFSET ?2"
    );
    let mut query = db.prepare_cached(&sql)?;
    let page = [page.limit as i64, page.offset as i64];
    let items = query.query_map(page, from_check)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total: total.unsigned_abs() })
}

/// Numbers of domains by their newest checks. One that is valid and ends before `soon_ms`
/// ends soon; one that has not been checked yet is in the total alone.
pub(crate) fn counts(db: &Connection, soon_ms: i64) -> rusqlite::Result<Counts> {
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM cert_domains), TOTAL(c.is_valid), TOTAL(NOT c.is_valid),
           TOTAL(c.is_valid AND c.not_after_ms < ?1) FROM {CHECKS} WHERE {NEWEST}"
    );
    db.query_row(&sql, [soon_ms], |row| {
        let count = |index: usize| row.get::<_, f64>(index).map(|number| number as u64);
        Ok(Counts {
            total_domains: row.get::<_, i64>(0)?.unsigned_abs(),
            valid: count(1)?,
            invalid: count(2)?,
            expiring_soon: count(3)?,
        })
    })
}

const CERTIFICATE_COLUMNS: &str = "c.id, c.domain_id, d.domain, c.not_after_ms, c.issuer, \
    c.ip_addresses, c.chain_valid, c.chain_error, c.details, c.last_checked_ms, c.created_at, \
    c.updated_at";
const CERTIFICATES: &str = "certificates c JOIN cert_domains d ON d.id = c.domain_id";

fn from_certificate(row: &Row<'_>) -> rusqlite::Result<CertificateRow> {
    Ok(CertificateRow {
        id: row.get(0)?,
        domain_id: row.get(1)?,
        domain: row.get(2)?,
        not_after_ms: row.get(3)?,
        issuer: row.get(4)?,
        ip_addresses: json(&row.get::<_, String>(5)?),
        chain_valid: row.get(6)?,
        chain_error: row.get(7)?,
        details: row.get(8)?,
        last_checked_ms: row.get(9)?,
        created_at: row.get(10)?,
        updated_at: row.get(11)?,
    })
}

/// Which certificates a list is about. `None` means any.
#[derive(Debug, Clone, Default)]
pub(crate) struct CertificateFilter {
    /// Those that end then or before, Unix milliseconds.
    pub ends_by_ms: Option<i64>,
    /// Those served from an address with this in it.
    pub address_contains: Option<String>,
    /// Those whose issuer has this in its name, in any case.
    pub issuer_contains: Option<String>,
}

/// A page of the certificates, the one that ends first at the head.
pub(crate) fn certificates(
    db: &Connection,
    filter: &CertificateFilter,
    page: Page,
) -> rusqlite::Result<Listing<CertificateRow>> {
    let mut condition = "1".to_owned();
    let mut values: Vec<Value> = Vec::new();
    if let Some(ends_by_ms) = filter.ends_by_ms {
        condition.push_str(" AND c.not_after_ms <= ?");
        values.push(Value::Integer(ends_by_ms));
    }
    if let Some(part) = &filter.address_contains {
        condition.push_str(
            " AND EXISTS (SELECT 1 FROM json_each(c.ip_addresses) WHERE instr(value, ?))",
        );
        values.push(Value::Text(part.to_lowercase()));
    }
    if let Some(part) = &filter.issuer_contains {
        condition.push_str(" AND instr(lower(c.issuer), lower(?))");
        values.push(Value::Text(part.clone()));
    }
    let sql = format!("SELECT COUNT(*) FROM {CERTIFICATES} WHERE {condition}");
    let total: i64 = db.query_row(&sql, params_from_iter(&values), |row| row.get(0))?;
    let sql = format!(
        "SELECT {CERTIFICATE_COLUMNS} FROM {CERTIFICATES} WHERE {condition}
         ORDER BY c.not_after_ms, d.domain LIMIT ? OFFSET ?"
    );
    values.extend([Value::Integer(page.limit as i64), Value::Integer(page.offset as i64)]);
    let mut query = db.prepare_cached(&sql)?;
    let items = query.query_map(params_from_iter(&values), from_certificate)?;
    Ok(Listing { items: items.collect::<Result<_, _>>()?, total: total.unsigned_abs() })
}

/// The certificate with this id, or else that of the domain with this id or name.
pub(crate) fn certificate(db: &Connection, key: &str) -> rusqlite::Result<Option<CertificateRow>> {
    let sql = format!(
        "SELECT {CERTIFICATE_COLUMNS} FROM {CERTIFICATES}
         WHERE c.id = ?1 OR d.id = ?1 OR d.domain = ?1 ORDER BY c.id = ?1 DESC, d.port = 443 DESC, d.created_at LIMIT 1"
    );
    db.prepare_cached(&sql)?.query_row([key], from_certificate).optional()
}
