//! Agents: who reports, when each last reported, and its newest values. Who may report is in
//! `whitelist`.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::MINUTE_MS;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::storage::{LatestRow, Listing};

/// How long after its newest point an agent counts as active: thirty ticks at the default interval.
/// One that reports less often than this is inactive between its reports.
pub(crate) const AGENT_ACTIVE_MS: i64 = 5 * MINUTE_MS;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route::get(
        "/v1/agents",
        "Agents that have reported or may report, by when they last reported, newest first. \
         One is active for five minutes after its newest point.",
        Gives::List(Shape::of::<Agent>()),
        list,
    ),
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/{id}/latest",
            "The newest value of each series of an agent, by metric and labels.",
            Gives::Many(Shape::of::<Latest>()),
            latest,
        )
    },
];

/// Whether an agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AgentStatus {
    /// It has a point of the last five minutes.
    Active,
    /// It has older points.
    Inactive,
    /// It is on the whitelist, and has no points.
    Unknown,
}

impl AgentStatus {
    /// The status at `now_ms` of an agent whose newest point is at `last_seen_ms`.
    pub(crate) fn at(now_ms: i64, last_seen_ms: Option<i64>) -> Self {
        match last_seen_ms {
            Some(seen) if now_ms.saturating_sub(seen) <= AGENT_ACTIVE_MS => Self::Active,
            Some(_) => Self::Inactive,
            None => Self::Unknown,
        }
    }
}

/// An agent that has reported or may report.
#[derive(Serialize, ToSchema)]
struct Agent {
    agent_id: String,
    /// Time of its newest point.
    last_seen: Option<Time>,
    active: bool,
    #[schema(inline)]
    status: AgentStatus,
}

impl Agent {
    fn new(agent_id: String, last_seen_ms: Option<i64>, now_ms: i64) -> Self {
        let status = AgentStatus::at(now_ms, last_seen_ms);
        let active = status == AgentStatus::Active;
        Self { agent_id, last_seen: last_seen_ms.map(Time), active, status }
    }
}

/// The newest value of a series.
#[derive(Serialize, ToSchema)]
struct Latest {
    metric_name: String,
    value: f64,
    labels: BTreeMap<String, String>,
    timestamp: Time,
}

impl From<LatestRow> for Latest {
    fn from(row: LatestRow) -> Self {
        Self {
            metric_name: row.key.metric.to_string(),
            value: row.value,
            labels: row.key.labels.to_map(),
            timestamp: Time(row.timestamp_ms),
        }
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let seen = call.app.store.agents_seen()?;
    let silent = {
        let known: HashSet<&str> = seen.iter().map(|agent| agent.agent_id.as_str()).collect();
        call.app.whitelist.agent_ids_without(&known)
    };
    let seen = seen.into_iter().map(|agent| (agent.agent_id, Some(agent.last_seen_ms)));
    let all: Vec<_> = seen.chain(silent.into_iter().map(|agent_id| (agent_id, None))).collect();
    let found = Listing::slice(all.into_iter(), page);
    Ok(Reply::list(&found.map(|(id, last_seen_ms)| Agent::new(id, last_seen_ms, call.now_ms))))
}

fn latest(call: &Call<'_>) -> Result<Reply, ApiError> {
    let agent = call.param("id");
    let rows = call.app.store.latest(agent)?;
    if rows.is_empty() {
        return Err(ApiError::not_found("agent with points", agent));
    }
    let rows: Vec<Latest> = rows.into_iter().map(Latest::from).collect();
    Ok(Reply::ok(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_active_for_five_minutes() {
        let now = 1_770_625_800_000;
        assert_eq!(AgentStatus::at(now, None), AgentStatus::Unknown);
        assert_eq!(AgentStatus::at(now, Some(now + MINUTE_MS)), AgentStatus::Active);
        assert_eq!(AgentStatus::at(now, Some(now - AGENT_ACTIVE_MS)), AgentStatus::Active);
        assert_eq!(AgentStatus::at(now, Some(now - AGENT_ACTIVE_MS - 1)), AgentStatus::Inactive);
    }
}
