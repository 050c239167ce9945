//! Whether the server is well.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Route};
use crate::server::api::schema::Shape;
use crate::server::storage::StoreHealth;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    access: Access::Public,
    ..Route::get("/v1/health", "How the server is.", Gives::One(Shape::of::<Health>()), health)
}];

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// The server's version.
    version: &'static str,
    /// Seconds since it started.
    uptime_secs: u64,
    /// Agents with points on the disk.
    agent_count: u64,
    /// `ok`, `disk full`, or `damaged` (a day file was set aside).
    storage_status: &'static str,
    /// `ok`, or `failing` where agents get no answer: a call over a new connection, made once a
    /// second at the most.
    grpc_status: &'static str,
}

fn health(call: &Call<'_>) -> Result<Reply, ApiError> {
    // It has a worker of its own, which nothing may hold up: no query, no file.
    let store = call.app.store.health();
    let storage_status = match store {
        StoreHealth { disk_full: true, .. } => "disk full",
        StoreHealth { is_damaged: true, .. } => "damaged",
        StoreHealth { .. } => "ok",
    };
    Ok(Reply::ok(&Health {
        version: env!("CARGO_PKG_VERSION"),
        uptime_secs: uptime_secs(call),
        agent_count: store.agents as u64,
        storage_status,
        grpc_status: if call.app.grpc_health.is_serving() { "ok" } else { "failing" },
    }))
}

/// Seconds since the server started.
pub(crate) fn uptime_secs(call: &Call<'_>) -> u64 {
    (call.now_ms.saturating_sub(call.app.started_ms).max(0) / 1_000) as u64
}
