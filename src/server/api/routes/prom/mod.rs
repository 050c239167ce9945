//! Prometheus' HTTP API over the store (docs/promql.md): for Grafana, promtool, vmalert and
//! Prometheus' own remote read.

use crate::server::api::prom_error::failed;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Method, Route};
use crate::server::promql::PromError;
use crate::server::promql::store::StoreSource;

mod federate;
mod form;
mod json;
mod query;
pub(crate) mod read;
mod rules;
mod series;
mod texts;
mod write;

type Handler = fn(&Call<'_>) -> Result<Reply, ApiError>;

const fn get(path: &'static str, handler: Handler) -> Route {
    Route::get(path, "Prometheus' API.", Gives::Prometheus, handler)
}

const fn post(path: &'static str, handler: Handler) -> Route {
    Route { method: Method::Post, ..get(path, handler) }
}

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    get("/api/v1/query", query::instant),
    post("/api/v1/query", query::instant),
    get("/api/v1/query_range", query::range),
    post("/api/v1/query_range", query::range),
    get("/api/v1/query_exemplars", texts::exemplars),
    post("/api/v1/query_exemplars", texts::exemplars),
    get("/api/v1/format_query", texts::format_query),
    post("/api/v1/format_query", texts::format_query),
    get("/api/v1/parse_query", texts::parse_query),
    post("/api/v1/parse_query", texts::parse_query),
    get("/api/v1/series", series::series),
    post("/api/v1/series", series::series),
    get("/api/v1/labels", series::labels),
    post("/api/v1/labels", series::labels),
    get("/api/v1/label/{name}/values", series::values),
    get("/api/v1/metadata", series::metadata),
    get("/federate", federate::federate),
    get("/api/v1/rules", rules::rules),
    get("/api/v1/alerts", rules::alerts),
    get("/api/v1/status/buildinfo", texts::buildinfo),
    post("/api/v1/read", read::remote_read),
    // An agent's own token is taken too, so the handler itself asks who writes.
    Route { access: Access::Public, ..post("/api/v1/write", write::remote_write) },
    Route { access: Access::Public, ..post("/api/v1/otlp/v1/metrics", write::otlp) },
    Route { access: Access::Public, ..post("/api/v1/influx/write", write::lines) },
    Route { access: Access::Public, ..post("/api/v1/influx/api/v2/write", write::lines) },
];

const JSON: &str = "application/json";

/// Why a call of Prometheus' API has no result.
enum Failure {
    /// A parameter that is missing or can't be taken.
    Bad(String),
    /// The query.
    Query(PromError),
}

impl From<PromError> for Failure {
    fn from(error: PromError) -> Self {
        Self::Query(error)
    }
}

impl Failure {
    fn parameter(name: &str, error: impl std::fmt::Display) -> Self {
        Self::Bad(format!("invalid parameter {name:?}: {error}"))
    }

    /// HTTP status, Prometheus' name of the kind, and message.
    fn parts(self) -> (u16, &'static str, String) {
        match self {
            Self::Bad(message) => (400, "bad_data", message),
            Self::Query(PromError::Parse(error)) => (400, "bad_data", error.to_string()),
            Self::Query(PromError::Execution(message)) => (422, "execution", message),
            Self::Query(error @ PromError::Timeout) => (503, "timeout", error.to_string()),
            Self::Query(error @ PromError::Canceled) => (503, "canceled", error.to_string()),
            Self::Query(PromError::Storage(error)) => {
                let error = ApiError::from(error);
                (error.http_status(), "internal", error.message)
            }
        }
    }
}

fn raw(status: u16, bytes: Vec<u8>) -> Reply {
    Reply { status, ..Reply::raw(JSON, bytes) }
}

/// The answer of a handler that gives the text of `data`.
fn reply(outcome: Result<Vec<u8>, Failure>) -> Result<Reply, ApiError> {
    match outcome {
        Ok(data) => {
            let mut out = Vec::with_capacity(data.len() + 40);
            out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
            out.extend_from_slice(&data);
            out.push(b'}');
            Ok(raw(200, out))
        }
        Err(failure) => {
            let (status, kind, message) = failure.parts();
            Ok(raw(status, failed(kind, &message)))
        }
    }
}

/// The store's series under their names of now.
fn source<'a>(call: &'a Call<'_>) -> StoreSource<'a> {
    let app = call.app;
    StoreSource::open(&*app.store, &app.registry, &app.config.prometheus.agent_label)
}
