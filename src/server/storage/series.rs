//! Series by number. A batch is looked up once, on the thread that brings it: its points come in
//! the order of the batch before, so that comparing texts place by place finds all of them
//! without a hash, and what the writers see are shared lists.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

use crate::base::limits::{SERIES_BYTES_PER_AGENT_MAX, SERIES_PER_AGENT_MAX};
use crate::model::series::{Labels, SeriesKey};
use crate::server::config::ServerConfig;
use crate::server::storage::metrics::Metrics;
use crate::server::storage::{Series, SeriesLimit};

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
    bounds: Bounds,
    /// Agents with an entry in `shards`.
    agents: AtomicUsize,
    /// Bytes of names and labels of all of them.
    bytes: AtomicUsize,
    /// Whether something was refused since the last sweep, which may find room.
    is_full: AtomicBool,
    figures: Figures,
}

/// What the catalog holds at the most.
struct Bounds {
    agents: usize,
    agent_series: usize,
    agent_bytes: usize,
    bytes: usize,
}

/// Where the catalog counts.
struct Figures {
    agents: IntGauge,
    bytes: IntGauge,
    refused: [IntCounter; SeriesLimit::ALL.len()],
}

/// Bytes that a series takes beside its texts, about.
const SERIES_BYTES: usize = 128;

/// What a series takes of the limits in bytes. Texts that it shares with others count too, so that
/// the figure is the same whoever came first.
fn cost(key: &SeriesKey) -> usize {
    let labels: usize = key.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    SERIES_BYTES + key.metric.len() + labels
}

/// Which series an agent has reported, so that their number can be bounded.
#[derive(Default)]
struct AgentSeries {
    known: HashSet<ByKey>,
    bytes: usize,
    sweep_at: usize,
}

impl AgentSeries {
    /// Forgets what no day and no stream holds; the bytes that it took.
    fn sweep(&mut self) -> usize {
        self.known.retain(|series| Arc::strong_count(&series.0) > 1);
        let before = self.bytes;
        self.bytes = self.known.iter().map(|series| cost(&series.0.key)).sum();
        before - self.bytes
    }
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
    /// An empty catalog with the bounds of a configuration.
    pub(crate) fn new(config: &ServerConfig, metrics: &Metrics) -> Self {
        let days = config.retention_days as usize + 2;
        Self {
            shards: Default::default(),
            metrics: Mutex::default(),
            labels: Mutex::default(),
            next_metric: AtomicU32::new(0),
            next: AtomicU32::new(0),
            bounds: Bounds {
                agents: config.storage.agents_max,
                agent_series: SERIES_PER_AGENT_MAX.saturating_mul(days),
                agent_bytes: SERIES_BYTES_PER_AGENT_MAX,
                bytes: usize::try_from(config.storage.series_max_bytes).unwrap_or(usize::MAX),
            },
            agents: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            figures: Figures {
                agents: metrics.agents.clone(),
                bytes: metrics.series_bytes.clone(),
                refused: metrics.refused.clone(),
            },
        }
    }

    fn shard(&self, agent: &str) -> &Shard {
        let mut hasher = DefaultHasher::new();
        agent.hash(&mut hasher);
        &self.shards[hasher.finish() as usize % SHARDS]
    }

    /// Whether samples of an agent could be stored: it is known, or there may be another one.
    ///
    /// # Errors
    ///
    /// When there are as many agents as there may be.
    pub(crate) fn admit_agent(&self, agent: &str) -> Result<(), SeriesLimit> {
        let is_known = || self.shard(agent).lock().contains_key(agent);
        if self.agents.load(Ordering::Relaxed) < self.bounds.agents || is_known() {
            return Ok(());
        }
        Err(self.refuse(SeriesLimit::Agents))
    }

    /// Counts what is refused, and has the next maintenance look for room.
    fn refuse(&self, limit: SeriesLimit) -> SeriesLimit {
        self.is_full.store(true, Ordering::Relaxed);
        self.figures.refused[limit as usize].inc();
        limit
    }

    fn agent(&self, agent: &str, is_bounded: bool) -> Result<Arc<Mutex<AgentSeries>>, SeriesLimit> {
        let mut shard = self.shard(agent).lock();
        if let Some(found) = shard.get(agent) {
            return Ok(Arc::clone(found));
        }
        if is_bounded && self.agents.load(Ordering::Relaxed) >= self.bounds.agents {
            return Err(self.refuse(SeriesLimit::Agents));
        }
        let made: Arc<Mutex<AgentSeries>> = Arc::default();
        shard.insert(agent.into(), Arc::clone(&made));
        self.agents.fetch_add(1, Ordering::Relaxed);
        self.figures.agents.inc();
        Ok(made)
    }

    /// The series with this key, added where it is new.
    ///
    /// # Errors
    ///
    /// The limit that a new one would exceed.
    pub(crate) fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, SeriesLimit> {
        self.find_or_add(key, true)
    }

    /// A series that a day file holds: it was within the limits when it was stored, and what is
    /// stored is read whatever the limits are now.
    ///
    /// # Errors
    ///
    /// None today.
    pub(crate) fn restore(&self, key: SeriesKey) -> Result<Arc<Series>, SeriesLimit> {
        self.find_or_add(key, false)
    }

    fn find_or_add(&self, key: SeriesKey, is_bounded: bool) -> Result<Arc<Series>, SeriesLimit> {
        let agent = self.agent(&key.agent, is_bounded)?;
        let mut agent = agent.lock();
        if let Some(found) = agent.known.get(&key) {
            return Ok(Arc::clone(&found.0));
        }
        let cost = cost(&key);
        if is_bounded {
            self.check_room(&mut agent, cost).map_err(|limit| self.refuse(limit))?;
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
        agent.bytes += cost;
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        self.figures.bytes.add(cost as i64);
        Ok(series)
    }

    /// Whether an agent may have another series that costs so much.
    fn check_room(&self, agent: &mut AgentSeries, cost: usize) -> Result<(), SeriesLimit> {
        if agent.known.len() >= agent.sweep_at.max(SERIES_PER_AGENT_MAX) {
            // What no day and no stream holds was refused or has been dropped.
            let freed = agent.sweep();
            self.free(freed);
            agent.sweep_at = agent.known.len() * 2;
            if agent.known.len() >= self.bounds.agent_series {
                return Err(SeriesLimit::AgentSeries);
            }
        }
        if agent.bytes + cost > self.bounds.agent_bytes {
            return Err(SeriesLimit::AgentBytes);
        }
        if self.bytes.load(Ordering::Relaxed) + cost > self.bounds.bytes {
            return Err(SeriesLimit::AllBytes);
        }
        Ok(())
    }

    fn free(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.figures.bytes.sub(bytes as i64);
    }

    /// As [`Self::sweep`], where something was refused since the last one.
    pub(crate) fn sweep_if_full(&self) {
        if self.is_full.swap(false, Ordering::Relaxed) {
            self.sweep();
        }
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

    /// Every metric's name with its number.
    pub(crate) fn metrics(&self) -> Vec<(Arc<str>, u32)> {
        let metrics = self.metrics.lock();
        metrics.iter().map(|(name, &number)| (Arc::clone(name), number)).collect()
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
                let freed = series.sweep();
                self.free(freed);
                metrics.extend(series.known.iter().map(|series| series.0.key.metric.clone()));
                let empty = series.known.is_empty();
                drop(series);
                if empty {
                    let mut shard = shard.lock();
                    // Two: the map's and ours. With more, somebody is about to add to it.
                    if shard.get(&name).is_some_and(|agent| Arc::strong_count(agent) <= 2) {
                        shard.remove(&name);
                        self.agents.fetch_sub(1, Ordering::Relaxed);
                        self.figures.agents.dec();
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

    fn catalog(config: ServerConfig) -> SeriesCatalog {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        SeriesCatalog::new(&config, &metrics)
    }

    fn key(agent: &str, metric: &str, label: &str) -> SeriesKey {
        let labels = Labels::one("label", label);
        SeriesKey { agent: agent.into(), metric: metric.into(), labels }
    }

    #[test]
    fn agents_are_bounded_and_those_that_nobody_holds_make_room() {
        let mut config = ServerConfig::default();
        config.storage.agents_max = 2;
        let catalog = catalog(config);
        let held = catalog.resolve(key("a", "m", "")).unwrap();
        catalog.resolve(key("b", "m", "")).unwrap();
        assert_eq!(catalog.resolve(key("c", "m", "")).unwrap_err(), SeriesLimit::Agents);
        assert_eq!(catalog.admit_agent("c"), Err(SeriesLimit::Agents));
        assert_eq!(catalog.admit_agent("a"), Ok(()));
        assert!(catalog.resolve(key("a", "another", "")).is_ok());
        // What a day file holds is read whatever the limit is now.
        let stored = catalog.restore(key("d", "m", "")).unwrap();
        assert_eq!(catalog.figures.agents.get(), 3);
        catalog.sweep_if_full();
        assert_eq!((catalog.figures.agents.get(), catalog.agents.load(Ordering::Relaxed)), (2, 2));
        drop(stored);
        assert!(catalog.admit_agent("c").is_err());
        catalog.sweep_if_full();
        assert!(catalog.admit_agent("c").is_ok());
        assert_eq!(catalog.figures.refused[SeriesLimit::Agents as usize].get(), 3);
        drop(held);
    }

    #[test]
    fn names_and_labels_are_bounded_in_bytes() {
        let mut config = ServerConfig::default();
        config.storage.series_max_bytes = SERIES_BYTES_PER_AGENT_MAX as u64 * 3 / 2;
        let catalog = catalog(config);
        let long = "x".repeat(10_000);
        let fill = |agent: &str| {
            let mut held = Vec::new();
            for number in 0.. {
                match catalog.resolve(key(agent, &format!("m{number}"), &long)) {
                    Ok(series) => held.push(series),
                    Err(limit) => return (held, limit),
                }
            }
            unreachable!("there is a limit");
        };
        let (first, limit) = fill("a");
        assert_eq!(limit, SeriesLimit::AgentBytes);
        assert!(first.len() > 700 && first.len() < 839, "{}", first.len());
        let (second, limit) = fill("b");
        assert_eq!(limit, SeriesLimit::AllBytes);
        assert!(second.len() < first.len());
        assert_eq!(fill("c").1, SeriesLimit::AllBytes);
        // What is known goes on.
        assert!(catalog.resolve(key("a", "m0", &long)).is_ok());
        drop(first);
        catalog.sweep_if_full();
        assert!(catalog.resolve(key("c", "m0", &long)).is_ok());
        drop(second);
        catalog.sweep();
        assert_eq!((catalog.figures.bytes.get(), catalog.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let catalog = catalog(ServerConfig { retention_days: 1, ..ServerConfig::default() });
        for number in 0..SERIES_PER_AGENT_MAX * 4 {
            let metric = format!("m{number}").into();
            let labels = Labels::one("number", &number.to_string());
            let key = SeriesKey { agent: "a".into(), metric, labels };
            catalog.resolve(key).unwrap();
        }
        assert!(catalog.agent("a", true).unwrap().lock().known.len() <= SERIES_PER_AGENT_MAX + 1);
        assert!(catalog.labels.lock().known.len() <= 2 * SERIES_PER_AGENT_MAX + 1);
        catalog.sweep();
        assert!(catalog.metrics.lock().is_empty());
        assert!(catalog.labels.lock().known.is_empty());
        assert!(catalog.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
