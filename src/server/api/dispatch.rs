//! From a request's head and body to its answer: route, parameters, login, role, handler, audit.

use std::collections::BTreeMap;
use std::time::Instant;

use percent_encoding::percent_decode_str;

use crate::base::clock::{DAY_MS, parse_rfc3339};
use crate::base::ids::new_id;
use crate::base::limits::{AUDIT_DAYS_MAX, TEXT_BYTES_MAX};
use crate::base::logging;
use crate::model::role::Role;
use crate::server::api::answer::Answer;
use crate::server::api::app::App;
use crate::server::api::auth::cookie;
use crate::server::api::auth::credentials::{authenticate, check_password_changed};
use crate::server::api::auth::identity::Identity;
use crate::server::api::cors;
use crate::server::api::hosts;
use crate::server::api::passed;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::{Call, Incoming};
use crate::server::api::router::{Access, Kind, Method, Param, Route};
use crate::server::api::routes;
use crate::server::control::audit::{self, AuditRow};
use crate::server::gate::http::parse::PEERS;

/// Serves one request. Never fails: what goes wrong becomes an answer.
pub(crate) fn serve(app: &App, incoming: &Incoming) -> Answer {
    let trace_id = new_id();
    logging::with_context(&format!("trace={trace_id}"), || {
        let started = Instant::now();
        app.api_metrics.active.inc();
        let (path, _) = split_target(&incoming.target);
        // Another server calls by whatever name it reaches this one, and shows its token.
        let host = incoming.host.as_deref().filter(|_| !path.starts_with(PEERS));
        let found = hosts::check(&app.config, host).and_then(|()| find(&incoming.method, path));
        let route = found.as_ref().map_or(("none", "none"), |(it, _)| (it.method.name(), it.path));
        let outcome = found.and_then(|found| run(app, incoming, found, &trace_id));
        let mut answer = Answer::of(outcome, &trace_id, incoming);
        if let Some(secs) =
            app.config.tls.as_ref().map(|tls| tls.hsts_secs).filter(|secs| *secs > 0)
        {
            answer.headers.push(("Strict-Transport-Security", format!("max-age={secs}")));
        }
        cors::allow(&mut answer, &app.config.cors, path, incoming);
        app.api_metrics.served(route, answer.status, started.elapsed());
        app.api_metrics.active.dec();
        log::debug!("{} {path} {} {}", incoming.method, answer.status, incoming.client);
        answer
    })
}

/// A route with the values of the `{name}` parts of its path.
pub(super) type Found = (&'static Route, BTreeMap<&'static str, String>);

/// Path and query of a request's target.
fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

fn run(
    app: &App,
    incoming: &Incoming,
    (route, parts): Found,
    trace_id: &str,
) -> Result<Reply, ApiError> {
    let now_ms = app.clock.now_ms();
    let identity = admit(app, route, incoming, now_ms)?;
    let caller = Caller { identity, through: None, agent: None };
    carry_out(app, incoming, (route, parts), caller, trace_id)
}

/// Who calls, and by which way.
pub(super) struct Caller {
    /// The user.
    pub(super) identity: Option<Identity>,
    /// The server of `[peers]` that passed the call on.
    pub(super) through: Option<String>,
    /// The agent of the path, where that server knows it.
    pub(super) agent: Option<String>,
}

/// Does what somebody asks who is known, or passes it on to the home, and records it.
pub(super) fn carry_out(
    app: &App,
    incoming: &Incoming,
    (route, parts): Found,
    caller: Caller,
    trace_id: &str,
) -> Result<Reply, ApiError> {
    let (path, query) = split_target(&incoming.target);
    let now_ms = app.clock.now_ms();
    let client = match &caller.through {
        Some(through) => format!("{} through {through}", incoming.client),
        None => incoming.client.clone(),
    };
    let mut call = Call {
        app,
        identity: caller.identity,
        passed_agent: caller.agent,
        path: parts,
        query: BTreeMap::new(),
        query_text: query,
        content_type: incoming.content_type.as_deref().unwrap_or(""),
        authorization: incoming.authorization.as_deref(),
        page: incoming.page.as_deref(),
        body: &incoming.body,
        client,
        ticket: &incoming.ticket,
        trace_id,
        now_ms,
    };
    let checked = allowed(route, call.identity.as_ref()).and_then(|()| {
        if !route.is_prometheus() {
            call.query = parse_query(route, query)?;
        }
        check_body(route, incoming)
    });
    let mut is_recorded = !route.is_prometheus() && route.access != Access::Peer;
    let outcome = checked.and_then(|()| {
        let passed =
            if caller.through.is_none() { passed::on(&call, route, incoming) } else { None };
        // The home has recorded what it was asked.
        is_recorded &= !passed.as_ref().is_some_and(passed::is_recorded);
        passed.unwrap_or_else(|| (route.handler)(&call))
    });
    // Of Prometheus' API a POST is a query, or samples as they come every few seconds.
    if route.method != Method::Get && is_recorded {
        record(&call, route, path, &outcome)?;
    }
    outcome
}

/// The route of a call that another server passes on.
///
/// # Errors
///
/// As of a call that came by itself.
pub(super) fn find_target(method: &str, target: &str) -> Result<Found, ApiError> {
    find(method, split_target(target).0)
}

/// The route of a method and a path, with the values of the path's `{name}` parts.
fn find(method: &str, path: &str) -> Result<Found, ApiError> {
    let parts: Vec<&str> = path.split('/').collect();
    let mut best: Option<(&'static Route, usize)> = None;
    let mut allow: Vec<Method> = Vec::new();
    for route in routes::all() {
        let Some(fixed) = matches(route.path, &parts) else { continue };
        if !allow.contains(&route.method) {
            allow.push(route.method);
        }
        // A literal path wins over one with a `{name}` part.
        let better = best.is_none_or(|(_, most)| fixed > most);
        if route.method.takes(method) && better {
            best = Some((route, fixed));
        }
    }
    if let Some((route, _)) = best {
        return Ok((route, path_values(route.path, &parts)?));
    }
    if allow.is_empty() {
        return Err(no_path(path));
    }
    allow.sort();
    let mut names: Vec<&str> = allow.iter().map(|method| method.name()).collect();
    if names.first() == Some(&"GET") {
        names.insert(1, "HEAD");
    }
    let list = names.join(", ");
    let mut error = ApiError::new(
        Code::MethodNotAllowed,
        format!("method not allowed; this path takes {list}"),
    );
    error.allow = Some(list);
    Err(error)
}

/// How many parts of a route's path are literal; `None` where the path does not match.
fn matches(pattern: &str, parts: &[&str]) -> Option<usize> {
    let mut fixed = 0;
    let mut given = parts.iter();
    for part in pattern.split('/') {
        let text = given.next()?;
        if part.starts_with('{') {
            if text.is_empty() {
                return None;
            }
        } else if part == *text {
            fixed += 1;
        } else {
            return None;
        }
    }
    given.next().is_none().then_some(fixed)
}

fn path_values(
    pattern: &'static str,
    parts: &[&str],
) -> Result<BTreeMap<&'static str, String>, ApiError> {
    let mut values = BTreeMap::new();
    for (part, text) in pattern.split('/').zip(parts) {
        let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            continue;
        };
        let value = percent_decode_str(text).decode_utf8();
        let value =
            value.map_err(|_| ApiError::bad(format!("`{name}` in the path is not UTF-8")))?;
        if value.len() > TEXT_BYTES_MAX || value.contains('\0') {
            let message =
                format!("`{name}` in the path has over {TEXT_BYTES_MAX} bytes or holds a NUL");
            return Err(ApiError::bad(message));
        }
        values.insert(name, value.into_owned());
    }
    Ok(values)
}

/// Who calls, as the route demands it.
fn admit(
    app: &App,
    route: &Route,
    incoming: &Incoming,
    now_ms: i64,
) -> Result<Option<Identity>, ApiError> {
    let header = incoming.authorization.as_deref();
    match route.access {
        Access::Public => return Ok(None),
        Access::Peer => return admit_peer(app, route, header).map(|()| None),
        Access::User(_) => {}
    }
    let identity = match cookie::token(incoming, app.config.http_port) {
        Some(token) if header.is_none() => app.auth.identify(token, now_ms)?,
        _ => authenticate(&app.auth, header, route.is_prometheus(), now_ms)?,
    };
    if !route.with_default_password {
        check_password_changed(&identity, &incoming.client)?;
    }
    Ok(Some(identity))
}

/// Whether another server of `[peers]` calls.
fn admit_peer(app: &App, route: &Route, header: Option<&str>) -> Result<(), ApiError> {
    let peers = app.peers.as_ref().ok_or_else(|| no_path(route.path))?;
    let token = header.and_then(|header| header.trim().split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // Whatever is shown is compared, so that nothing is learned from the time.
    if peers.knows(token.map_or("", |(_, token)| token.trim())) {
        return Ok(());
    }
    let message = "the token of [peers] is missing or wrong";
    Err(ApiError::new(Code::Unauthenticated, message))
}

fn no_path(path: &str) -> ApiError {
    let shown: String = path.chars().take(128).collect();
    ApiError::new(Code::NotFound, format!("no such path: `{shown}`"))
}

fn allowed(route: &Route, identity: Option<&Identity>) -> Result<(), ApiError> {
    let Access::User(least) = route.access else { return Ok(()) };
    if identity.is_some_and(|identity| identity.role >= least) {
        return Ok(());
    }
    let needed = if least == Role::Admin { "administrator" } else { "viewer" };
    Err(ApiError::new(Code::Forbidden, format!("{needed} role required")))
}

/// The query's parameters, each known to the route and of its kind, none twice.
fn parse_query(route: &Route, query: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut found = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // What a client adds so that no cache answers it.
        if pair.starts_with('_') {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let param = route.params().find(|param| param.name == name);
        let shown: String = name.chars().take(64).collect();
        let param =
            param.ok_or_else(|| ApiError::bad(format!("unknown query parameter `{shown}`")))?;
        check_kind(param, &value)?;
        if found.insert(name, value).is_some() {
            return Err(ApiError::bad(format!("duplicate query parameter `{shown}`")));
        }
    }
    for param in route.params().filter(|param| param.required) {
        if !found.contains_key(param.name) {
            return Err(ApiError::bad(format!("missing query parameter `{}`", param.name)));
        }
    }
    Ok(found)
}

fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| ApiError::bad("the query is not UTF-8"))
}

fn check_kind(param: &Param, value: &str) -> Result<(), ApiError> {
    let time = || parse_rfc3339(value).is_some();
    let fits = match param.kind {
        Kind::Text => value.len() <= TEXT_BYTES_MAX && !value.contains('\0'),
        Kind::Count => {
            value.parse::<u32>().is_ok() && value.bytes().all(|byte| byte.is_ascii_digit())
        }
        Kind::Rows => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
        Kind::Flag => matches!(value, "true" | "false"),
        Kind::Time => time(),
        Kind::TimeOrSecs => value.parse::<i64>().is_ok() || time(),
        Kind::Word(words) => words.contains(&value),
    };
    if fits {
        return Ok(());
    }
    let wanted = match param.kind {
        Kind::Text => format!("a text of at most {TEXT_BYTES_MAX} bytes"),
        Kind::Count | Kind::Rows => "a number of 0 or more".to_owned(),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Time => {
            "an RFC 3339 time such as 2026-02-09T08:30:00Z (`+` is sent as %2B)".to_owned()
        }
        Kind::TimeOrSecs => "an RFC 3339 time or Unix seconds".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
    };
    Err(ApiError::bad(format!("query parameter `{}` must be {wanted}", param.name)))
}

fn check_body(route: &Route, incoming: &Incoming) -> Result<(), ApiError> {
    if route.body.is_none() {
        return Ok(());
    }
    let essence = incoming.content_type.as_deref().unwrap_or("");
    let essence = essence.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON, sent with `Content-Type: application/json`";
        return Err(ApiError::new(Code::NotJson, message));
    }
    Ok(())
}

/// Writes a changing call of somebody known, or a login whose password was compared, into the audit
/// log; what a stranger sends besides is counted, not stored. A change that can't be recorded is
/// not hidden: the caller gets the storage's error.
fn record(
    call: &Call<'_>,
    route: &Route,
    path: &str,
    outcome: &Result<Reply, ApiError>,
) -> Result<(), ApiError> {
    let status = match outcome {
        Ok(reply) => reply.status,
        // A throttled client has changed nothing, and may ask very often.
        Err(error) if error.code == Code::TooMany => return Ok(()),
        Err(error) => error.http_status(),
    };
    let compared = matches!(status, 200 | 401);
    if call.identity.is_none() && !compared {
        call.app.api_metrics.unrecorded.inc();
        return Ok(());
    }
    let username = match &call.identity {
        Some(identity) => identity.username.clone(),
        None => named_in(call.body),
    };
    let entry = AuditRow {
        id: new_id(),
        at_ms: call.now_ms,
        username,
        address: call.client.clone(),
        action: format!("{} {}", route.method.name(), route.path),
        target: path.chars().take(TEXT_BYTES_MAX).collect(),
        outcome: status,
        trace_id: call.trace_id.to_owned(),
    };
    let oldest_ms = call.now_ms.saturating_sub(AUDIT_DAYS_MAX * DAY_MS);
    call.app
        .control
        .write(move |tx| -> Result<(), ApiError> { Ok(audit::insert(tx, &entry, oldest_ms)?) })
}

/// The name in a login's body, shortened; empty when there is none.
fn named_in(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let name = value.as_ref().and_then(|value| value.get("username")?.as_str());
    name.unwrap_or("").chars().take(64).collect()
}

#[cfg(test)]
mod tests;
