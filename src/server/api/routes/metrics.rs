//! Stored points: one by one, summed up, and what there is of them. Charts are in `range`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::HOUR_MS;
use crate::base::limits::POINTS_OFFSET_MAX;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Kind, Param, Route};
use crate::server::api::routes::handover::name_missing;
use crate::server::api::schema::{Shape, Time};
use crate::server::storage::{PointFilter, PointRow};

/// How far back names and agents are looked for.
const NAMES_MS: i64 = 24 * HOUR_MS;
/// How far back a summary looks.
const SUMMARY_MS: i64 = HOUR_MS;

const DAY_GTE: Param =
    Param::new("timestamp__gte", Kind::Time, "Not before. Default: 24 hours before the end.");
const NOW_LTE: Param = Param::new("timestamp__lte", Kind::Time, "Not after. Default: now.");

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[
            Param::new("agent_id__eq", Kind::Text, "Points of exactly this agent."),
            Param::new("metric_name__eq", Kind::Text, "Points of exactly this metric."),
            Param::new("timestamp__gte", Kind::Time, "Not before."),
            Param::new("timestamp__lte", Kind::Time, "Not after."),
        ],
        ..Route::get(
            "/v1/metrics",
            "Points, newest first. `offset` is at most 1000000; `timestamp__lte` goes further.",
            Gives::List(Shape::of::<Point>()),
            list,
        )
    },
    Route {
        query: &[DAY_GTE, NOW_LTE],
        ..Route::get(
            "/v1/metrics/names",
            "Names of metrics with a point in the time, sorted.",
            Gives::List(Shape::of::<String>()),
            names,
        )
    },
    Route {
        query: &[DAY_GTE, NOW_LTE],
        ..Route::get(
            "/v1/metrics/agents",
            "Agents with a point in the time, sorted.",
            Gives::List(Shape::of::<String>()),
            agents,
        )
    },
    Route {
        query: &[
            Param::required("agent_id", Kind::Text, "Exactly this agent."),
            Param::required("metric_name", Kind::Text, "Exactly this metric."),
            Param::new("timestamp__gte", Kind::Time, "Not before. Default: 1 hour before the end."),
            NOW_LTE,
        ],
        ..Route::get(
            "/v1/metrics/summary",
            "The points of a metric of an agent over all of its series, summed up. Without points \
             all is 0.",
            Gives::One(Shape::of::<Summary>()),
            summary,
        )
    },
];

const _: () = assert!(POINTS_OFFSET_MAX == 1_000_000, "the summary of `/v1/metrics` names it");

/// A stored point.
#[derive(Serialize, ToSchema)]
struct Point {
    /// The same whenever this point is read.
    id: String,
    timestamp: Time,
    agent_id: String,
    metric_name: String,
    value: f64,
    labels: BTreeMap<String, String>,
    /// When the server stored it; near it, once the point is packed.
    created_at: Time,
}

/// Points summed up.
#[derive(Serialize, ToSchema)]
#[schema(as = MetricSummary)]
struct Summary {
    min: f64,
    max: f64,
    avg: f64,
    count: u64,
}

impl From<PointRow> for Point {
    fn from(row: PointRow) -> Self {
        Self {
            id: row.id,
            timestamp: Time(row.timestamp_ms),
            agent_id: row.key.agent.to_string(),
            metric_name: row.key.metric.to_string(),
            value: row.value,
            labels: row.key.labels.to_map(),
            created_at: Time(row.created_ms),
        }
    }
}

/// First and last millisecond asked for; without them, the last `default_ms` up to now.
///
/// # Errors
///
/// 1001 when the first is after the last.
pub(crate) fn times(call: &Call<'_>, default_ms: i64) -> Result<(i64, i64), ApiError> {
    let to_ms = call.time("timestamp__lte")?.unwrap_or(call.now_ms);
    let default = to_ms.saturating_sub(default_ms);
    let from_ms = call.time("timestamp__gte")?.unwrap_or(default);
    in_order(Some(from_ms), Some(to_ms))?;
    Ok((from_ms, to_ms))
}

fn in_order(from_ms: Option<i64>, to_ms: Option<i64>) -> Result<(), ApiError> {
    match (from_ms, to_ms) {
        (Some(from), Some(to)) if from > to => {
            Err(ApiError::bad("`timestamp__gte` must not be after `timestamp__lte`"))
        }
        _ => Ok(()),
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    if page.offset > POINTS_OFFSET_MAX {
        return Err(ApiError::bad(format!(
            "`offset` must be at most {POINTS_OFFSET_MAX} here; go on with `timestamp__lte`"
        )));
    }
    let filter = PointFilter {
        agent: call.text("agent_id__eq").map(str::to_owned),
        metric: call.text("metric_name__eq").map(str::to_owned),
        from_ms: call.time("timestamp__gte")?,
        to_ms: call.time("timestamp__lte")?,
    };
    in_order(filter.from_ms, filter.to_ms)?;
    Ok(Reply::list(&call.app.store.list(&filter, page)?.map(Point::from)))
}

fn names(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (from_ms, to_ms) = times(call, NAMES_MS)?;
    let found = call.app.store.names(from_ms, to_ms, call.page()?)?;
    Ok(name_missing(call, Reply::list(&found)))
}

fn agents(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (from_ms, to_ms) = times(call, NAMES_MS)?;
    Ok(Reply::list(&call.app.store.agents(from_ms, to_ms, call.page()?)?))
}

fn summary(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (agent, metric) = (call.required("agent_id")?, call.required("metric_name")?);
    let (from_ms, to_ms) = times(call, SUMMARY_MS)?;
    let sums = call.app.store.summary(agent, metric, from_ms, to_ms)?;
    Ok(Reply::ok(&Summary { min: sums.min, max: sums.max, avg: sums.avg, count: sums.count }))
}
