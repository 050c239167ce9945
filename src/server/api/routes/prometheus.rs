//! The exposition for Prometheus.

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
        exposition::series(&mut text, &app.store.latest_all()?, &taken, help);
    }
    Ok(Reply::raw(exposition::CONTENT_TYPE, text.into_bytes()))
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
