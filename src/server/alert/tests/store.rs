//! A store in memory that outlives a "process": what evaluation reads and writes, and no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::model::alert::AlertEvent;
use crate::model::series::SeriesKey;
use crate::server::storage::*;

type Known = (Arc<Series>, BTreeMap<i64, f64>);

/// Points by series, and events by id.
#[derive(Default)]
pub(super) struct MemStore {
    series: Mutex<BTreeMap<SeriesKey, Known>>,
    /// Whether `select` fails.
    pub fail: AtomicBool,
    events: Mutex<BTreeMap<String, AlertEvent>>,
}

impl MemStore {
    /// Stores a point and gives what observers are notified of it.
    pub(super) fn add(&self, key: &SeriesKey, at_ms: i64, value: f64) -> SampleSet {
        let mut all = self.series.lock();
        let number = all.len() as u32;
        let metric = all.keys().position(|other| other.metric == key.metric);
        let metric_number = metric.map_or(number, |place| {
            all.values().nth(place).map_or(0, |(series, _)| series.metric_number)
        });
        let series = || Arc::new(Series { number, metric_number, key: key.clone() });
        let (series, points) =
            all.entry(key.clone()).or_insert_with(|| (series(), BTreeMap::new()));
        points.insert(at_ms, value);
        SampleSet {
            timestamp_ms: at_ms,
            series: Arc::new([Arc::clone(series)]),
            values: vec![value],
        }
    }

    /// Events, oldest first.
    pub(super) fn history(&self) -> Vec<AlertEvent> {
        let mut events: Vec<AlertEvent> = self.events.lock().values().cloned().collect();
        events.sort_by_key(|event| (event.timestamp_ms, event.resolved_at_ms));
        events
    }
}

fn listing<T>(items: Vec<T>, page: Page) -> Listing<T> {
    let total = items.len() as u64;
    Listing { items: items.into_iter().skip(page.offset).take(page.limit).collect(), total }
}

impl Store for MemStore {
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        Ok(Arc::new(Series { number: 0, metric_number: 0, key }))
    }

    fn admit_agent(&self, _: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn submit(&self, _samples: Vec<AgentSamples>, ack: Ack) -> Result<(), Refused> {
        Err(Refused { ack, error: RefusedWhy::Stopping })
    }

    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError> {
        let all = self.latest_all()?;
        Ok(all.into_iter().filter(|row| &*row.key.agent == agent).collect())
    }

    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError> {
        let all = self.series.lock();
        let rows = all.iter().filter_map(|(key, (_, points))| {
            let (at, value) = points.last_key_value()?;
            Some(LatestRow { key: key.clone(), timestamp_ms: *at, value: *value })
        });
        Ok(rows.collect())
    }

    fn list(&self, _filter: &PointFilter, page: Page) -> Result<Listing<PointRow>, StorageError> {
        Ok(listing(Vec::new(), page))
    }

    fn range(&self, _query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
        Ok(Vec::new())
    }

    fn summary(&self, _: &str, _: &str, _: i64, _: i64) -> Result<Summary, StorageError> {
        Ok(Summary::default())
    }

    fn names(&self, _: i64, _: i64, page: Page) -> Result<Listing<String>, StorageError> {
        let mut names: Vec<String> =
            self.series.lock().keys().map(|key| key.metric.to_string()).collect();
        names.sort();
        names.dedup();
        Ok(listing(names, page))
    }

    fn agents(&self, _: i64, _: i64, page: Page) -> Result<Listing<String>, StorageError> {
        Ok(listing(Vec::new(), page))
    }

    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError> {
        let mut seen: BTreeMap<String, i64> = BTreeMap::new();
        for row in self.latest_all()? {
            let newest = seen.entry(row.key.agent.to_string()).or_insert(row.timestamp_ms);
            *newest = (*newest).max(row.timestamp_ms);
        }
        let seen = seen.into_iter();
        Ok(seen
            .map(|(agent_id, last_seen_ms)| AgentSeen {
                agent_id,
                last_seen_ms,
                newest_ms: last_seen_ms,
            })
            .collect())
    }

    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        let all = self.series.lock();
        for (key, (_, points)) in all.iter().filter(|(key, _)| &*key.metric == metric) {
            if wanted(key) && from_ms <= to_ms {
                let range = points.range(from_ms..=to_ms);
                let points: Vec<(i64, f64)> = range.map(|(at, value)| (*at, *value)).collect();
                // In pieces, as day files give them.
                for piece in points.chunks(3) {
                    if visit(key, piece).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn select(&self, selection: &Selection<'_>, take: TakePoints<'_>) -> Result<(), StorageError> {
        if self.fail.load(Ordering::SeqCst) {
            return Err(StorageError::Invalid("the test says so".to_owned()));
        }
        for (series, points) in self.series.lock().values() {
            let range = points.range(selection.from_ms..=selection.to_ms);
            let skip =
                if selection.newest_only { range.clone().count().saturating_sub(1) } else { 0 };
            let range = range.skip(skip);
            let points: Vec<(i64, f64)> = range.map(|(at, value)| (*at, *value)).collect();
            let wanted = (selection.agent)(&series.key.agent) && (selection.series)(series);
            if wanted && !points.is_empty() && take(series, &points).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn select_series(&self, _: &Selection<'_>, _: TakeSeries<'_>) -> Result<(), StorageError> {
        Ok(())
    }

    fn metrics(&self) -> crate::server::storage::KnownMetrics {
        let all = self.series.lock();
        let of = |(key, (series, _)): (&SeriesKey, &Known)| {
            (Arc::clone(&key.metric), series.metric_number)
        };
        let metrics: BTreeMap<Arc<str>, u32> = all.iter().map(of).collect();
        (metrics.into_iter().collect(), None)
    }

    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError> {
        self.events.lock().insert(event.id.clone(), event.clone());
        Ok(())
    }

    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError> {
        events.iter().try_for_each(|event| self.put_event(event))
    }

    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError> {
        Ok(self.events.lock().get(id).cloned())
    }

    fn events(
        &self,
        filter: &EventFilter,
        page: Page,
    ) -> Result<Listing<AlertEvent>, StorageError> {
        let mut events = self.history();
        events.retain(|event| filter.from_ms.is_none_or(|from| event.timestamp_ms >= from));
        events.reverse();
        Ok(listing(events, page))
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::default()
    }

    fn report(&self) -> Result<StorageReport, StorageError> {
        Ok(StorageReport::default())
    }

    fn cleanup(&self) -> Result<Cleanup, StorageError> {
        Ok(Cleanup::default())
    }

    fn hide_agent(&self, _: &str) {}

    fn forget_agent(&self, agent: &str) -> Result<u64, StorageError> {
        let mut all = self.series.lock();
        let before = all.len();
        all.retain(|key, _| &*key.agent != agent);
        Ok((before - all.len()) as u64)
    }

    fn observe(&self, _observer: Arc<dyn Observer>) {}

    fn stop(&self) {}
}
