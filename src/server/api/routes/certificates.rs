//! The newest certificate that each domain served.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Kind, Param, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::cert::parse::Leaf;
use crate::server::cert::{CertError, Details};
use crate::server::control::certs::checks::{self, CertificateFilter, CertificateRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[
            Param::new("not_after__lte", Kind::TimeOrSecs, "Certificates that end by then."),
            Param::new(
                "ip_address__contains",
                Kind::Text,
                "Certificates served from an address with this in it.",
            ),
            Param::new(
                "issuer__contains",
                Kind::Text,
                "Certificates whose issuer has this in its name, in any case.",
            ),
        ],
        ..Route::get(
            "/v1/certificates",
            "Certificates that domains serve, the one that ends first at the head.",
            Gives::List(Shape::of::<Certificate>()),
            list,
        )
    },
    Route {
        errors: &[Code::NoCheckYet],
        ..Route::get(
            "/v1/certificates/{id}",
            "One certificate, by its id or its domain.",
            Gives::One(Shape::of::<Certificate>()),
            get,
        )
    },
    Route {
        errors: &[Code::NoCheckYet],
        ..Route::get(
            "/v1/certificates/{id}/chain",
            "Whether a certificate leads to a trusted authority.",
            Gives::One(Shape::of::<CertificateChain>()),
            chain,
        )
    },
];

/// A certificate that a domain serves. Lists are empty, and the rest null, where the certificate
/// says nothing.
#[derive(Serialize, ToSchema)]
struct Certificate {
    id: String,
    domain: String,
    not_before: Time,
    not_after: Time,
    /// Addresses that serve it.
    ip_addresses: Vec<String>,
    issuer_cn: Option<String>,
    issuer_o: Option<String>,
    issuer_ou: Option<String>,
    issuer_c: Option<String>,
    subject_cn: Option<String>,
    subject_o: Option<String>,
    /// Names and addresses that it is for.
    subject_alt_names: Vec<String>,
    chain_valid: bool,
    chain_error: Option<String>,
    /// When it was last seen.
    last_checked: Time,
    /// Hexadecimal.
    serial_number: Option<String>,
    /// Hexadecimal.
    fingerprint_sha256: Option<String>,
    version: Option<i64>,
    signature_algorithm: Option<String>,
    /// Such as `RSA`, `EC` or `Ed25519`.
    public_key_algorithm: Option<String>,
    public_key_bits: Option<i64>,
    key_usage: Option<Vec<String>>,
    extended_key_usage: Option<Vec<String>>,
    is_ca: Option<bool>,
    is_wildcard: Option<bool>,
    ocsp_urls: Option<Vec<String>>,
    crl_urls: Option<Vec<String>>,
    ca_issuer_urls: Option<Vec<String>>,
    /// Certificate transparency time stamps inside it.
    sct_count: Option<i64>,
    tls_version: Option<String>,
    cipher_suite: Option<String>,
    /// How many certificates were sent, this one among them.
    chain_depth: Option<i64>,
    created_at: Time,
    updated_at: Time,
}

/// Whether a certificate is trusted.
#[derive(Serialize, ToSchema)]
struct CertificateChain {
    id: String,
    domain: String,
    chain_valid: bool,
    chain_error: Option<String>,
    last_checked: Time,
}

impl From<CertificateRow> for Certificate {
    fn from(row: CertificateRow) -> Self {
        // What was written here can be read. Should a person have changed it, what is searched by
        // is shown all the same.
        let details = serde_json::from_str(&row.details).unwrap_or_else(|_| Details {
            leaf: Leaf { not_after_ms: row.not_after_ms, ..Leaf::default() },
            tls_version: None,
            cipher_suite: None,
            chain_depth: 0,
        });
        let leaf = details.leaf;
        Self {
            id: row.id,
            domain: row.domain,
            not_before: Time(leaf.not_before_ms),
            not_after: Time(row.not_after_ms),
            ip_addresses: row.ip_addresses,
            issuer_cn: leaf.issuer_cn,
            issuer_o: leaf.issuer_o,
            issuer_ou: leaf.issuer_ou,
            issuer_c: leaf.issuer_c,
            subject_cn: leaf.subject_cn,
            subject_o: leaf.subject_o,
            subject_alt_names: leaf.subject_alt_names,
            chain_valid: row.chain_valid,
            chain_error: row.chain_error,
            last_checked: Time(row.last_checked_ms),
            serial_number: Some(leaf.serial_number),
            fingerprint_sha256: Some(leaf.fingerprint_sha256),
            version: Some(leaf.version),
            signature_algorithm: Some(leaf.signature_algorithm),
            public_key_algorithm: Some(leaf.public_key_algorithm),
            public_key_bits: leaf.public_key_bits,
            key_usage: Some(leaf.key_usage),
            extended_key_usage: Some(leaf.extended_key_usage),
            is_ca: Some(leaf.is_ca),
            is_wildcard: Some(leaf.is_wildcard),
            ocsp_urls: Some(leaf.ocsp_urls),
            crl_urls: Some(leaf.crl_urls),
            ca_issuer_urls: Some(leaf.ca_issuer_urls),
            sct_count: Some(leaf.sct_count),
            tls_version: details.tls_version,
            cipher_suite: details.cipher_suite,
            chain_depth: Some(details.chain_depth),
            created_at: Time::from_secs(row.created_at),
            updated_at: Time::from_secs(row.updated_at),
        }
    }
}

impl From<CertificateRow> for CertificateChain {
    fn from(row: CertificateRow) -> Self {
        Self {
            id: row.id,
            domain: row.domain,
            chain_valid: row.chain_valid,
            chain_error: row.chain_error,
            last_checked: Time(row.last_checked_ms),
        }
    }
}

/// The row that the path names. A domain that is configured but has shown none yet differs from
/// what is not there.
fn find(call: &Call<'_>) -> Result<CertificateRow, ApiError> {
    let key = call.param("id");
    let read = |key: &str| call.app.control.read(|db| checks::certificate(db, key));
    if let Some(row) = read(key)? {
        return Ok(row);
    }
    let domain = match call.app.certs.domain(key) {
        Err(CertError::NotFound(_)) => return Err(ApiError::not_found("certificate", key)),
        found => found?,
    };
    let message = format!("no check of `{}` has seen a certificate yet", domain.domain);
    read(&domain.id)?.ok_or_else(|| ApiError::new(Code::NoCheckYet, message))
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let text = |name: &str| call.text(name).map(str::to_owned);
    let filter = CertificateFilter {
        ends_by_ms: call.time_or_secs("not_after__lte")?,
        address_contains: text("ip_address__contains"),
        issuer_contains: text("issuer__contains"),
    };
    let page = call.page()?;
    let found = call.app.control.read(|db| checks::certificates(db, &filter, page))?;
    Ok(Reply::list(&found.map(Certificate::from)))
}

fn get(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&Certificate::from(find(call)?)))
}

fn chain(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&CertificateChain::from(find(call)?)))
}
