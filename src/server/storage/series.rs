//! Series by number. A batch is looked up once, on the thread that brings it: its points come in
//! the order of the batch before, so that comparing texts place by place finds all of them
//! without a hash, and what the writers see are shared lists.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::base::limits::SERIES_PER_AGENT_MAX;
use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::{Series, StorageError};

/// Maps of agents, each behind its own lock, so that callers seldom meet.
const SHARDS: usize = 16;

/// Agents by name, each behind a lock of its own.
type Shard = Mutex<HashMap<Box<str>, Arc<Mutex<AgentSeries>>>>;

/// Every series that the process knows.
pub(crate) struct SeriesCatalog {
    shards: [Shard; SHARDS],
    metrics: Mutex<HashMap<Arc<str>, u32>>,
    /// Sets of labels: hosts that are alike have the same ones, and keep them once.
    labels: Mutex<LabelSets>,
    next_metric: AtomicU32,
    next: AtomicU32,
    per_agent_max: usize,
}

/// Which series an agent has reported, so that their number can be bounded.
#[derive(Default)]
struct AgentSeries {
    known: HashSet<ByKey>,
    sweep_at: usize,
}

/// Sets of labels that series share.
#[derive(Default)]
struct LabelSets {
    known: HashSet<Labels>,
    sweep_at: usize,
}

impl LabelSets {
    fn sweep(&mut self) {
        self.known.retain(Labels::is_shared);
        self.sweep_at = self.known.len() * 2;
    }
}

/// A series found by its key, without a copy of the key.
struct ByKey(Arc<Series>);

impl Borrow<SeriesKey> for ByKey {
    fn borrow(&self) -> &SeriesKey {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl SeriesCatalog {
    /// An catalog for days of the last `retention_days`.
    pub(crate) fn new(retention_days: u32) -> Self {
        let days = retention_days as usize + 2;
        Self {
            shards: Default::default(),
            metrics: Mutex::default(),
            labels: Mutex::default(),
            next_metric: AtomicU32::new(0),
            next: AtomicU32::new(0),
            per_agent_max: SERIES_PER_AGENT_MAX.saturating_mul(days),
        }
    }

    fn agent(&self, agent: &str) -> Arc<Mutex<AgentSeries>> {
        let mut hasher = DefaultHasher::new();
        agent.hash(&mut hasher);
        let mut shard = self.shards[hasher.finish() as usize % SHARDS].lock();
        if let Some(found) = shard.get(agent) {
            return Arc::clone(found);
        }
        let made: Arc<Mutex<AgentSeries>> = Arc::default();
        shard.insert(agent.into(), Arc::clone(&made));
        made
    }

    /// The series with this key.
    ///
    /// # Errors
    ///
    /// When its agent has too many.
    pub(crate) fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        let agent = self.agent(&key.agent);
        let mut agent = agent.lock();
        if let Some(found) = agent.known.get(&key) {
            return Ok(Arc::clone(&found.0));
        }
        if agent.known.len() >= agent.sweep_at.max(SERIES_PER_AGENT_MAX) {
            // What no day and no stream holds was refused or has been dropped.
            agent.known.retain(|series| Arc::strong_count(&series.0) > 1);
            agent.sweep_at = agent.known.len() * 2;
            if agent.known.len() >= self.per_agent_max {
                return Err(StorageError::TooManySeries(key.agent.to_string()));
            }
        }
        let (metric, metric_number) = self.metric(key.metric);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Texts that series have in common are kept once.
        let same_agent = agent.known.iter().next().map(|other| Arc::clone(&other.0.key.agent));
        let key = SeriesKey {
            agent: same_agent.unwrap_or(key.agent),
            metric,
            labels: self.shared(key.labels),
        };
        let series = Arc::new(Series { number, metric_number, key });
        agent.known.insert(ByKey(Arc::clone(&series)));
        Ok(series)
    }

    fn shared(&self, labels: Labels) -> Labels {
        if labels.is_empty() {
            return labels;
        }
        let mut sets = self.labels.lock();
        if let Some(there) = sets.known.get(&labels) {
            return there.clone();
        }
        if sets.known.len() >= sets.sweep_at.max(SERIES_PER_AGENT_MAX) {
            sets.sweep();
        }
        sets.known.insert(labels.clone());
        labels
    }

    /// The metric's name, kept once, and its number.
    fn metric(&self, metric: Arc<str>) -> (Arc<str>, u32) {
        let mut metrics = self.metrics.lock();
        if let Some((name, &number)) = metrics.get_key_value(&metric) {
            return (Arc::clone(name), number);
        }
        let number = self.next_metric.fetch_add(1, Ordering::Relaxed);
        metrics.insert(Arc::clone(&metric), number);
        (metric, number)
    }

    /// Above every metric's number so far.
    pub(crate) fn metric_numbers(&self) -> usize {
        self.next_metric.load(Ordering::Relaxed) as usize
    }

    /// Forgets series, agents, metrics and labels that no day and no stream holds any more.
    pub(crate) fn sweep(&self) {
        let mut metrics = HashSet::new();
        for shard in &self.shards {
            let agents: Vec<_> = shard
                .lock()
                .iter()
                .map(|(name, agent)| (name.clone(), Arc::clone(agent)))
                .collect();
            for (name, agent) in agents {
                let mut series = agent.lock();
                series.known.retain(|series| Arc::strong_count(&series.0) > 1);
                metrics.extend(series.known.iter().map(|series| series.0.key.metric.clone()));
                let empty = series.known.is_empty();
                drop(series);
                if empty {
                    let mut shard = shard.lock();
                    // Two: the map's and ours. With more, somebody is about to add to it.
                    if shard.get(&name).is_some_and(|agent| Arc::strong_count(agent) <= 2) {
                        shard.remove(&name);
                    }
                }
            }
        }
        self.metrics.lock().retain(|name, _| metrics.contains(name));
        self.labels.lock().sweep();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let catalog = SeriesCatalog::new(1);
        for number in 0..SERIES_PER_AGENT_MAX * 4 {
            let metric = format!("m{number}").into();
            let labels = Labels::one("number", &number.to_string());
            let key = SeriesKey { agent: "a".into(), metric, labels };
            catalog.resolve(key).unwrap();
        }
        assert!(catalog.agent("a").lock().known.len() <= SERIES_PER_AGENT_MAX + 1);
        assert!(catalog.labels.lock().known.len() <= 2 * SERIES_PER_AGENT_MAX + 1);
        catalog.sweep();
        assert!(catalog.metrics.lock().is_empty());
        assert!(catalog.labels.lock().known.is_empty());
        assert!(catalog.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
