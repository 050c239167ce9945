//! All agents with their newest values, so that a table of them is one request.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Kind, Param, Route};
use crate::server::api::routes::agents::{
    AGENT_ACTIVE_MS, AgentStatus, KnownAgent, Oddities, known_agents,
};
use crate::server::api::routes::handover::name_missing;
use crate::server::api::schema::{Shape, Time};
use crate::server::control::profiles;
use crate::server::storage::{LatestRow, Listing};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    query: &[Param::new("agent_id__contains", Kind::Text, "Agents whose id has this in it.")],
    ..Route::get(
        "/v1/dashboard/agents",
        "Agents that have reported or may report, by id, each with the newest of its main values.",
        Gives::List(Shape::of::<FleetAgent>()),
        list,
    )
}];

/// An agent at a glance. A value that it has never reported is null.
#[derive(Serialize, ToSchema)]
struct FleetAgent {
    agent_id: String,
    /// What lists call it; empty for its id.
    display_name: String,
    /// A note for people.
    note: String,
    tags: BTreeSet<String>,
    /// When its last report arrived.
    last_seen: Option<Time>,
    /// `unknown` is on the whitelist and has not reported.
    #[schema(inline)]
    status: AgentStatus,
    /// `cpu.usage`.
    cpu_percent: Option<f64>,
    /// `memory.used_percent`.
    memory_percent: Option<f64>,
    /// `disk.used_percent` of the fullest file system.
    disk_percent: Option<f64>,
    /// Where that file system is mounted.
    disk_mount: Option<String>,
    /// `load.load_1`.
    load_1: Option<f64>,
    #[serde(flatten)]
    oddities: Oddities,
    /// Timestamp of its newest point.
    #[serde(skip)]
    newest_ms: i64,
}

impl FleetAgent {
    fn new(known: KnownAgent, now_ms: i64) -> Self {
        let KnownAgent { agent_id, last_seen_ms, oddities } = known;
        Self {
            agent_id,
            display_name: String::new(),
            note: String::new(),
            tags: BTreeSet::new(),
            last_seen: last_seen_ms.map(Time),
            status: AgentStatus::at(now_ms, last_seen_ms),
            cpu_percent: None,
            memory_percent: None,
            disk_percent: None,
            disk_mount: None,
            load_1: None,
            oddities,
            newest_ms: i64::MIN,
        }
    }

    /// Takes a newest value, if it is one that is shown. A series that ended long before the agent
    /// last reported is passed over: a file system that is gone is not the fullest one.
    fn take(&mut self, row: &LatestRow) {
        if row.timestamp_ms < self.newest_ms.saturating_sub(AGENT_ACTIVE_MS) {
            return;
        }
        let value = Some(row.value);
        match &*row.key.metric {
            "cpu.usage" => self.cpu_percent = value,
            "memory.used_percent" => self.memory_percent = value,
            "load.load_1" => self.load_1 = value,
            "disk.used_percent" if self.disk_percent.is_none_or(|most| row.value > most) => {
                self.disk_percent = value;
                self.disk_mount = row.key.labels.get("mount").map(str::to_owned);
            }
            _ => {}
        }
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let part = call.text("agent_id__contains").unwrap_or_default();
    let mut agents: BTreeMap<String, FleetAgent> = known_agents(call.app)?
        .into_iter()
        .filter(|known| known.agent_id.contains(part))
        .map(|known| (known.agent_id.clone(), FleetAgent::new(known, call.now_ms)))
        .collect();
    for (agent_id, profile) in call.app.control.read(profiles::all)? {
        if let Some(agent) = agents.get_mut(&agent_id) {
            agent.display_name = profile.display_name;
            agent.note = profile.note;
            agent.tags = profile.tags;
        }
    }
    let rows = call.app.store.latest_all()?;
    for row in &rows {
        if let Some(agent) = agents.get_mut(&*row.key.agent) {
            agent.newest_ms = agent.newest_ms.max(row.timestamp_ms);
        }
    }
    for row in &rows {
        if let Some(agent) = agents.get_mut(&*row.key.agent) {
            agent.take(row);
        }
    }
    Ok(name_missing(call, Reply::list(&Listing::slice(agents.into_values(), page))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::{Labels, SeriesKey};

    #[test]
    fn the_fullest_file_system_that_is_still_there_is_shown() {
        let now = 1_770_625_800_000;
        let known = KnownAgent {
            agent_id: "web-01".into(),
            last_seen_ms: Some(now),
            oddities: None.into(),
        };
        let mut agent = FleetAgent::new(known, now);
        agent.newest_ms = now;
        let row = |mount: &str, value, timestamp_ms| LatestRow {
            key: SeriesKey {
                agent: "web-01".into(),
                metric: "disk.used_percent".into(),
                labels: Labels::one("mount", mount),
            },
            timestamp_ms,
            value,
        };
        agent.take(&row("/", 40.0, now));
        agent.take(&row("/data", 95.5, now - AGENT_ACTIVE_MS));
        agent.take(&row("/home", 50.0, now));
        agent.take(&row("/gone", 99.0, now - AGENT_ACTIVE_MS - 1));
        assert_eq!((agent.disk_percent, agent.disk_mount.as_deref()), (Some(95.5), Some("/data")));
        assert_eq!(agent.cpu_percent, None);
    }
}
