//! The configured domains, counted by their newest check.

use rusqlite::{Connection, params};

/// A certificate that ends within this many seconds is one that ends soon.
const SOON_SECS: i64 = 30 * 86_400;

/// Domains by their newest check. One that has not been checked is only in the total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertSummary {
    /// Domains that are configured.
    pub total_domains: u64,
    /// Those whose certificate is good.
    pub valid: u64,
    /// Those whose certificate is not, or that could not be reached.
    pub invalid: u64,
    /// Those whose certificate has not ended and does within 30 days.
    pub expiring_soon: u64,
}

/// Counts the domains at `now_secs`, Unix seconds.
///
/// # Errors
///
/// What SQLite says.
pub fn cert_summary(db: &Connection, now_secs: i64) -> rusqlite::Result<CertSummary> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE last.is_valid),
          count(*) FILTER (WHERE NOT last.is_valid),
          count(*) FILTER (WHERE last.not_after > ?1 AND last.not_after <= ?2)
        FROM cert_domains AS domain LEFT JOIN cert_checks AS last ON last.id = (
          SELECT id FROM cert_checks WHERE domain_id = domain.id
          ORDER BY checked_at DESC, id DESC LIMIT 1)";
    let bounds = params![now_secs, now_secs.saturating_add(SOON_SECS)];
    db.prepare_cached(sql)?.query_row(bounds, |row| {
        let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
        Ok(CertSummary {
            total_domains: number(0)?,
            valid: number(1)?,
            invalid: number(2)?,
            expiring_soon: number(3)?,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::storage::control::certs::SCHEMA;

    const NOW: i64 = 1_800_000_000;

    fn check(db: &Connection, id: &str, valid: bool, not_after: Option<i64>, at: i64) {
        let domain = &id[..1];
        db.execute(
            "INSERT INTO cert_checks (id, domain_id, domain, is_valid, chain_valid, not_after,
               checked_at) VALUES (?1, ?2, ?2, ?3, ?3, ?4, ?5)",
            params![id, domain, valid, not_after, at],
        )
        .unwrap();
    }

    #[test]
    fn the_newest_check_of_each_domain_counts() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        assert_eq!(cert_summary(&db, NOW).unwrap(), CertSummary::default());
        for domain in ["a", "b", "c", "d"] {
            let sql = "INSERT INTO cert_domains (id, domain, created_at, updated_at)
                VALUES (?1, ?1, 1, 1)";
            db.execute(sql, [domain]).unwrap();
        }
        // Good for long; good for ten days, and bad before; bad since yesterday; never checked.
        check(&db, "a1", true, Some(NOW + 90 * 86_400), 10);
        check(&db, "b1", false, None, 10);
        check(&db, "b2", true, Some(NOW + 10 * 86_400), 20);
        check(&db, "c1", true, Some(NOW - 86_400), 10);
        check(&db, "c2", false, Some(NOW - 86_400), 20);
        let expected = CertSummary { total_domains: 4, valid: 2, invalid: 1, expiring_soon: 1 };
        assert_eq!(cert_summary(&db, NOW).unwrap(), expected);
    }
}
