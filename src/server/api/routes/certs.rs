//! Domains whose certificates are checked, and what the checks found.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::server::alert::manage::AlertError;
use crate::server::alert::shard::Act;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Kind, Method, Param, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::cert::manage::{DomainChange, DomainInput};
use crate::server::cert::{AGENT, CertError, labels};
use crate::server::control::certs::checks::{self, AddressRow, CheckRow, Counts};
use crate::server::control::certs::{self, DomainFilter, DomainRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[
            Param::new("enabled__eq", Kind::Flag, "Domains that are checked, or are not."),
            Param::new("domain__contains", Kind::Text, "Domains with this in their name."),
        ],
        ..Route::get(
            "/v1/certs/domains",
            "Domains whose certificates are checked, by name.",
            Gives::List(Shape::of::<CertDomain>()),
            list,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<DomainInput>()),
        status: 201,
        errors: &[Code::DomainExists, Code::BadDomain, Code::BadPort],
        ..Route::get(
            "/v1/certs/domains",
            "Add a domain. Its first check begins at once.",
            Gives::One(Shape::of::<CertDomain>()),
            create,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<CertDomainBatch>()),
        status: 201,
        errors: &[Code::DomainExists, Code::BadDomain, Code::BadPort, Code::EmptyBatch],
        ..Route::get(
            "/v1/certs/domains/batch",
            "Add many domains: all of them, or none.",
            Gives::Many(Shape::of::<CertDomain>()),
            create_batch,
        )
    },
    Route::get(
        "/v1/certs/domains/{id}",
        "One domain, by id or name.",
        Gives::One(Shape::of::<CertDomain>()),
        get,
    ),
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<DomainChange>()),
        errors: &[Code::BadPort],
        ..Route::get(
            "/v1/certs/domains/{id}",
            "Change a domain: what is left out stays. Another port or protocol is checked at once, and \
             what fires for the old port ends.",
            Gives::One(Shape::of::<CertDomain>()),
            update,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        ..Route::get(
            "/v1/certs/domains/{id}",
            "Remove a domain with its history. Its alerts end, its points stay as long as others.",
            Gives::One(Shape::of::<RemovedDomain>()),
            remove,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        ..Route::get(
            "/v1/certs/domains/{id}/check",
            "Check a domain now, enabled or not, and wait for the result.",
            Gives::One(Shape::of::<CertCheck>()),
            check_one,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        ..Route::get(
            "/v1/certs/check",
            "Check every enabled domain now, and wait for the results, a minute at the most.",
            Gives::Many(Shape::of::<CertCheck>()),
            check_all,
        )
    },
    Route::get(
        "/v1/certs/domains/{id}/history",
        "Checks of a domain, newest first.",
        Gives::List(Shape::of::<CertCheck>()),
        history,
    ),
    Route::get(
        "/v1/certs/status",
        "The newest check of each domain that has one, by name.",
        Gives::List(Shape::of::<CertCheck>()),
        status,
    ),
    Route {
        errors: &[Code::NoCheckYet],
        ..Route::get(
            "/v1/certs/status/{domain}",
            "The newest check of a domain, by name or id.",
            Gives::One(Shape::of::<CertCheck>()),
            status_of,
        )
    },
    Route::get(
        "/v1/certs/summary",
        "How the domains stand by their newest checks.",
        Gives::One(Shape::of::<CertSummary>()),
        summary,
    ),
];

/// A domain whose certificate is checked.
#[derive(Serialize, ToSchema)]
struct CertDomain {
    id: String,
    domain: String,
    port: i64,
    /// Whether it is checked by itself.
    enabled: bool,
    /// Seconds between two checks; null: `cert_check.default_interval_secs`.
    check_interval_secs: Option<i64>,
    note: Option<String>,
    /// The protocol that TLS begins in; null: TLS from the first byte.
    starttls: Option<String>,
    last_checked_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

/// A domain that was removed.
#[derive(Serialize, ToSchema)]
struct RemovedDomain {
    #[serde(flatten)]
    domain: CertDomain,
    /// Always true.
    deleted: bool,
}

/// Domains to be added together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CertDomainBatch {
    domains: Vec<DomainInput>,
}

/// One check of a domain.
#[derive(Serialize, ToSchema)]
struct CertCheck {
    id: String,
    domain_id: String,
    domain: String,
    /// Whether every certificate that is served is good for the name now, and trusted.
    is_valid: bool,
    /// Whether it leads to a trusted authority.
    chain_valid: bool,
    not_before: Option<Time>,
    not_after: Option<Time>,
    /// Whole days, rounded down: negative once it has ended.
    days_until_expiry: Option<i64>,
    /// The whole name.
    issuer: Option<String>,
    /// The whole name.
    subject: Option<String>,
    san_list: Option<Vec<String>>,
    /// Every address of the name.
    resolved_ips: Option<Vec<String>>,
    /// What is wrong, as a fixed word; null where it is valid.
    error_kind: Option<String>,
    /// What is wrong, in a sentence; null where it is valid.
    error: Option<String>,
    /// What each address serves.
    addresses: Vec<CertAddress>,
    checked_at: Time,
    created_at: Time,
    updated_at: Time,
}

/// What one address of a name serves.
#[derive(Serialize, ToSchema)]
struct CertAddress {
    address: String,
    is_valid: bool,
    /// What is wrong, as a fixed word.
    error_kind: Option<String>,
    /// What is wrong, in a sentence.
    error: Option<String>,
    /// When the certificate that it serves ends; null where it serves none.
    not_after: Option<Time>,
    /// Which certificate it serves.
    fingerprint_sha256: Option<String>,
}

/// Domains counted by their newest checks.
#[derive(Serialize, ToSchema)]
pub(crate) struct CertSummary {
    /// All domains, those that have not been checked yet among them.
    total_domains: u64,
    valid: u64,
    invalid: u64,
    /// Valid ones that end within 30 days.
    expiring_soon: u64,
}

const _: () = assert!(crate::server::cert::SOON_DAYS == 30, "the documents name it");

impl From<DomainRow> for CertDomain {
    fn from(row: DomainRow) -> Self {
        Self {
            id: row.id,
            domain: row.domain,
            port: row.port,
            enabled: row.enabled,
            check_interval_secs: row.check_interval_secs,
            note: row.note,
            starttls: row.starttls,
            last_checked_at: row.last_checked_at.map(Time::from_secs),
            created_at: Time::from_secs(row.created_at),
            updated_at: Time::from_secs(row.updated_at),
        }
    }
}

impl From<CheckRow> for CertCheck {
    fn from(row: CheckRow) -> Self {
        Self {
            id: row.id,
            domain_id: row.domain_id,
            domain: row.domain,
            is_valid: row.is_valid,
            chain_valid: row.chain_valid,
            not_before: row.not_before_ms.map(Time),
            not_after: row.not_after_ms.map(Time),
            days_until_expiry: row.days_until_expiry,
            issuer: row.issuer,
            subject: row.subject,
            san_list: row.san_list,
            resolved_ips: row.resolved_ips,
            error_kind: row.error_kind,
            error: row.error,
            addresses: row.addresses.into_iter().map(CertAddress::from).collect(),
            // A check is written once.
            checked_at: Time(row.checked_at_ms),
            created_at: Time(row.checked_at_ms),
            updated_at: Time(row.checked_at_ms),
        }
    }
}

impl From<AddressRow> for CertAddress {
    fn from(row: AddressRow) -> Self {
        Self {
            address: row.address,
            is_valid: row.is_valid,
            error_kind: row.error_kind,
            error: row.error,
            not_after: row.not_after_ms.map(Time),
            fingerprint_sha256: row.fingerprint_sha256,
        }
    }
}

impl From<Counts> for CertSummary {
    fn from(counts: Counts) -> Self {
        Self {
            total_domains: counts.total_domains,
            valid: counts.valid,
            invalid: counts.invalid,
            expiring_soon: counts.expiring_soon,
        }
    }
}

impl From<CertError> for ApiError {
    fn from(error: CertError) -> Self {
        let message = error.to_string();
        match error {
            CertError::NotFound(_) => Self::new(Code::NotFound, message),
            CertError::Exists(_) => Self::new(Code::DomainExists, message),
            CertError::BadDomain(_) => Self::new(Code::BadDomain, message),
            CertError::BadPort(_) => Self::new(Code::BadPort, message),
            CertError::EmptyBatch => Self::new(Code::EmptyBatch, message),
            CertError::Invalid(_) => Self::bad(message),
            CertError::NoCheckYet(_) => Self::new(Code::NoCheckYet, message),
            CertError::Busy(_) => {
                Self { retry_after_secs: Some(10), ..Self::new(Code::Busy, message) }
            }
            CertError::NotStored => Self::new(Code::Storage, message),
            CertError::Storage(error) => error.into(),
        }
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let filter = DomainFilter {
        enabled: call.parsed("enabled__eq")?,
        contains: call.text("domain__contains").map(str::to_owned),
    };
    let page = call.page()?;
    let found = call.app.control.read(|db| certs::list(db, &filter, page))?;
    Ok(Reply::list(&found.map(CertDomain::from)))
}

fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = call.app.certs.add(call.json()?)?;
    Ok(Reply::created(&CertDomain::from(row)))
}

fn create_batch(call: &Call<'_>) -> Result<Reply, ApiError> {
    let CertDomainBatch { domains } = call.json()?;
    let rows = call.app.certs.add_batch(domains)?;
    Ok(Reply::created(&rows.into_iter().map(CertDomain::from).collect::<Vec<_>>()))
}

fn get(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&CertDomain::from(call.app.certs.domain(call.param("id"))?)))
}

fn update(call: &Call<'_>) -> Result<Reply, ApiError> {
    let before = call.app.certs.domain(call.param("id"))?;
    let row = call.app.certs.change(&before.id, call.json()?)?;
    if labels(&row) != labels(&before) || !row.enabled {
        end_alerts(call, &before)?;
    }
    Ok(Reply::ok(&CertDomain::from(row)))
}

fn remove(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = call.app.certs.remove(call.param("id"))?;
    end_alerts(call, &row)?;
    Ok(Reply::ok(&RemovedDomain { domain: row.into(), deleted: true }))
}

/// Ends what fires for a domain that is no longer checked, or not there: no later check would.
fn end_alerts(call: &Call<'_>, row: &DomainRow) -> Result<(), ApiError> {
    let (alerts, labels) = (&call.app.alerts, labels(row));
    let who = &call.who()?.username;
    for event in alerts.active() {
        if event.agent_id != AGENT || event.labels != labels {
            continue;
        }
        match alerts.act(&event.id, &Act::Resolve { who: who.clone() }) {
            // Somebody else, or a last check, has ended it just now.
            Ok(_) | Err(AlertError::NotFound(..) | AlertError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_one(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&CertCheck::from(call.app.certs.check_one(call.param("id"))?)))
}

fn check_all(call: &Call<'_>) -> Result<Reply, ApiError> {
    let checks = call.app.certs.check_all()?;
    Ok(Reply::ok(&checks.into_iter().map(CertCheck::from).collect::<Vec<_>>()))
}

fn history(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let row = call.app.certs.domain(call.param("id"))?;
    let found = call.app.control.read(|db| checks::history(db, &row.id, page))?;
    Ok(Reply::list(&found.map(CertCheck::from)))
}

fn status(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let found = call.app.control.read(|db| checks::status(db, page))?;
    Ok(Reply::list(&found.map(CertCheck::from)))
}

fn status_of(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&CertCheck::from(call.app.certs.status(call.param("domain"))?)))
}

fn summary(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&CertSummary::from(call.app.certs.counts()?)))
}
