//! Samples from others than oxmon's agents: remote write, OTLP, line protocol. Each protocol is
//! taken apart into series with samples; they go the one way into the store, and the answer waits
//! for the commit.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::base::clock::{Clock, DAY_MS};
use crate::base::limits::RECEIVE_SERIES_CACHED;
use crate::model::agent_id::check_agent_id;
use crate::model::series::{Labels, SeriesKey};
use crate::server::config::ServerConfig;
use crate::server::ingest::admit::{AcceptedTimes, Reason, Rejected, check_series};
use crate::server::storage::{
    AgentSamples, RefusedWhy, SampleSet, Series, StorageError, Store, Stored,
};

pub(crate) mod influx;
pub(crate) mod metrics;
pub(crate) mod otlp;
mod otlp_names;
pub mod proto;
pub(crate) mod remote_write;
pub(crate) mod unpack;

use metrics::Metrics;

/// How long an answer waits for the commit.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

/// Takes samples in. One for the process.
pub struct Receiver {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    retention_ms: i64,
    agent_label: String,
    known: Mutex<HashMap<u128, Arc<Series>>>,
    hashers: [RandomState; 2],
    /// What was received so far.
    pub(crate) metrics: Metrics,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A user: each series names its agent, and has this one where it names none.
    User(String),
    /// An agent, by its own token: every series is its own.
    Agent(String),
}

/// What became of the samples of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// New ones.
    pub(crate) stored: u64,
    /// Those that were there already.
    pub(crate) duplicate: u64,
    /// Marks of a series' end, which the store does not need.
    pub(crate) stale: u64,
    /// Native histograms, which the store has no room for.
    pub(crate) histograms: u64,
    /// Points of kinds that no series of numbers has room for, such as sums since the last report.
    pub(crate) unsupported: u64,
    /// Lines that are none.
    pub(crate) malformed: u64,
    /// Those that can't be stored.
    pub(crate) rejected: Rejected,
}

/// Why a request was not taken. Nothing of it is lost: its sender keeps it, unless it is malformed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It can never be taken.
    #[error("{0}")]
    Malformed(String),
    /// Not now.
    #[error("the server is busy; retry later")]
    Busy,
    /// Not now, since the store failed.
    #[error("{0}")]
    Store(#[from] StorageError),
}

/// A series of a request.
pub(crate) struct Incoming<'a> {
    /// The metric's name.
    pub(crate) metric: &'a str,
    /// Its labels, the metric's name and the agent left out.
    pub(crate) labels: &'a [(&'a str, &'a str)],
    /// The agent that its labels name.
    pub(crate) agent: Option<&'a str>,
    /// Unix milliseconds and value of each sample.
    pub(crate) samples: &'a [(i64, f64)],
}

/// Samples of one agent, as they came.
#[derive(Default)]
struct Gathered {
    series: Vec<Arc<Series>>,
    /// Unix milliseconds, place in `series` and value of each.
    samples: Vec<(i64, u32, f64)>,
}

impl Gathered {
    /// Sample sets, oldest first. Of one series and time the samples stay in their order.
    fn into_sets(mut self) -> Vec<SampleSet> {
        // Stable, and quick where each series came in order.
        self.samples.sort_by_key(|(ms, ..)| *ms);
        let mut sets: Vec<SampleSet> = Vec::new();
        let mut before: Vec<u32> = Vec::new();
        for at_once in self.samples.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(timestamp_ms, ..)) = at_once.first() else { continue };
            let places = || at_once.iter().map(|(_, place, _)| *place);
            // Mostly all times have the same series: one list for all makes storing cheap.
            let series = match sets.last() {
                Some(last) if places().eq(before.iter().copied()) => Arc::clone(&last.series),
                _ => {
                    before.clear();
                    before.extend(places());
                    before.iter().map(|&place| Arc::clone(&self.series[place as usize])).collect()
                }
            };
            let values = at_once.iter().map(|(.., value)| *value).collect();
            sets.push(SampleSet { timestamp_ms, series, values });
        }
        sets
    }
}

/// A request being taken apart.
pub(crate) struct Request<'a> {
    receiver: &'a Receiver,
    writer: &'a Writer,
    accepted: AcceptedTimes,
    by_agent: BTreeMap<Arc<str>, Gathered>,
    /// What is known so far of what becomes of its samples.
    pub(crate) written: Written,
}

impl Receiver {
    /// Registers the metrics.
    pub(crate) fn new(
        config: &ServerConfig,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            store,
            clock,
            retention_ms: i64::from(config.retention_days) * DAY_MS,
            agent_label: config.prometheus.agent_label.clone(),
            known: Mutex::default(),
            hashers: [RandomState::new(), RandomState::new()],
            metrics: Metrics::register(registry)?,
        })
    }

    /// The label that holds the agent.
    pub(crate) fn agent_label(&self) -> &str {
        &self.agent_label
    }

    /// Begins to take a request apart.
    pub(crate) fn request<'a>(&'a self, writer: &'a Writer) -> Request<'a> {
        Request {
            receiver: self,
            writer,
            accepted: AcceptedTimes::at(self.clock.possible_ms(), self.retention_ms),
            by_agent: BTreeMap::new(),
            written: Written::default(),
        }
    }

    /// A series, from what was seen of it before where it was.
    fn resolve(&self, agent: &str, series: &Incoming<'_>) -> Result<Arc<Series>, Reason> {
        let key = (agent, series.metric, series.labels);
        let [first, second] = &self.hashers;
        let hash = u128::from(first.hash_one(key)) << 64 | u128::from(second.hash_one(key));
        if let Some(found) = self.known.lock().get(&hash) {
            return Ok(Arc::clone(found));
        }
        check_series(series.metric, series.labels.iter().copied())?;
        let key = SeriesKey {
            agent: agent.into(),
            metric: series.metric.into(),
            labels: Labels::from_pairs(series.labels.iter().copied()),
        };
        let found = self.store.resolve(key).map_err(|error| Reason::of(&error))?;
        let mut known = self.known.lock();
        if known.len() >= RECEIVE_SERIES_CACHED {
            known.clear();
        }
        known.insert(hash, Arc::clone(&found));
        Ok(found)
    }
}

impl Request<'_> {
    /// Adds a series. What can't be stored of it is counted, and costs nothing else.
    pub(crate) fn add(&mut self, series: &Incoming<'_>) {
        let agent = match (self.writer, series.agent) {
            (Writer::Agent(own), Some(named)) if own != named => {
                return self.reject(Reason::Label, series.samples.len());
            }
            (Writer::Agent(own), _) => own,
            (Writer::User(_), Some(named)) => named,
            (Writer::User(name), None) => name,
        };
        if check_agent_id(agent).is_err() {
            return self.reject(Reason::Label, series.samples.len());
        }
        let resolved = match self.receiver.resolve(agent, series) {
            Ok(resolved) => resolved,
            Err(reason) => return self.reject(reason, series.samples.len()),
        };
        let gathered = self.by_agent.entry(Arc::clone(&resolved.key.agent)).or_default();
        // No request has room for as many series.
        let place = u32::try_from(gathered.series.len()).unwrap_or(u32::MAX);
        gathered.series.push(resolved);
        for &(ms, value) in series.samples {
            if remote_write::is_stale_marker(value) {
                self.written.stale += 1;
            } else if let Err(reason) = self.accepted.check(ms, value) {
                self.written.rejected.add_many(reason, 1);
            } else {
                gathered.samples.push((ms, place, value));
            }
        }
    }

    fn reject(&mut self, reason: Reason, samples: usize) {
        self.written.rejected.add_many(reason, samples);
    }

    /// Stores what was added, and waits for the commit. Of what it says twice of one series and
    /// time the first stays, as of everything that the store is given.
    ///
    /// # Errors
    ///
    /// When the store is busy or failed: the sender keeps the request and sends it again, and what
    /// was stored of it is found to be there already.
    pub(crate) fn store(mut self) -> Result<Written, Refusal> {
        let by_agent = self.by_agent.into_iter();
        let of_agent =
            |(agent, gathered): (_, Gathered)| AgentSamples { agent, sets: gathered.into_sets() };
        let samples: Vec<AgentSamples> =
            by_agent.map(of_agent).filter(|one| !one.sets.is_empty()).collect();
        let (reply, answer) = bounded::<Result<Stored, StorageError>>(1);
        let ack = Box::new(move |outcome| {
            // Nobody waits for a request that was given up.
            let _ = reply.send(outcome);
        });
        self.receiver.store.submit(samples, ack).map_err(|refused| match refused.error {
            RefusedWhy::QueueFull => Refusal::Busy,
            RefusedWhy::Stopping => StorageError::Stopping.into(),
        })?;
        let stored = answer.recv_timeout(COMMIT_WITHIN).map_err(|_| Refusal::Busy)??;
        self.written.stored += stored.new as u64;
        self.written.duplicate += stored.duplicate as u64;
        self.written.rejected.add_many(Reason::NoRoom, stored.rejected);
        Ok(self.written)
    }
}
