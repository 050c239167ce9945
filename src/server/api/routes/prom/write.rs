//! Remote write: samples from Prometheus, vmagent and whoever else speaks it.

use crate::model::role::Role;
use crate::server::api::auth::TOKEN_PREFIX;
use crate::server::api::dispatch::{authenticate, basic};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::receive::remote_write::{Version, unpack};
use crate::server::receive::{Refusal, Writer, Written};

const PROTOCOL: &str = "remote_write";

/// Takes a request; 204 once all of it that can be stored is on the disk.
pub fn remote_write(call: &Call<'_>) -> Result<Reply, ApiError> {
    let receiver = &call.app.receiver;
    let writer = writer(call)?;
    let written = Version::of(call.content_type).and_then(|version| {
        let message = unpack(call.body)?;
        receiver.remote_write(&writer, version, &message).map(|written| (version, written))
    });
    let reply = match written {
        Ok((version, written)) => {
            receiver.metrics.count(PROTOCOL, &written);
            Ok(accepted(version, &written))
        }
        Err(refusal) => Err(refused(refusal)),
    };
    let status = reply.as_ref().map_or_else(ApiError::http_status, |reply| reply.status);
    receiver.metrics.answered(PROTOCOL, status);
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
pub fn refused(refusal: Refusal) -> ApiError {
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
pub fn writer(call: &Call<'_>) -> Result<Writer, ApiError> {
    let header = call.authorization.unwrap_or("");
    if let Some((agent, token)) = basic(header).filter(|(_, it)| !it.starts_with(TOKEN_PREFIX)) {
        if call.app.whitelist.allows(&agent, &token) {
            return Ok(Writer::Agent(agent));
        }
        let message = "the password is neither an API token nor the token of this agent";
        return Err(ApiError::new(Code::Unauthenticated, message));
    }
    let identity = authenticate(call.app, call.authorization, true, call.now_ms)?;
    if identity.role < Role::Admin {
        let message = "this token only reads; use one that may write, or an agent's own";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    Ok(Writer::User(identity.username))
}
