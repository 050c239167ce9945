//! Cross-origin requests (the Fetch standard, "CORS protocol"): which other sites' pages may read
//! answers. The OpenAPI documents are public, and any page may; the rest is for the origins that
//! `cors.allowed_origins` names. No answer allows credentials, and a session's cookie counts only
//! beside a header that no preflight allows, so another site's page gets nothing without a token
//! of its own.

use crate::server::api::answer::Answer;
use crate::server::api::request::Incoming;
use crate::server::config::Cors;

/// Headers of answers that pages may read.
const EXPOSED: &str = "X-Total-Count, X-Trace-Id, Retry-After";
/// Headers that pages may send.
const TAKEN: &str = "Authorization, Content-Type";
/// Seconds for which a browser need not ask again.
const PREFLIGHT_SECS: &str = "600";

/// Adds to `answer` what lets a page of another origin read it, where it may.
pub(crate) fn allow(answer: &mut Answer, config: &Cors, path: &str, incoming: &Incoming) {
    if path.starts_with("/v1/openapi.") {
        answer.headers.push(("Access-Control-Allow-Origin", "*".to_owned()));
        return;
    }
    if config.allowed_origins.is_empty() {
        return;
    }
    answer.headers.push(("Vary", "Origin".to_owned()));
    let Some(origin) = allowed(config, incoming.origin.as_deref()) else { return };
    answer.headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
    answer.headers.push(("Access-Control-Expose-Headers", EXPOSED.to_owned()));
    if incoming.method == "OPTIONS" {
        preflight(answer);
    }
}

/// Makes the 405 of an OPTIONS request the answer that a browser waits for.
fn preflight(answer: &mut Answer) {
    let allow = answer.headers.iter().find(|(name, _)| *name == "Allow");
    let Some((_, methods)) = allow.cloned() else { return };
    answer.headers.retain(|(name, _)| *name != "Content-Type");
    answer.headers.push(("Access-Control-Allow-Methods", methods));
    answer.headers.push(("Access-Control-Allow-Headers", TAKEN.to_owned()));
    answer.headers.push(("Access-Control-Max-Age", PREFLIGHT_SECS.to_owned()));
    answer.status = 204;
    answer.body.clear();
}

/// The origin as the answer names it, when it may read.
fn allowed<'a>(config: &Cors, origin: Option<&'a str>) -> Option<&'a str> {
    let origin = origin?;
    let named = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(origin);
    config.allowed_origins.iter().any(named).then_some(origin)
}
