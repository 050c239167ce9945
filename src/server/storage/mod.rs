//! The points of every series and the alert events, by UTC day, one SQLite file a day. Everything
//! outside this folder sees the [`Store`] trait; [`engine::Engine`] is the one implementation.
//!
//! | file | what | who calls |
//! |---|---|---|
//! | `mod.rs`, `query.rs` | the [`Store`] trait; what it is asked and answers | every other room |
//! | `engine.rs` | `Store` on day files | `server/run.rs`, which opens it |
//! | `shared.rs` | the open days, settings, counters | engine, writers, keep |
//! | `error.rs` | why the store fails | all below |
//! | `ack.rs` | acknowledgements, places in the queue | engine, writer, group |
//! | `series.rs` | every series of the process, by number | engine, recover |
//! | `events.rs` | the table of alert events | engine, writers |
//! | `metrics.rs` | the store's own metrics | shared |
//! | `feed.rs` | what a forwarder of samples needs | engine, writer |
//! | `day/mod.rs` | one day: its agents, its readers' connections, its writer's queue | all below |
//! | `day/count.rs` | how many agents all days have | head, engine |
//! | `day/file.rs` | name, schema and opening of a day file; SQLite's errors | all below |
//! | `day/ids.rs` | id allocator; rows of `agents`, `series`, `layouts` | writer, recover, sql |
//! | `day/head.rs` | one agent's samples that are not packed yet | group, pack, recover, read |
//! | `day/head_values.rs` | their values in half the memory | head |
//! | `write/writer.rs` | the thread that owns a day file | engine, retention |
//! | `write/group.rs` | the batches of one transaction; which points are duplicates | writer |
//! | `write/wal.rs` | WAL records: rows of `samples`, and checksums | group, recover, codec, sql |
//! | `chunks/codec.rs` | a chunk's format | pack, compact, group, read, sql |
//! | `chunks/pack.rs` | from an agent's head to chunks | writer, compact |
//! | `chunks/compact.rs` | a finished day: one chunk a series | writer |
//! | `read/mod.rs` | head and chunks as one | its children |
//! | `read/chunks.rs` | chunks of a series from the file | read, compact |
//! | `read/points.rs` | points one by one | engine |
//! | `read/select.rs` | points of many series, for PromQL | engine |
//! | `read/range.rs` | buckets, summaries, scans | engine |
//! | `read/index.rs` | metrics, agents, newest values | engine |
//! | `read/arrived.rs` | what arrived since a time | engine |
//! | `keep/open.rs` | the folder: lock, size, reserve; loads the days | engine, backup |
//! | `keep/recover.rs` | a day file back into memory | open |
//! | `keep/damage.rs` | damaged files are set aside | writer, open, engine |
//! | `keep/retention.rs` | maintenance: old days are dropped, writers are woken | engine |
//! | `keep/backup.rs` | `backup` and `restore` | `server/cli.rs` |
//! | `sql/` | virtual tables for `sql` | `server/cli.rs` |

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::alert::AlertEvent;
use crate::model::point::Batch;
use crate::model::series::SeriesKey;

mod ack;
mod chunks;
mod day;
pub mod engine;
mod error;
mod events;
mod feed;
pub(crate) mod keep;
mod metrics;
mod query;
mod read;
mod series;
mod shared;
pub(crate) mod sql;
#[cfg(test)]
mod tests;
mod write;

pub use ack::{Ack, Refused, RefusedWhy, Stored};
pub use day::file::{companions, day_of, day_of_file, uri};
pub use error::{SeriesLimit, StorageError};
pub use feed::{Arrived, Feed, Tap};
pub use query::{
    AgentSeen, Bucket, Cleanup, EventFilter, LatestRow, Listing, Page, Partition, PointFilter,
    PointRow, RangeQuery, RangeSeries, Selection, StorageReport, StoreHealth, Summary,
};

/// A series as the process knows it. `number` is dense and stable for the life of the process, so
/// that alert evaluation can keep the state of a series in a table.
#[derive(Debug)]
pub struct Series {
    /// Dense number, from 0.
    pub number: u32,
    /// Dense number of its metric's name, from 0, over all agents.
    pub metric_number: u32,
    /// Agent, metric and labels.
    pub key: SeriesKey,
}

/// The series of a sample set in the order of its values.
pub type SeriesList = Arc<[Arc<Series>]>;

/// The samples of one agent at one time, with their series looked up.
#[derive(Debug, Clone)]
pub struct SampleSet {
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// Series of the agent, each from [`Store::resolve`]. One list shared by many sets is what
    /// makes storing them cheap.
    pub series: SeriesList,
    /// As many values as there are series.
    pub values: Vec<f64>,
}

/// The samples of one agent, to be stored.
#[derive(Debug, Clone)]
pub struct AgentSamples {
    /// The agent.
    pub agent: Arc<str>,
    /// Its sample sets, in any order.
    pub sets: Vec<SampleSet>,
}

/// Called with every sample that was stored for the first time, after the commit, in the order of
/// the commits, on the writer's thread. It may block: ingest then waits with it.
pub trait Observer: Send + Sync {
    /// `sets` all belong to `agent`.
    fn stored(&self, agent: &str, sets: Vec<SampleSet>);
}

/// Called with a series and its raw points, each `(Unix milliseconds, value)`, oldest first.
pub type Visit<'a> = &'a mut dyn FnMut(&SeriesKey, &[(i64, f64)]) -> ControlFlow<()>;

/// Called with a series and its points, each `(Unix milliseconds, value)`, oldest first.
pub type TakePoints<'a> = &'a mut dyn FnMut(&Arc<Series>, &[(i64, f64)]) -> ControlFlow<()>;

/// Called with a series.
pub type TakeSeries<'a> = &'a mut dyn FnMut(&Arc<Series>) -> ControlFlow<()>;

/// Metrics with their numbers, and why some may be missing.
pub type KnownMetrics = (Vec<(Arc<str>, u32)>, Option<StorageError>);

/// Points and alert events by day. Every method may be called from any thread; reads never wait
/// for writes, and a long read never stops a write.
pub trait Store: Send + Sync {
    /// The series with this key, added when it is new.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoRoom`] when it is new, and the agent or all agents may have no more.
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError>;

    /// Whether samples of this agent could be stored: it is known, or there may be another one.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoRoom`] otherwise.
    fn admit_agent(&self, agent: &str) -> Result<(), StorageError>;

    /// Queues sample sets whose series are resolved. `ack` is called once, after the commits that
    /// hold all of them.
    ///
    /// # Errors
    ///
    /// Gives the acknowledgement back when the queue is full or the server stops.
    fn submit(&self, samples: Vec<AgentSamples>, ack: Ack) -> Result<(), Refused>;

    /// The newest value of each series of an agent, by metric and labels.
    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError>;

    /// The newest value of every series.
    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError>;

    /// The newest value of `most` series at the most, and how many more series there are.
    fn latest_of(&self, most: usize) -> Result<(Vec<LatestRow>, usize), StorageError> {
        let mut rows = self.latest_all()?;
        let left_out = rows.len().saturating_sub(most);
        rows.truncate(most);
        Ok((rows, left_out))
    }

    /// Points, newest first.
    fn list(&self, filter: &PointFilter, page: Page) -> Result<Listing<PointRow>, StorageError>;

    /// Points in buckets, for a chart; [`StorageError::Invalid`] when the series have more than
    /// `RANGE_ROWS_MAX` together.
    fn range(&self, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError>;

    /// Points of one metric of one agent, over all of its series, summed up.
    fn summary(
        &self,
        agent: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Summary, StorageError>;

    /// Names of metrics with a point in the time, sorted.
    fn names(&self, from_ms: i64, to_ms: i64, page: Page) -> Result<Listing<String>, StorageError>;

    /// Agents with a point in the time, sorted.
    fn agents(&self, from_ms: i64, to_ms: i64, page: Page)
    -> Result<Listing<String>, StorageError>;

    /// Every agent with points on the disk, by when the last one arrived, newest first. Removed
    /// agents are left out.
    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError>;

    /// Calls `visit` with the raw points, oldest first, of each series of `metric` whose agent
    /// satisfies `wanted`, one series after the other, until it breaks. For evaluating history
    /// again.
    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: Visit<'_>,
    ) -> Result<(), StorageError>;

    /// Hands each series of a selection with its points, oldest first, to `take`, agent by agent,
    /// until that breaks. A series comes once.
    ///
    /// # Errors
    ///
    /// When a day file can't be read; [`StorageError::Moved`] when one went meanwhile.
    fn select(&self, selection: &Selection<'_>, take: TakePoints<'_>) -> Result<(), StorageError>;

    /// Hands each series of a selection to `take`, without reading its points, until that breaks.
    ///
    /// # Errors
    ///
    /// [`StorageError::Behind`] when some of them are elsewhere, and that does not answer.
    fn select_series(
        &self,
        selection: &Selection<'_>,
        take: TakeSeries<'_>,
    ) -> Result<(), StorageError>;

    /// Every metric that has a series, with its number ([`Series::metric_number`]), and why some
    /// that are elsewhere may be missing.
    fn metrics(&self) -> KnownMetrics;

    /// Writes an alert event into the day file of its time, or replaces the one with its id there.
    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError>;

    /// Writes many events, one transaction for each day that they touch.
    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError>;

    /// The event with this id.
    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError>;

    /// Events, newest first.
    fn events(&self, filter: &EventFilter, page: Page)
    -> Result<Listing<AlertEvent>, StorageError>;

    /// How the store is, from counters: no file is read, and the cost is the same at any size.
    fn health(&self) -> StoreHealth;

    /// What is on the disk.
    fn report(&self) -> Result<StorageReport, StorageError>;

    /// Drops what is past the retention now.
    fn cleanup(&self) -> Result<Cleanup, StorageError>;

    /// Leaves an agent out of [`Store::agents_seen`], [`Store::latest`] and [`Store::latest_all`]
    /// until a point of it is stored again. Its points stay.
    fn hide_agent(&self, agent: &str);

    /// Deletes every stored point of an agent; gives their number. Its alert events stay.
    ///
    /// # Errors
    ///
    /// When a day file can't be written; points of other days may be gone then.
    fn forget_agent(&self, agent: &str) -> Result<u64, StorageError>;

    /// Sets the observer of stored samples. Called once, before the first batch.
    fn observe(&self, observer: Arc<dyn Observer>);

    /// Writes what is queued, closes the files and ends the writers. Batches that come later are
    /// refused.
    fn stop(&self);
}

/// Resolves the series of a batch and submits it. For callers with few points: it looks up each of
/// them.
///
/// # Errors
///
/// As [`Store::submit`].
pub fn submit_batch(store: &dyn Store, mut batch: Batch, ack: Ack) -> Result<(), Refused> {
    batch.points.sort_by_key(|point| point.timestamp_ms);
    let agent: Arc<str> = batch.agent_id.into();
    let (mut sets, mut rejected) = (Vec::new(), 0);
    for points in batch.points.chunk_by(|a, b| a.timestamp_ms == b.timestamp_ms) {
        let (mut series, mut values) = (Vec::new(), Vec::new());
        for point in points {
            let (metric, labels) = ((&*point.metric).into(), point.labels.clone());
            match store.resolve(SeriesKey { agent: Arc::clone(&agent), metric, labels }) {
                Ok(found) => {
                    series.push(found);
                    values.push(point.value);
                }
                Err(_) => rejected += 1,
            }
        }
        if let Some(point) = points.first() {
            let timestamp_ms = point.timestamp_ms;
            sets.push(SampleSet { timestamp_ms, series: series.into(), values });
        }
    }
    let ack = move |outcome: Result<Stored, StorageError>| {
        ack(outcome.map(|stored| Stored { rejected: stored.rejected + rejected, ..stored }));
    };
    store.submit(vec![AgentSamples { agent, sets }], Box::new(ack))
}
