//! [`Everywhere`] as a store: what is written goes to this server's own.

use std::sync::Arc;

use crate::model::alert::AlertEvent;
use crate::model::series::SeriesKey;
use crate::server::handover::everywhere::Everywhere;
use crate::server::storage::{
    Ack, AgentSamples, AgentSeen, Cleanup, EventFilter, KnownMetrics, LatestRow, Listing, Observer,
    Page, PointFilter, PointRow, RangeQuery, RangeSeries, Refused, Selection, Series, StorageError,
    StorageReport, Store, StoreHealth, Summary, TakePoints, TakeSeries, Visit,
};

impl Store for Everywhere {
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        self.front().resolve(key)
    }

    fn admit_agent(&self, agent: &str) -> Result<(), StorageError> {
        self.front().admit_agent(agent)
    }

    fn submit(&self, samples: Vec<AgentSamples>, ack: Ack) -> Result<(), Refused> {
        self.front().submit(samples, ack)
    }

    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError> {
        self.latest_of_agent(agent)
    }

    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError> {
        self.all_latest()
    }

    fn latest_of(&self, most: usize) -> Result<(Vec<LatestRow>, usize), StorageError> {
        // Each server shows its own.
        self.front().latest_of(most)
    }

    fn list(&self, filter: &PointFilter, page: Page) -> Result<Listing<PointRow>, StorageError> {
        self.points_list(filter, page)
    }

    fn range(&self, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
        self.chart(query)
    }

    fn summary(
        &self,
        agent: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Summary, StorageError> {
        self.sums((agent, metric), (from_ms, to_ms))
    }

    fn names(&self, from_ms: i64, to_ms: i64, page: Page) -> Result<Listing<String>, StorageError> {
        self.metric_names((from_ms, to_ms), page)
    }

    fn agents(
        &self,
        from_ms: i64,
        to_ms: i64,
        page: Page,
    ) -> Result<Listing<String>, StorageError> {
        self.agent_names((from_ms, to_ms), page)
    }

    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError> {
        self.seen()
    }

    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        self.front().scan(metric, wanted, from_ms, to_ms, visit)
    }

    fn select(&self, selection: &Selection<'_>, take: TakePoints<'_>) -> Result<(), StorageError> {
        self.selected(selection, take)
    }

    fn select_series(
        &self,
        selection: &Selection<'_>,
        take: TakeSeries<'_>,
    ) -> Result<(), StorageError> {
        self.selected_series(selection, take)
    }

    fn metrics(&self) -> KnownMetrics {
        self.known_metrics()
    }

    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError> {
        self.front().put_event(event)
    }

    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError> {
        self.front().put_events(events)
    }

    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError> {
        self.any_event(id)
    }

    fn events(
        &self,
        filter: &EventFilter,
        page: Page,
    ) -> Result<Listing<AlertEvent>, StorageError> {
        self.all_events(filter, page)
    }

    fn health(&self) -> StoreHealth {
        self.front().health()
    }

    fn report(&self) -> Result<StorageReport, StorageError> {
        self.front().report()
    }

    fn cleanup(&self) -> Result<Cleanup, StorageError> {
        self.front().cleanup()
    }

    fn hide_agent(&self, agent: &str) {
        self.front().hide_agent(agent);
    }

    fn forget_agent(&self, agent: &str) -> Result<u64, StorageError> {
        self.front().forget_agent(agent)
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        self.front().observe(observer);
    }

    fn stop(&self) {
        self.front().stop();
    }
}
