//! What servers of `[peers]` ask each other for: where agents are, and samples.

use crate::base::clock::MINUTE_MS;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Kind, Param, Route};
use crate::server::handover::Handover;
use crate::server::handover::wire::{self, Wanted};
use crate::server::storage::{EventFilter, Page, PointFilter};

const FROM: Param = Param::new("from_ms", Kind::Text, "Not before, Unix milliseconds.");
const TO: Param = Param::new("to_ms", Kind::Text, "Not after, Unix milliseconds.");
const AGENT: Param = Param::new("agent", Kind::Text, "Exactly this agent.");
const METRIC: Param = Param::new("metric", Kind::Text, "Exactly this metric.");
const NEWEST: Param = Param::new("newest", Kind::Flag, "The newest sample of each series.");

/// The endpoints, which take the common token.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        access: Access::Peer,
        query: &[
            Param::required("server", Kind::Text, "Who asks."),
            Param::required("boot", Kind::Text, "The table that the version is of."),
            Param::required("since", Kind::Text, "The version that is known."),
        ],
        ..Route::get(
            "/v1/peers/agents",
            "Where agents are, and the state of their alerts: what is new.",
            Gives::Peer,
            agents,
        )
    },
    Route {
        access: Access::Peer,
        query: &[AGENT, METRIC, FROM, TO, NEWEST],
        ..Route::get("/v1/peers/points", "Samples that are here.", Gives::Peer, points)
    },
    Route {
        access: Access::Peer,
        query: &[AGENT],
        ..Route::get("/v1/peers/latest", "Newest values that are here.", Gives::Peer, latest)
    },
    Route {
        access: Access::Peer,
        query: &[FROM, TO],
        ..Route::get("/v1/peers/names", "Metrics that are here.", Gives::Peer, names)
    },
    Route {
        access: Access::Peer,
        query: &[METRIC, FROM, TO, NEWEST, Param::required("rows", Kind::Count, "Points at most.")],
        ..Route::get("/v1/peers/list", "The newest points that are here.", Gives::Peer, list)
    },
    Route {
        access: Access::Peer,
        query: &[
            Param::required("filter", Kind::Text, "Which events, as JSON."),
            Param::required("rows", Kind::Count, "Events at most."),
        ],
        ..Route::get("/v1/peers/events", "Alert events that are here.", Gives::Peer, events)
    },
    Route {
        access: Access::Peer,
        query: &[Param::required("id", Kind::Text, "The event's id.")],
        ..Route::get("/v1/peers/event", "An alert event, where it is here.", Gives::Peer, event)
    },
];

fn room<'a>(call: &'a Call<'_>) -> Result<&'a Handover, ApiError> {
    let alone = || ApiError::new(Code::NotFound, "this server is alone: [peers] is not configured");
    call.app.handover.as_deref().ok_or_else(alone)
}

fn times(call: &Call<'_>) -> Result<(i64, i64), ApiError> {
    let from_ms = call.parsed("from_ms")?.unwrap_or(0);
    // Clocks of agents may be ahead.
    let default = call.now_ms + 60 * MINUTE_MS;
    Ok((from_ms, call.parsed("to_ms")?.unwrap_or(default)))
}

fn agents(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (who, boot) = (call.required("server")?, call.required("boot")?);
    let since = call.parsed("since")?.unwrap_or(0);
    Ok(Reply::peer(&room(call)?.news(who, (boot, since))))
}

fn points(call: &Call<'_>) -> Result<Reply, ApiError> {
    let wanted = Wanted {
        agent: call.text("agent"),
        metric: call.text("metric"),
        times: times(call)?,
        newest_only: call.parsed("newest")?.unwrap_or(false),
    };
    Ok(Reply::peer(&wire::points(room(call)?.local(), &wanted)?))
}

fn latest(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::peer(&wire::latest(room(call)?.local(), call.text("agent"))?))
}

fn names(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (from_ms, to_ms) = times(call)?;
    let all = Page { limit: usize::MAX, offset: 0 };
    Ok(Reply::peer(&room(call)?.local().names(from_ms, to_ms, all)?.items))
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (from_ms, to_ms) = times(call)?;
    let filter = PointFilter {
        agent: None,
        metric: call.text("metric").map(str::to_owned),
        from_ms: Some(from_ms),
        to_ms: Some(to_ms),
    };
    let page = Page { limit: call.parsed("rows")?.unwrap_or(0), offset: 0 };
    Ok(Reply::peer(&wire::list(room(call)?.local(), &filter, page)?))
}

fn events(call: &Call<'_>) -> Result<Reply, ApiError> {
    let filter: EventFilter = serde_json::from_str(call.required("filter")?)
        .map_err(|error| ApiError::bad(format!("invalid filter: {error}")))?;
    let page = Page { limit: call.parsed("rows")?.unwrap_or(0), offset: 0 };
    let found = room(call)?.local().events(&filter, page)?;
    Ok(Reply::peer(&(found.total, found.items)))
}

fn event(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::peer(&room(call)?.local().event(call.required("id")?)?))
}

/// Names in a reply the servers that do not answer: their part of a list may be missing.
pub(crate) fn name_missing(call: &Call<'_>, mut reply: Reply) -> Reply {
    let away = call.app.handover.as_ref().map(|known| known.away()).unwrap_or_default();
    if !away.is_empty() {
        reply.headers.push(("X-Oxmon-Missing", away.join(", ")));
    }
    reply
}
