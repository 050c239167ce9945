//! The store as everybody else sees it where there is an engine: what is written may wait for the
//! engine's answer (`ack = "engine"`), and what is read of days that are no longer here comes from
//! the engine. The newest days are read here, as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::alert::AlertEvent;
use crate::model::series::SeriesKey;
use crate::server::remote::Inner;
use crate::server::remote::joined;
use crate::server::remote::target::shard_of;
use crate::server::storage::{
    Ack, AgentSamples, AgentSeen, Cleanup, EventFilter, KnownMetrics, LatestRow, Listing, Observer,
    Page, PointFilter, PointRow, RangeQuery, RangeSeries, Refused, Selection, Series, StorageError,
    StorageReport, Store, StoreHealth, Stored, Summary, TakePoints, TakeSeries, Visit,
};

/// How long an agent waits for the engine.
const ENGINE_WITHIN: Duration = Duration::from_secs(8);

/// The store with the engine behind it.
pub(super) struct Front {
    inner: Arc<Inner>,
    acks_at_engine: bool,
}

impl Front {
    /// The store of `inner`; acknowledged as `acks_at_engine` says.
    pub(super) fn new(inner: Arc<Inner>, acks_at_engine: bool) -> Self {
        Self { inner, acks_at_engine }
    }

    fn local(&self) -> &dyn Store {
        &*self.inner.store
    }
}

/// An acknowledgement that waits for the engine.
pub(super) struct Held {
    ack: Mutex<Option<(Ack, Stored)>>,
    /// Marks that were not reached yet.
    left: AtomicUsize,
    deadline: Instant,
}

impl Held {
    fn finish(&self, outcome: Result<(), StorageError>) {
        let held = self.ack.lock().take();
        if let Some((ack, stored)) = held {
            ack(outcome.map(|()| stored));
        }
    }

    /// Gives up when it is late; gives whether it still waits.
    pub(super) fn waits(&self, now: Instant) -> bool {
        if now >= self.deadline {
            self.finish(Err(behind()));
        }
        self.ack.lock().is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.finish(Err(StorageError::Stopping));
    }
}

fn behind() -> StorageError {
    StorageError::Behind("the engine of [remote] has not taken the samples yet".to_owned())
}

/// Waits until the engine, or one node of each agent's, has what is queued of these agents.
fn hold(inner: &Inner, agents: &[Arc<str>], ack: Ack, stored: Stored) {
    let is_missing = |agent: &Arc<str>| inner.homes(agent).all(|target| target.gaps.has(agent));
    if agents.iter().any(is_missing) {
        // It is read from the store later; the agent asks again until then.
        return ack(Err(behind()));
    }
    let held = Arc::new(Held {
        ack: Mutex::new(Some((ack, stored))),
        left: AtomicUsize::new(agents.len()),
        deadline: Instant::now() + ENGINE_WITHIN,
    });
    for agent in agents {
        let reached = Arc::new(AtomicUsize::new(0));
        for target in inner.homes(agent).filter(|target| !target.gaps.has(agent)) {
            let Some(queue) = target.queues.get(shard_of(agent, target.queues.len())) else {
                continue;
            };
            let (held, reached) = (Arc::clone(&held), Arc::clone(&reached));
            queue.mark(Box::new(move || {
                // The first node that has them is enough.
                let is_first = reached.fetch_add(1, Ordering::AcqRel) == 0;
                if is_first && held.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    held.finish(Ok(()));
                }
            }));
        }
    }
    inner.held.lock().push(held);
}

impl Store for Front {
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        self.local().resolve(key)
    }

    fn admit_agent(&self, agent: &str) -> Result<(), StorageError> {
        self.local().admit_agent(agent)
    }

    fn submit(&self, samples: Vec<AgentSamples>, ack: Ack) -> Result<(), Refused> {
        if !self.acks_at_engine {
            return self.local().submit(samples, ack);
        }
        let mut agents: Vec<Arc<str>> =
            samples.iter().map(|part| Arc::clone(&part.agent)).collect();
        agents.sort_unstable();
        agents.dedup();
        let inner = Arc::clone(&self.inner);
        let ack: Ack = Box::new(move |outcome| match outcome {
            Ok(stored) => hold(&inner, &agents, ack, stored),
            failed => ack(failed),
        });
        self.local().submit(samples, ack)
    }

    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError> {
        self.local().latest(agent)
    }

    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError> {
        self.local().latest_all()
    }

    fn list(&self, filter: &PointFilter, page: Page) -> Result<Listing<PointRow>, StorageError> {
        joined::list(&self.inner, filter, page)
    }

    fn range(&self, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
        joined::range(&self.inner, query)
    }

    fn summary(
        &self,
        agent: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Summary, StorageError> {
        joined::summary(&self.inner, (agent, metric), (from_ms, to_ms))
    }

    fn names(&self, from_ms: i64, to_ms: i64, page: Page) -> Result<Listing<String>, StorageError> {
        let metric = |key: SeriesKey| key.metric;
        let local = |page| self.local().names(from_ms, to_ms, page);
        joined::texts(&self.inner, (from_ms, to_ms), page, &metric, &local)
    }

    fn agents(
        &self,
        from_ms: i64,
        to_ms: i64,
        page: Page,
    ) -> Result<Listing<String>, StorageError> {
        let agent = |key: SeriesKey| key.agent;
        let local = |page| self.local().agents(from_ms, to_ms, page);
        joined::texts(&self.inner, (from_ms, to_ms), page, &agent, &local)
    }

    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError> {
        self.local().agents_seen()
    }

    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        joined::scan(&self.inner, (metric, wanted), (from_ms, to_ms), visit)
    }

    fn select(&self, selection: &Selection<'_>, take: TakePoints<'_>) -> Result<(), StorageError> {
        joined::select(&self.inner, selection, take)
    }

    fn select_series(
        &self,
        selection: &Selection<'_>,
        take: TakeSeries<'_>,
    ) -> Result<(), StorageError> {
        joined::select_series(&self.inner, selection, take)
    }

    fn metrics(&self) -> KnownMetrics {
        joined::metrics(&self.inner)
    }

    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError> {
        self.local().put_event(event)
    }

    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError> {
        self.local().put_events(events)
    }

    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError> {
        self.local().event(id)
    }

    fn events(
        &self,
        filter: &EventFilter,
        page: Page,
    ) -> Result<Listing<AlertEvent>, StorageError> {
        self.local().events(filter, page)
    }

    fn health(&self) -> StoreHealth {
        self.local().health()
    }

    fn report(&self) -> Result<StorageReport, StorageError> {
        self.local().report()
    }

    fn cleanup(&self) -> Result<Cleanup, StorageError> {
        self.local().cleanup()
    }

    fn hide_agent(&self, agent: &str) {
        self.local().hide_agent(agent);
    }

    fn forget_agent(&self, agent: &str) -> Result<u64, StorageError> {
        self.local().forget_agent(agent)
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        self.local().observe(observer);
    }

    fn stop(&self) {
        self.local().stop();
    }
}
