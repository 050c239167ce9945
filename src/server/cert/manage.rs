//! Making and changing domains: the checks that one and a batch share.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::base::clock::SECOND_MS;
use crate::base::ids::new_id;
use crate::base::limits::{CERT_INTERVAL_SECS_MAX, DOMAIN_BATCH_MAX, DOMAINS_MAX, TEXT_BYTES_MAX};
use crate::server::cert::name::normalise;
use crate::server::cert::starttls::{self, PROTOCOLS};
use crate::server::cert::{CertError, Certs};
use crate::server::control::certs::{self, DomainRow};

/// The port where neither a port nor a protocol is given.
const HTTPS: i64 = 443;

/// A domain to be checked.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CertDomainInput)]
pub struct DomainInput {
    /// A host name or an IP address; `host:port` is taken too.
    pub domain: String,
    /// Default: 443, or the usual one of `starttls`.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// Default: `cert_check.default_interval_secs`.
    #[schema(minimum = 1, maximum = 31536000)]
    pub check_interval_secs: Option<i64>,
    /// For people.
    pub note: Option<String>,
    /// Whether it is checked by itself. Default: true.
    pub enabled: Option<bool>,
    /// `smtp`, `imap`, `pop3`, `ldap` or `postgres`: the protocol that TLS begins in. Default:
    /// none, TLS from the first byte.
    pub starttls: Option<String>,
}

/// What of a domain is to be changed: what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CertDomainChange)]
pub struct DomainChange {
    /// The port.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// Whether it is checked by itself.
    pub enabled: Option<bool>,
    /// Null: back to `cert_check.default_interval_secs`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 31536000)]
    pub check_interval_secs: Option<Option<i64>>,
    /// For people; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
    /// The protocol that TLS begins in; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub starttls: Option<Option<String>>,
}

/// Tells a null, which is a value, from a field that is left out.
fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl Certs {
    /// Adds a domain; its first check begins at once.
    ///
    /// # Errors
    ///
    /// When it can't be one, or is there already.
    pub fn add(&self, input: DomainInput) -> Result<DomainRow, CertError> {
        let rows = vec![build(input, self.now_secs())?];
        let added = self.insert(rows)?;
        added.into_iter().next().ok_or(CertError::EmptyBatch)
    }

    /// Adds all of the domains, or none.
    ///
    /// # Errors
    ///
    /// When one can't be one, or is there already; the error names it.
    pub fn add_batch(&self, inputs: Vec<DomainInput>) -> Result<Vec<DomainRow>, CertError> {
        if inputs.is_empty() {
            return Err(CertError::EmptyBatch);
        }
        if inputs.len() > DOMAIN_BATCH_MAX {
            let message = format!("`domains` must have {DOMAIN_BATCH_MAX} entries at the most");
            return Err(CertError::Invalid(message));
        }
        let now_secs = self.now_secs();
        let mut rows = Vec::new();
        let mut names = HashSet::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let row = build(input, now_secs).map_err(|error| at(index, error))?;
            if !names.insert((row.domain.clone(), row.port)) {
                return Err(CertError::Exists(row.domain));
            }
            rows.push(row);
        }
        self.insert(rows)
    }

    fn insert(&self, rows: Vec<DomainRow>) -> Result<Vec<DomainRow>, CertError> {
        let added = self.control.write(move |tx| -> Result<_, CertError> {
            for row in &rows {
                if !certs::insert(tx, row)? {
                    return Err(CertError::Exists(row.domain.clone()));
                }
            }
            if certs::count(tx)? > DOMAINS_MAX {
                let message = format!("there may be {DOMAINS_MAX} domains at the most");
                return Err(CertError::Invalid(message));
            }
            Ok(rows)
        })?;
        self.look_now();
        Ok(added)
    }

    /// Changes a domain. Another port or protocol is checked at once.
    ///
    /// # Errors
    ///
    /// When there is no such domain, or a field can't be taken.
    pub fn change(&self, key: &str, change: DomainChange) -> Result<DomainRow, CertError> {
        let id = self.domain(key)?.id;
        let now_secs = self.now_secs();
        let changed = self.control.write(move |tx| -> Result<_, CertError> {
            let row = certs::get(tx, &id)?.ok_or(CertError::NotFound(id))?;
            let row = DomainRow {
                port: change.port.unwrap_or(row.port),
                enabled: change.enabled.unwrap_or(row.enabled),
                check_interval_secs: change.check_interval_secs.unwrap_or(row.check_interval_secs),
                note: change.note.unwrap_or(row.note),
                starttls: change.starttls.unwrap_or(row.starttls),
                updated_at: now_secs,
                ..row
            };
            check(&row)?;
            let same = certs::get(tx, &format!("{}:{}", row.domain, row.port))?;
            if same.is_some_and(|same| same.id != row.id) {
                return Err(CertError::Exists(format!("{}:{}", row.domain, row.port)));
            }
            certs::update(tx, &row)?;
            Ok(row)
        })?;
        self.look_now();
        Ok(changed)
    }

    /// Removes a domain with its history.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn remove(&self, key: &str) -> Result<DomainRow, CertError> {
        let row = self.domain(key)?;
        let id = row.id.clone();
        self.control.write(move |tx| -> Result<_, CertError> { Ok(certs::delete(tx, &id)?) })?;
        Ok(row)
    }

    fn now_secs(&self) -> i64 {
        self.clock.now_ms().div_euclid(SECOND_MS)
    }
}

fn at(index: usize, error: CertError) -> CertError {
    match error {
        CertError::BadDomain(text) => CertError::BadDomain(format!("domains[{index}]: {text}")),
        CertError::BadPort(text) => CertError::BadPort(format!("domains[{index}]: {text}")),
        CertError::Invalid(text) => CertError::Invalid(format!("domains[{index}]: {text}")),
        other => other,
    }
}

fn build(input: DomainInput, now_secs: i64) -> Result<DomainRow, CertError> {
    let named = normalise(&input.domain).map_err(CertError::BadDomain)?;
    if let (Some(port), Some(behind)) = (input.port, named.port)
        && port != behind
    {
        let message = format!("`port` is {port}, but `domain` names {behind}");
        return Err(CertError::BadPort(message));
    }
    let protocol = input.starttls.as_deref().and_then(starttls::find);
    let usual = protocol.map_or(HTTPS, |protocol| i64::from(protocol.port));
    let row = DomainRow {
        id: new_id(),
        domain: named.host,
        port: input.port.or(named.port).unwrap_or(usual),
        enabled: input.enabled.unwrap_or(true),
        check_interval_secs: input.check_interval_secs,
        note: input.note,
        starttls: input.starttls,
        last_checked_at: None,
        created_at: now_secs,
        updated_at: now_secs,
    };
    check(&row)?;
    Ok(row)
}

fn check(row: &DomainRow) -> Result<(), CertError> {
    if !(1..=65_535).contains(&row.port) {
        return Err(CertError::BadPort(format!("`port` must be 1 to 65535, is {}", row.port)));
    }
    let interval = row.check_interval_secs;
    if interval.is_some_and(|secs| !(1..=CERT_INTERVAL_SECS_MAX).contains(&secs)) {
        let message = format!("`check_interval_secs` must be 1 to {CERT_INTERVAL_SECS_MAX}");
        return Err(CertError::Invalid(message));
    }
    let note = row.note.as_deref().unwrap_or("");
    if note.len() > TEXT_BYTES_MAX || note.contains('\0') {
        let message = format!("`note` must have {TEXT_BYTES_MAX} bytes at the most, and no zero");
        return Err(CertError::Invalid(message));
    }
    if row.starttls.as_deref().is_some_and(|name| starttls::find(name).is_none()) {
        let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
        let message = format!("`starttls` must be one of {}, or null", names.join(", "));
        return Err(CertError::Invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn built(body: Value) -> Result<DomainRow, CertError> {
        build(serde_json::from_value(body).unwrap(), 7)
    }

    #[test]
    fn ports_come_from_the_field_the_name_or_the_protocol() {
        let port = |body| built(body).unwrap().port;
        assert_eq!(port(json!({"domain": "a.example"})), 443);
        assert_eq!(port(json!({"domain": "a.example:8443"})), 8443);
        assert_eq!(port(json!({"domain": "a.example:8443", "port": 8443})), 8443);
        assert_eq!(port(json!({"domain": "a.example", "starttls": "smtp"})), 25);
        assert_eq!(port(json!({"domain": "a.example", "starttls": "smtp", "port": 587})), 587);
        for body in [
            json!({"domain": "a.example:1", "port": 2}),
            json!({"domain": "a.example", "port": 0}),
            json!({"domain": "a.example", "port": -1}),
            json!({"domain": "a.example:65536"}),
        ] {
            assert!(matches!(built(body.clone()), Err(CertError::BadPort(_))), "{body}");
        }
    }

    #[test]
    fn a_null_is_told_from_what_is_left_out() {
        let change = |body: Value| serde_json::from_value::<DomainChange>(body);
        assert_eq!(change(json!({})).unwrap().check_interval_secs, None);
        let null = change(json!({"check_interval_secs": null})).unwrap();
        assert_eq!(null.check_interval_secs, Some(None));
        let set = change(json!({"check_interval_secs": 60})).unwrap();
        assert_eq!(set.check_interval_secs, Some(Some(60)));
        assert!(change(json!({"domain": "b.example"})).is_err(), "the name stays");
    }
}
