//! One file a resource, each with its `ROUTES`.

use crate::base::limits::TEXT_BYTES_MAX;
use crate::server::api::auth::identity::Identity;
use crate::server::api::reply::{ApiError, Code};
use crate::server::api::request::Call;
use crate::server::api::router::Route;

pub(crate) mod agents;
pub(crate) mod alert_comments;
pub(crate) mod alert_rules;
pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod certificates;
pub(crate) mod certs;
pub(crate) mod channel_types;
pub(crate) mod dashboard;
pub(crate) mod deliveries;
pub(crate) mod fleet;
pub(crate) mod handover;
pub(crate) mod health;
mod hosts;
pub(crate) mod metrics;
pub(crate) mod notifications;
pub(crate) mod openapi;
pub(crate) mod peers;
pub(crate) mod profiles;
pub(crate) mod prom;
pub(crate) mod prometheus;
pub(crate) mod range;
pub(crate) mod stock_rules;
pub(crate) mod system;
pub(crate) mod users;
pub(crate) mod web;
pub(crate) mod whitelist;

/// Every endpoint, by resource.
const ROUTES: &[&[Route]] = &[
    health::ROUTES,
    auth::ROUTES,
    openapi::ROUTES,
    notifications::ROUTES,
    channel_types::ROUTES,
    deliveries::ROUTES,
    alerts::ROUTES,
    alert_comments::ROUTES,
    alert_rules::ROUTES,
    stock_rules::ROUTES,
    agents::ROUTES,
    profiles::ROUTES,
    whitelist::ROUTES,
    metrics::ROUTES,
    range::ROUTES,
    certs::ROUTES,
    certificates::ROUTES,
    dashboard::ROUTES,
    fleet::ROUTES,
    system::ROUTES,
    users::ROUTES,
    audit::ROUTES,
    peers::ROUTES,
    handover::ROUTES,
    prometheus::ROUTES,
    prom::ROUTES,
    web::ROUTES,
];

/// Every row of the table.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().flat_map(|rows| rows.iter())
}

/// The caller, who must have logged in with a password: a token that leaks must not make more of
/// itself, nor users.
///
/// # Errors
///
/// 1007 for an API token.
pub fn by_login<'a>(call: &'a Call<'_>) -> Result<&'a Identity, ApiError> {
    let who = call.who()?;
    if who.by_token {
        let message = "an API token can't do this: log in with a password";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    Ok(who)
}

/// A text of a body within its limit, and there when it must be.
///
/// # Errors
///
/// 1001 that names the field.
pub fn check_text(field: &str, text: &str, needed: bool) -> Result<(), ApiError> {
    if needed && text.trim().is_empty() {
        return Err(ApiError::bad(format!("`{field}` must not be empty")));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::bad(format!(
            "`{field}` must have {TEXT_BYTES_MAX} bytes at the most"
        )));
    }
    if text.contains('\0') {
        return Err(ApiError::bad(format!("`{field}` must hold no zero")));
    }
    Ok(())
}
