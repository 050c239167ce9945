//! Errors as Prometheus' HTTP API gives them.

use std::io::Write as _;

use crate::server::api::reply::{ApiError, Code};

/// Whether a request is one of this API.
pub(crate) fn is_of(target: &str) -> bool {
    target.starts_with("/api/v1/")
}

/// An error of the router, in Prometheus' form.
pub(crate) fn error_body(error: &ApiError) -> Vec<u8> {
    let kind = match error.code {
        Code::Unauthenticated | Code::TokenExpired => "unauthorized",
        Code::Forbidden => "forbidden",
        Code::NotFound => "not_found",
        Code::Busy | Code::TooMany => "unavailable",
        Code::Internal | Code::Storage => "internal",
        _ => "bad_data",
    };
    failed(kind, &error.message)
}

/// The answer of a request that failed, `{"status":"error",…}`; `kind` is Prometheus' `errorType`.
pub(crate) fn failed(kind: &str, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into memory does not fail.
    let _ = write!(out, "{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":");
    let _ = serde_json::to_writer(&mut out, message);
    out.push(b'}');
    out
}
