//! Agents: who reports, when each last reported, its newest values, and how one is removed. Who may
//! report is in `whitelist`.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::MINUTE_MS;
use crate::base::limits::LATEST_ROWS_MAX;
use crate::server::api::app::App;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Kind, Method, Param, Route};
use crate::server::api::routes::handover::name_missing;
use crate::server::api::routes::hosts::Facts;
use crate::server::api::schema::{Shape, Time};
use crate::server::control::{hosts as hosts_table, profiles, removed};
use crate::server::ingest::auth::WhitelistError;
use crate::server::ingest::senders::Sender;
use crate::server::storage::{LatestRow, Listing, Page, StorageError};

/// How long after its last report an agent counts as active: thirty of them at the default
/// interval. One that reports less often than this is inactive between its reports.
pub(crate) const AGENT_ACTIVE_MS: i64 = 5 * MINUTE_MS;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[Param::new(
            "search",
            Kind::Text,
            "Agents whose id, or one of whose host's facts, holds this text, in any case.",
        )],
        ..Route::get(
            "/v1/agents",
            "Agents that have reported or may report, by when they last reported, newest first. \
             One is active for five minutes after its last report, whatever its clock says.",
            Gives::List(Shape::of::<Agent>()),
            list,
        )
    },
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/{id}",
            "An agent, with what it said of its host: system, processor, memory, addresses.",
            Gives::One(Shape::of::<AgentDetail>()),
            detail,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        query: &[Param::new(
            "points",
            Kind::Flag,
            "Whether its stored points are deleted as well. Default: false.",
        )],
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/{id}",
            "Remove an agent: its token, its alerts and its place in every list. Its points stay \
             until the retention drops them, or are deleted with `points=true`. An agent that \
             still reports, and may, appears again.",
            Gives::One(Shape::of::<RemovedAgent>()),
            remove,
        )
    },
    Route {
        errors: &[Code::NotFound],
        query: &[
            Param::new(
                "limit",
                Kind::Count,
                "Rows at most. Default: 1000. Over 1000 counts as 1000; 0 gives none.",
            ),
            Param::new("offset", Kind::Count, "Rows to skip."),
        ],
        ..Route::get(
            "/v1/agents/{id}/latest",
            "The newest value of each series of an agent, by metric and labels. `X-Total-Count` \
             gives the number of all.",
            Gives::Many(Shape::of::<Latest>()),
            latest,
        )
    },
];

/// Whether an agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AgentStatus {
    /// It has reported within the last five minutes.
    Active,
    /// It has reported before that.
    Inactive,
    /// It is on the whitelist, and has not reported.
    Unknown,
}

impl AgentStatus {
    /// The status at `now_ms` of an agent whose last report arrived at `last_seen_ms`.
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
    /// When its last report arrived.
    last_seen: Option<Time>,
    active: bool,
    #[schema(inline)]
    status: AgentStatus,
    #[serde(flatten)]
    oddities: Oddities,
}

impl Agent {
    fn new(known: KnownAgent, now_ms: i64) -> Self {
        let KnownAgent { agent_id, last_seen_ms, oddities } = known;
        let status = AgentStatus::at(now_ms, last_seen_ms);
        let active = status == AgentStatus::Active;
        Self { agent_id, last_seen: last_seen_ms.map(Time), active, status, oddities }
    }
}

/// What is odd about an agent's reports since the server started.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Oddities {
    /// How many seconds its clock is ahead of the server's, negative when it is behind; null while
    /// that is not known.
    clock_skew_secs: Option<f64>,
    /// Whether two processes have reported with its id in turns within the last ten minutes.
    twins: bool,
    /// What should be looked after, each a sentence.
    warnings: Vec<String>,
}

impl From<Option<Sender>> for Oddities {
    fn from(sender: Option<Sender>) -> Self {
        let Sender { skew_ms, twins, warnings, .. } = sender.unwrap_or_default();
        // Adding 0 makes 0 of what rounds to -0.
        let clock_skew_secs = skew_ms.map(|skew_ms| (skew_ms as f64 / 100.0).round() / 10.0 + 0.0);
        Self { clock_skew_secs, twins: twins.is_some(), warnings }
    }
}

/// An agent as all lists of agents begin with it.
pub(crate) struct KnownAgent {
    /// The agent.
    pub(crate) agent_id: String,
    /// When its last report arrived, Unix milliseconds; `None` when there was none.
    pub(crate) last_seen_ms: Option<i64>,
    /// What is odd about its reports.
    pub(crate) oddities: Oddities,
}

/// Every agent that has reported or may report, by when it last reported, newest first.
///
/// # Errors
///
/// When the store can't be read.
pub(crate) fn known_agents(app: &App) -> Result<Vec<KnownAgent>, StorageError> {
    let mut senders = app.senders.all();
    let mut agents: Vec<KnownAgent> = Vec::new();
    for seen in app.store.agents_seen()? {
        let sender = senders.remove(&seen.agent_id);
        let arrived_ms = sender.as_ref().map_or(i64::MIN, |sender| sender.arrived_ms);
        agents.push(KnownAgent {
            agent_id: seen.agent_id,
            last_seen_ms: Some(arrived_ms.max(seen.last_seen_ms)),
            oddities: sender.into(),
        });
    }
    // Those whose points were all rejected.
    agents.extend(senders.into_iter().map(|(agent_id, sender)| KnownAgent {
        agent_id,
        last_seen_ms: Some(sender.arrived_ms),
        oddities: Some(sender).into(),
    }));
    agents.sort_by(|a, b| {
        b.last_seen_ms.cmp(&a.last_seen_ms).then_with(|| a.agent_id.cmp(&b.agent_id))
    });
    let silent = {
        let known: HashSet<&str> = agents.iter().map(|agent| agent.agent_id.as_str()).collect();
        app.whitelist.agent_ids_without(&known)
    };
    agents.extend(silent.into_iter().map(|agent_id| KnownAgent {
        agent_id,
        last_seen_ms: None,
        oddities: None.into(),
    }));
    Ok(agents)
}

/// What was removed of an agent.
#[derive(Serialize, ToSchema)]
struct RemovedAgent {
    agent_id: String,
    /// Always true.
    deleted: bool,
    /// Whether it was on the whitelist.
    whitelisted: bool,
    /// Alerts that ended with it.
    alerts_ended: u64,
    /// Stored points that were deleted.
    points_deleted: u64,
}

/// An agent with its host.
#[derive(Serialize, ToSchema)]
struct AgentDetail {
    #[serde(flatten)]
    agent: Agent,
    /// Null where the agent has said nothing, as those of earlier versions do.
    facts: Option<Facts>,
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
    let mut known = known_agents(call.app)?;
    if let Some(text) = call.text("search") {
        let by_facts = call.app.control.read(|db| hosts_table::with_facts(db, text))?;
        let text = text.to_lowercase();
        known.retain(|known| {
            known.agent_id.to_lowercase().contains(&text) || by_facts.contains(&known.agent_id)
        });
    }
    let found = Listing::slice(known.into_iter(), page);
    Ok(name_missing(call, Reply::list(&found.map(|known| Agent::new(known, call.now_ms)))))
}

fn detail(call: &Call<'_>) -> Result<Reply, ApiError> {
    let id = call.param("id");
    let known = known_agents(call.app)?.into_iter().find(|known| known.agent_id == id);
    let known = known.ok_or_else(|| ApiError::not_found("agent", id))?;
    let facts = call.app.control.read(|db| hosts_table::facts(db, id))?;
    let facts = facts.map(|(facts, updated_ms)| Facts::new(facts, updated_ms));
    Ok(Reply::ok(&AgentDetail { agent: Agent::new(known, call.now_ms), facts }))
}

fn latest(call: &Call<'_>) -> Result<Reply, ApiError> {
    let agent = call.param("id");
    let rows = call.app.store.latest(agent)?;
    if rows.is_empty() {
        return Err(ApiError::not_found("agent with points", agent));
    }
    let limit: u32 = call.parsed("limit")?.unwrap_or(u32::MAX);
    let offset: u32 = call.parsed("offset")?.unwrap_or(0);
    let page = Page { limit: LATEST_ROWS_MAX.min(limit as usize), offset: offset as usize };
    Ok(Reply::list(&Listing::slice(rows.into_iter(), page).map(Latest::from)))
}

/// The agent that a path names: by its id, or by the id of its row on the whitelist.
pub(crate) fn named(call: &Call<'_>, id: &str) -> Result<String, ApiError> {
    if known_agents(call.app)?.iter().any(|known| known.agent_id == id) {
        return Ok(id.to_owned());
    }
    match call.app.whitelist.get(id) {
        Ok(row) => Ok(row.agent_id),
        Err(WhitelistError::NotFound(_)) => {
            // It reports to the server through which this call came.
            call.passed_agent.clone().ok_or_else(|| ApiError::not_found("agent", id))
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(call: &Call<'_>) -> Result<Reply, ApiError> {
    let app = call.app;
    let agent_id = named(call, call.param("id"))?;
    let with_points = call.parsed("points")?.unwrap_or(false);
    // The token first: what it still sends must not make it appear again.
    let whitelisted = match app.whitelist.delete(&agent_id) {
        Ok(()) => true,
        Err(WhitelistError::NotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    let (agent, now_ms) = (agent_id.clone(), call.now_ms);
    app.control.write(move |tx| -> Result<(), StorageError> {
        hosts_table::remove(tx, &agent)?;
        profiles::remove(tx, &agent)?;
        Ok(if with_points {
            removed::delete(tx, &agent)
        } else {
            removed::put(tx, &agent, now_ms)
        }?)
    })?;
    app.store.hide_agent(&agent_id);
    let points_deleted = if with_points { app.store.forget_agent(&agent_id)? } else { 0 };
    let alerts_ended = app.alerts.end_agent(&agent_id, "the agent was removed") as u64;
    profiles::load_tags(&app.control)?;
    app.alerts.retag()?;
    app.senders.forget(&agent_id);
    log::info!("removed agent `{agent_id}`: {alerts_ended} alerts, {points_deleted} points");
    Ok(Reply::ok(&RemovedAgent {
        agent_id,
        deleted: true,
        whitelisted,
        alerts_ended,
        points_deleted,
    }))
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
