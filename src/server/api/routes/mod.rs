//! One file a resource, each with its `ROUTES`.

use crate::base::limits::TEXT_BYTES_MAX;
use crate::server::api::reply::ApiError;
use crate::server::api::router::Route;
use crate::server::web;

pub mod agents;
pub mod alert_rules;
pub mod alerts;
pub mod auth;
pub mod deliveries;
pub mod fleet;
pub mod health;
pub mod metrics;
pub mod notifications;
pub mod openapi;
pub mod range;
pub mod whitelist;

/// Every endpoint, by resource.
pub const ROUTES: &[&[Route]] = &[
    health::ROUTES,
    auth::ROUTES,
    openapi::ROUTES,
    notifications::ROUTES,
    deliveries::ROUTES,
    alerts::ROUTES,
    alert_rules::ROUTES,
    agents::ROUTES,
    whitelist::ROUTES,
    metrics::ROUTES,
    range::ROUTES,
    fleet::ROUTES,
    web::ROUTES,
];

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
