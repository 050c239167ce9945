//! The storage boundary. Everything outside this folder sees the [`Store`] trait and
//! [`control::Control`], so that an engine other than SQLite can stand behind the same server.

use std::sync::Arc;

use crate::model::alert::AlertEvent;
use crate::model::point::Batch;
use crate::model::series::{Labels, SeriesKey};
use crate::model::severity::Severity;

pub mod backup;
mod chunk;
pub mod control;
mod damage;
mod day;
pub mod engine;
mod events;
mod frame;
mod group;
mod head;
mod intern;
mod merge;
mod metrics;
mod pack;
mod partition;
mod reader;
mod recover;
mod retention;
mod shared;
pub mod sql;
#[cfg(test)]
mod tests;
mod writer;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite said no.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No room on the disk: ingest refuses until there is some again, reads go on.
    #[error("the disk that holds data_dir is full; free some space, agents keep their batches")]
    DiskFull,
    /// What stands in a file is not what was written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file's name, without its folder.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Invalid(String),
    /// Another server holds the data directory.
    #[error(
        "{0} is in use by another oxmon-server; stop that one, or give this one its own data_dir"
    )]
    Locked(String),
    /// An agent has more series than it may have; the series is not taken.
    #[error("agent {0} has more series than it may have in a day")]
    TooManySeries(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// What became of a batch, told after the transaction that holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Points that are new.
    pub new: usize,
    /// Points that stood there already, under the same series and time.
    pub known: usize,
    /// Points that the store has no room for: outside of the days that are kept, not finite, or
    /// of an agent with too many series.
    pub left_out: usize,
}

/// Called once, by the writer, after the commit or when the batch could not be stored.
pub type Ack = Box<dyn FnOnce(Result<Stored, StorageError>) + Send>;

/// A batch that was not taken: the queue is full, or the server stops.
pub struct Refused {
    /// The acknowledgement, not called.
    pub ack: Ack,
    /// Why.
    pub error: RefusedWhy,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedWhy {
    /// The writers' queue is full; the agent keeps the batch and backs off.
    QueueFull,
    /// The server is stopping.
    Stopping,
}

/// A series as the process knows it. `number` is dense and stable for the life of the process, so
/// that whoever judges points can keep what it knows of a series in a table.
#[derive(Debug)]
pub struct Series {
    /// Dense number, from 0.
    pub number: u32,
    /// Dense number of its metric's name, from 0, over all agents.
    pub metric_number: u32,
    /// Agent, metric and labels.
    pub key: SeriesKey,
}

/// The series of a tick in the order of its values. The same list, shared from tick to tick, is
/// what makes storing a tick cheap.
pub type SeriesList = Arc<[Arc<Series>]>;

/// The points of one agent at one time, with the series already looked up.
#[derive(Debug, Clone)]
pub struct ResolvedTick {
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// Series of the agent, each from [`Store::resolve`]. Share one list among ticks.
    pub series: SeriesList,
    /// As many values as there are series.
    pub values: Box<[f64]>,
}

/// One stored point, as observers see it.
#[derive(Debug, Clone)]
pub struct NewPoint {
    /// Its series.
    pub series: Arc<Series>,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

/// Told of every point that was stored for the first time, after the commit, in the order of the
/// commits, by the writer's thread. It may block: ingest then waits with it.
pub trait Observer: Send + Sync {
    /// `points` all belong to `agent`.
    fn stored(&self, agent: &str, points: Vec<NewPoint>);
}

/// A slice of a longer list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Rows at the most.
    pub limit: usize,
    /// Rows to pass over first.
    pub offset: usize,
}

/// A slice with the number of all matches.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// The slice.
    pub items: Vec<T>,
    /// All matches.
    pub total: u64,
}

/// Which points a list is about. `None` means any; times are inclusive Unix milliseconds.
#[derive(Debug, Clone, Default)]
pub struct PointFilter {
    /// Exactly this agent.
    pub agent: Option<String>,
    /// Exactly this metric.
    pub metric: Option<String>,
    /// Not before.
    pub from_ms: Option<i64>,
    /// Not after.
    pub to_ms: Option<i64>,
}

/// A stored point as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct PointRow {
    /// An id that is the same whenever this point is read.
    pub id: String,
    /// Agent, metric and labels.
    pub key: SeriesKey,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
    /// When the server stored it, Unix milliseconds, to the accuracy that the store keeps.
    pub created_ms: i64,
}

/// The newest value of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestRow {
    /// Agent, metric and labels.
    pub key: SeriesKey,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

/// Points summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Least value; 0 without points.
    pub min: f64,
    /// Greatest value; 0 without points.
    pub max: f64,
    /// Mean; 0 without points.
    pub avg: f64,
    /// Number of points.
    pub count: u64,
}

/// A query for a chart.
#[derive(Debug, Clone)]
pub struct RangeQuery {
    /// Exactly this agent.
    pub agent: String,
    /// Exactly this metric.
    pub metric: String,
    /// Labels that a series must have to be in it.
    pub labels: Labels,
    /// First millisecond.
    pub from_ms: i64,
    /// Last millisecond.
    pub to_ms: i64,
    /// Length of a bucket.
    pub step_ms: i64,
}

/// One bucket of a range; empty buckets are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// First millisecond of the bucket: a multiple of the step.
    pub start_ms: i64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Mean.
    pub avg: f64,
    /// Newest value.
    pub last: f64,
    /// Number of points.
    pub count: u64,
}

/// One series of a range.
#[derive(Debug, Clone)]
pub struct RangeSeries {
    /// The series' labels.
    pub labels: Labels,
    /// Buckets, oldest first.
    pub buckets: Vec<Bucket>,
}

/// When an agent was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSeen {
    /// The agent.
    pub agent_id: String,
    /// Timestamp of its newest point, Unix milliseconds.
    pub last_seen_ms: i64,
}

/// Which alert events a list is about.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Exactly this agent.
    pub agent: Option<String>,
    /// Exactly this severity.
    pub severity: Option<Severity>,
    /// Not before, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Not after, Unix milliseconds.
    pub to_ms: Option<i64>,
}

/// One day file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `YYYY-MM-DD`.
    pub date: String,
    /// Bytes of the file with its log.
    pub size_bytes: u64,
}

/// What stands on the disk.
#[derive(Debug, Clone, Default)]
pub struct StorageReport {
    /// Day files, oldest first.
    pub partitions: Vec<Partition>,
    /// Bytes of everything in `data_dir`.
    pub total_bytes: u64,
    /// Names of files that were set aside as damaged.
    pub damaged: Vec<String>,
    /// Whether the last write found room on the disk.
    pub disk_full: bool,
    /// Bytes of the head in memory.
    pub head_bytes: u64,
    /// Series in the head.
    pub head_series: u64,
}

/// What a clean-up removed.
#[derive(Debug, Clone, Default)]
pub struct Cleanup {
    /// Days that went, oldest first.
    pub removed: Vec<Partition>,
    /// Bytes that they held.
    pub freed_bytes: u64,
}

/// Points and alert events by day. Every method may be called from any thread; reads never wait
/// for writes, and a long read never stops a write.
pub trait Store: Send + Sync {
    /// Queues a checked batch; `ack` is called after its commit.
    ///
    /// # Errors
    ///
    /// Gives the acknowledgement back when the batch was not taken.
    fn submit(&self, batch: Batch, ack: Ack) -> Result<(), Refused>;

    /// The series with this key, made known when it was not.
    ///
    /// # Errors
    ///
    /// [`StorageError::TooManySeries`] when the agent may have no more.
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError>;

    /// Queues checked ticks of one agent whose series are known already; `ack` is called after
    /// the commit that holds all of them.
    ///
    /// # Errors
    ///
    /// Gives the acknowledgement back when the ticks were not taken.
    fn submit_resolved(
        &self,
        agent: &str,
        ticks: Vec<ResolvedTick>,
        ack: Ack,
    ) -> Result<(), Refused>;

    /// The newest value of each series of an agent, by metric and labels.
    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError>;

    /// The newest value of every series, for the Prometheus exposition.
    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError>;

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

    /// Every agent with points on the disk, newest first.
    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError>;

    /// Calls `visit` with the raw points, oldest first, of each series of `metric` whose agent
    /// satisfies `wanted`, one series after the other. For judging history again.
    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: &mut dyn FnMut(&SeriesKey, &[(i64, f64)]),
    ) -> Result<(), StorageError>;

    /// Writes an alert event into the day file of its time, or replaces the one with its id there.
    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError>;

    /// Writes many events, one transaction for each day that they touch.
    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError>;

    /// The event with this id.
    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError>;

    /// Events, newest first.
    fn events(&self, filter: &EventFilter, page: Page)
    -> Result<Listing<AlertEvent>, StorageError>;

    /// What stands on the disk.
    fn report(&self) -> Result<StorageReport, StorageError>;

    /// Drops what is past the retention now.
    fn cleanup(&self) -> Result<Cleanup, StorageError>;

    /// Sets who is told of stored points. Called once, before the first batch.
    fn observe(&self, observer: Arc<dyn Observer>);

    /// Writes what is queued, closes the files and ends the writers. Batches that come later are
    /// refused.
    fn stop(&self);
}
