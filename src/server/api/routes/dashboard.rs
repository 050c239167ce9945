//! The whole at a glance.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::DAY_MS;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Route};
use crate::server::api::routes::agents::{AgentStatus, KnownAgent, known_agents};
use crate::server::api::routes::certs::CertSummary;
use crate::server::api::routes::health::uptime_secs;
use crate::server::api::routes::system::day_bytes;
use crate::server::api::schema::Shape;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route::get(
    "/v1/dashboard/overview",
    "Agents, alerts, certificates and storage at a glance.",
    Gives::One(Shape::of::<Overview>()),
    overview,
)];

#[derive(Serialize, ToSchema)]
struct Overview {
    /// Agents that reported within the last five minutes.
    active_agents: u64,
    /// Agents that have reported, as far back as points are kept, or may report.
    total_agents: u64,
    /// Alerts that fired within the last 24 hours.
    alerts_24h: u64,
    /// The same by `info`, `warning` and `critical`.
    alerts_by_severity: BTreeMap<&'static str, u64>,
    cert_summary: CertSummary,
    /// Day files.
    partition_count: u64,
    /// Bytes of all day files.
    storage_total_bytes: u64,
    /// Seconds since the server started.
    uptime_secs: u64,
}

fn overview(call: &Call<'_>) -> Result<Reply, ApiError> {
    let app = call.app;
    let agents = known_agents(app)?;
    let is_active = |agent: &&KnownAgent| {
        AgentStatus::at(call.now_ms, agent.last_seen_ms) == AgentStatus::Active
    };
    let alerts = app.alerts.count_since(call.now_ms.saturating_sub(DAY_MS))?;
    let report = app.store.report()?;
    Ok(Reply::ok(&Overview {
        active_agents: agents.iter().filter(is_active).count() as u64,
        total_agents: agents.len() as u64,
        alerts_24h: alerts.iter().map(|(_, count)| count).sum(),
        alerts_by_severity: alerts.iter().map(|(name, count)| (name.name(), *count)).collect(),
        cert_summary: app.certs.counts()?.into(),
        partition_count: report.partitions.len() as u64,
        storage_total_bytes: day_bytes(&report),
        uptime_secs: uptime_secs(call),
    }))
}
