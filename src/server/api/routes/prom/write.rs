//! Samples in: remote write of Prometheus and vmagent, OTLP, line protocol of Telegraf.

use crate::model::role::Role;
use crate::server::api::auth::TOKEN_PREFIX;
use crate::server::api::auth::credentials::{authenticate, basic, check_password_changed};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::receive::influx::unit_ns;
use crate::server::receive::proto::{put_bytes, put_int};
use crate::server::receive::remote_write::Version;
use crate::server::receive::unpack::{unpack, unpack_if_packed};
use crate::server::receive::{Refusal, Writer, Written};

/// Takes a request; 204 once all of it that can be stored is on the disk.
pub(super) fn remote_write(call: &Call<'_>) -> Result<Reply, ApiError> {
    let receiver = &call.app.receiver;
    let writer = writer(call)?;
    let written = Version::of(call.content_type).and_then(|version| {
        let message = unpack(call.body)?;
        receiver.remote_write(&writer, version, &message).map(|written| (version, written))
    });
    let version = written.as_ref().map_or(Version::One, |(version, _)| *version);
    counted(call, "remote_write", written.map(|(_, written)| written), |written| {
        accepted(version, written)
    })
}

/// Takes an export of OpenTelemetry's metrics, in protobuf or JSON, packed or not.
pub(super) fn otlp(call: &Call<'_>) -> Result<Reply, ApiError> {
    let writer = writer(call)?;
    let json = call.content_type.trim_start().starts_with("application/json");
    if !json && !call.content_type.trim_start().starts_with("application/x-protobuf") {
        let message = format!("unsupported content type {:?}", call.content_type);
        return Err(refused(Refusal::Malformed(message)));
    }
    let written =
        unpack_if_packed(call.body).and_then(|body| call.app.receiver.otlp(&writer, &body, json));
    counted(call, "otlp", written, |written| exported(json, written))
}

/// Takes lines of InfluxDB's line protocol, packed or not.
pub(super) fn lines(call: &Call<'_>) -> Result<Reply, ApiError> {
    let writer = writer(call)?;
    let pairs = || call.query_text.split('&').filter_map(|pair| pair.split_once('='));
    let precision = pairs().find(|(name, _)| *name == "precision").map_or("", |(_, unit)| unit);
    let unit_ns = unit_ns(precision)
        .ok_or_else(|| ApiError::bad("`precision` must be ns, us, ms, s, m or h"))?;
    let written = unpack_if_packed(call.body)
        .and_then(|body| call.app.receiver.lines(&writer, &body, unit_ns, call.now_ms));
    counted(call, "influx", written, |_| Reply { status: 204, ..Reply::raw("text/plain", vec![]) })
}

/// The answer to an export: how many points were not stored, and why.
fn exported(json: bool, written: &Written) -> Reply {
    let of_kind = written.unsupported + written.histograms;
    let rejected = of_kind + u64::from(written.rejected.total());
    let mut message = written.rejected.message(written.rejected.total() as usize);
    if of_kind > 0 {
        let note = format!("{of_kind} points are deltas or native histograms, which are not taken");
        message = if message.is_empty() { note } else { format!("{message}; {note}") };
    }
    if json {
        let partial = serde_json::json!({ "partialSuccess": {
            "rejectedDataPoints": rejected.to_string(), "errorMessage": message,
        } });
        let body = if rejected > 0 { partial.to_string() } else { "{}".to_owned() };
        return Reply::raw("application/json", body.into_bytes());
    }
    let mut out = Vec::new();
    if rejected > 0 {
        let mut partial = Vec::new();
        put_int(&mut partial, 1, i64::try_from(rejected).unwrap_or(i64::MAX));
        put_bytes(&mut partial, 2, message.as_bytes());
        put_bytes(&mut out, 1, &partial);
    }
    Reply::raw("application/x-protobuf", out)
}

/// Counts a request and what became of its samples.
fn counted(
    call: &Call<'_>,
    protocol: &str,
    written: Result<Written, Refusal>,
    reply: impl FnOnce(&Written) -> Reply,
) -> Result<Reply, ApiError> {
    let metrics = &call.app.receiver.metrics;
    let reply = match written {
        Ok(written) => {
            metrics.count(protocol, &written);
            Ok(reply(&written))
        }
        Err(refusal) => Err(refused(refusal)),
    };
    let status = reply.as_ref().map_or_else(ApiError::http_status, |reply| reply.status);
    metrics.answered(protocol, status);
    reply
}

fn accepted(version: Version, written: &Written) -> Reply {
    let mut reply = Reply::raw("text/plain", Vec::new());
    reply.status = 204;
    if version == Version::Two {
        let samples = written.stored + written.duplicate + written.stale;
        let count = |name, count: u64| (name, count.to_string());
        reply.headers.extend([
            count("X-Prometheus-Remote-Write-Samples-Written", samples),
            count("X-Prometheus-Remote-Write-Histograms-Written", 0),
            count("X-Prometheus-Remote-Write-Exemplars-Written", 0),
        ]);
    }
    let refused = written.rejected.total();
    if refused > 0 {
        log::debug!("remote write: {}", written.rejected.message(refused as usize));
    }
    reply
}

/// The error of a request that was not taken: 5xx has its sender keep it and send it again.
pub(super) fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Malformed(message) if message.starts_with("unsupported content type") => {
            ApiError::new(Code::NotJson, message)
        }
        Refusal::Malformed(message) => ApiError::bad(message),
        Refusal::Busy => {
            let mut error = ApiError::new(Code::Busy, "the server is busy; retry later");
            error.retry_after_secs = Some(1);
            error
        }
        Refusal::Store(error) => error.into(),
    }
}

/// Who writes: an agent by its own token as a Basic password, or a user who may.
///
/// # Errors
///
/// 1002 without a token, 1007 for one that only reads.
pub(super) fn writer(call: &Call<'_>) -> Result<Writer, ApiError> {
    let header = call.authorization.unwrap_or("");
    if let Some((agent, token)) = basic(header).filter(|(_, it)| !it.starts_with(TOKEN_PREFIX)) {
        if call.app.whitelist.allows(&agent, &token) {
            return Ok(Writer::Agent(agent));
        }
        let message = "the password is neither an API token nor the token of this agent";
        return Err(ApiError::new(Code::Unauthenticated, message));
    }
    // InfluxDB's clients of version 2 name the scheme so.
    let bearer = header.trim().split_once(' ').and_then(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("token").then(|| format!("Bearer {token}"))
    });
    let header = bearer.as_deref().or(call.authorization);
    let identity = authenticate(&call.app.auth, header, true, call.now_ms)?;
    check_password_changed(&identity, &call.client)?;
    if identity.role < Role::Admin {
        let message = "this token only reads; use one that may write, or an agent's own";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    Ok(Writer::User(identity.username))
}
