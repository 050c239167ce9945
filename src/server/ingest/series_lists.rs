//! From names to series. An agent's reports name the same series in the same order, so a report is
//! compared with what its agent sent before, place by place, and nothing is looked up or copied.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use super::admit::{AcceptedTimes, Reason, Rejected, check_series};
use super::decode::RawPoint;
use crate::base::clock::MINUTE_MS;
use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::{SampleSet, Series, SeriesList, Store};

/// Series lists remembered for one agent: its usual collection, one without rare series, and the
/// calls of a backlog, which may be cut anywhere.
const LISTS_MAX: usize = 4;
/// Agents that have not reported for so long are forgotten.
const FORGET_AFTER_MS: i64 = 10 * MINUTE_MS;
/// Agents whose lists are remembered.
const AGENTS_MAX: usize = 65_536;
/// Maps of agents, each behind its own lock, so that completion queues seldom meet.
const SHARDS: usize = 16;

/// The series lists that agents sent last.
#[derive(Default)]
pub(crate) struct SeriesLists([Mutex<Agents>; SHARDS]);

type Agents = HashMap<Box<str>, Arc<Mutex<Agent>>>;

#[derive(Default)]
struct Agent {
    lists: Vec<SeriesList>,
    used_ms: i64,
}

/// Looks up what one report names. Points are those of one agent at one time.
pub(crate) struct Resolver<'a> {
    store: &'a dyn Store,
    agent_id: &'a str,
    agent: Arc<Mutex<Agent>>,
}

impl SeriesLists {
    /// A resolver for an agent's report.
    pub(crate) fn of<'a>(
        &self,
        store: &'a dyn Store,
        agent_id: &'a str,
        now_ms: i64,
    ) -> Resolver<'a> {
        let mut hasher = DefaultHasher::new();
        agent_id.hash(&mut hasher);
        let mut shard = self.0[hasher.finish() as usize % SHARDS].lock();
        let agent = match shard.get(agent_id) {
            Some(agent) => Arc::clone(agent),
            // Of more agents nothing is remembered: their series are looked up each time.
            None if shard.len() >= AGENTS_MAX / SHARDS => Arc::default(),
            None => Arc::clone(shard.entry(agent_id.into()).or_default()),
        };
        drop(shard);
        agent.lock().used_ms = now_ms;
        Resolver { store, agent_id, agent }
    }

    /// Forgets agents that no longer report.
    pub(crate) fn sweep(&self, now_ms: i64) {
        for shard in &self.0 {
            let keep =
                |agent: &Arc<Mutex<Agent>>| (now_ms - agent.lock().used_ms).abs() < FORGET_AFTER_MS;
            shard.lock().retain(|_, agent| keep(agent));
        }
    }
}

impl Resolver<'_> {
    /// The samples of points of one time; `None` when none of them can be stored.
    pub(crate) fn sample_set(
        &self,
        run: &[RawPoint<'_>],
        times: &AcceptedTimes,
        rejected: &mut Rejected,
    ) -> Option<SampleSet> {
        let timestamp_ms = run.first()?.timestamp_ms();
        let whole = run.iter().all(|point| times.check(timestamp_ms, point.value()).is_ok());
        if whole && let Some(series) = self.agent.lock().matching(run) {
            let values = run.iter().map(RawPoint::value).collect();
            return Some(SampleSet { timestamp_ms, series, values });
        }
        let mut series = Vec::with_capacity(run.len());
        let mut values = Vec::with_capacity(run.len());
        for point in run {
            let found = times
                .check(timestamp_ms, point.value())
                .and_then(|()| check_series(point.metric(), point.labels()))
                .and_then(|()| self.resolve(point));
            match found {
                Ok(found) => {
                    series.push(found);
                    values.push(point.value());
                }
                Err(reason) => rejected.add(reason),
            }
        }
        if series.is_empty() {
            return None;
        }
        let series: SeriesList = series.into();
        if series.len() == run.len() {
            self.agent.lock().remember(&series);
        }
        Some(SampleSet { timestamp_ms, series, values })
    }

    fn resolve(&self, point: &RawPoint<'_>) -> Result<Arc<Series>, Reason> {
        let labels = if point.labels().len() == 0 {
            Labels::none()
        } else {
            Labels::from_pairs(point.labels())
        };
        resolve(self.store, self.agent_id, point.metric().into(), labels)
    }
}

/// The series of an agent with this name and these labels.
///
/// # Errors
///
/// When the agent, or all agents together, may have no more.
pub(crate) fn resolve(
    store: &dyn Store,
    agent_id: &str,
    metric: Arc<str>,
    labels: Labels,
) -> Result<Arc<Series>, Reason> {
    let key = SeriesKey { agent: agent_id.into(), metric, labels };
    store.resolve(key).map_err(|error| Reason::of(&error))
}

impl Agent {
    /// The remembered list that is exactly these points' series.
    fn matching(&mut self, run: &[RawPoint<'_>]) -> Option<SeriesList> {
        let at = self.lists.iter().position(|list| {
            list.len() == run.len()
                && list.iter().zip(run).all(|(series, point)| is_of(point, &series.key))
        })?;
        self.lists[..=at].rotate_right(1);
        self.lists.first().cloned()
    }

    fn remember(&mut self, series: &SeriesList) {
        self.lists.truncate(LISTS_MAX - 1);
        self.lists.insert(0, Arc::clone(series));
    }
}

/// Whether a point is of a series. Labels come in any order, and a name may come twice.
fn is_of(point: &RawPoint<'_>, key: &SeriesKey) -> bool {
    let labels = point.labels();
    if point.metric() != &*key.metric || labels.len() != key.labels.len() {
        return false;
    }
    let mut seen = 0_u32;
    for (name, value) in labels {
        let at = key.labels.iter().position(|(known, it)| known == name && it == value);
        // A duplicate label means that another one is missing: resolved without the list.
        match at {
            Some(at) if at < 32 && seen & (1 << at) == 0 => seen |= 1 << at,
            _ => return false,
        }
    }
    true
}
