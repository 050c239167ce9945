//! The exposition for Prometheus.

use crate::base::limits::{EXPOSITION_BYTES_MAX, EXPOSITION_SERIES_MAX};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Route};
use crate::server::api::routes::health::uptime_secs;
use crate::server::exposition;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    errors: &[Code::NotFound],
    ..Route::get(
        "/metrics",
        "The server's own figures for Prometheus and, if configured, every series' latest value.",
        Gives::Raw(exposition::CONTENT_TYPE),
        metrics,
    )
}];

fn metrics(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (app, config) = (call.app, &call.app.config.prometheus);
    if !config.enabled {
        let message = "the exposition is off: `enabled` of [prometheus] in the configuration";
        return Err(ApiError::new(Code::NotFound, message));
    }
    app.api_metrics.uptime.set(i64::try_from(uptime_secs(call)).unwrap_or(i64::MAX));
    let (mut text, taken) = exposition::own(&app.registry).map_err(|error| {
        log::error!("the exposition can't be written: {error}");
        ApiError::new(Code::Internal, "the exposition can't be written; see the server's log")
    })?;
    if config.agents {
        let left_out = app.api_metrics.exposition_left_out.lock();
        let (rows, more) = app.store.latest_of(EXPOSITION_SERIES_MAX)?;
        let bytes_max = text.len() + EXPOSITION_BYTES_MAX;
        let more = more + exposition::series(&mut text, &rows, &taken, help, bytes_max);
        left_out.set(i64::try_from(more).unwrap_or(i64::MAX));
        text.push_str(&left_out_comment(more));
    }
    Ok(Reply::raw(exposition::CONTENT_TYPE, text.into_bytes()))
}

/// Says that the answer is not all; nothing where it is.
fn left_out_comment(left_out: usize) -> String {
    if left_out == 0 {
        return String::new();
    }
    format!(
        "# oxmon: {left_out} series of agents are left out: an answer has {EXPOSITION_SERIES_MAX} \
         series and {EXPOSITION_BYTES_MAX} bytes of them at the most. Select what is needed with \
         GET /api/v1/query or /federate instead.\n"
    )
}

/// What a metric of oxmon's own agents means; a server that is built without them does not know.
#[cfg(feature = "agent")]
pub(crate) fn help(metric: &str) -> Option<String> {
    crate::agent::collectors::metric(metric).map(|metric| metric.help.to_owned())
}

/// Nothing: the agents are not built in.
#[cfg(not(feature = "agent"))]
pub(crate) fn help(_: &str) -> Option<String> {
    None
}
