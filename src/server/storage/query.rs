//! What the store is asked, and what it answers.

use serde::{Deserialize, Serialize};

use crate::model::alert::AlertStatus;
use crate::model::series::{Labels, SeriesKey};
use crate::model::severity::Severity;
use crate::server::storage::Series;

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

impl<T> Listing<T> {
    /// The slice of `all` that `page` asks for.
    pub fn slice(all: impl ExactSizeIterator<Item = T>, page: Page) -> Self {
        let total = all.len() as u64;
        Self { items: all.skip(page.offset).take(page.limit).collect(), total }
    }

    /// The same slice with each item made another.
    pub fn map<U>(self, make: impl FnMut(T) -> U) -> Listing<U> {
        Listing { items: self.items.into_iter().map(make).collect(), total: self.total }
    }
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

/// The answer to a range query for one series.
#[derive(Debug, Clone)]
pub struct RangeSeries {
    /// The series' labels.
    pub labels: Labels,
    /// Buckets, oldest first.
    pub buckets: Vec<Bucket>,
}

/// When an agent last reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSeen {
    /// The agent.
    pub agent_id: String,
    /// When the last of its points arrived, Unix milliseconds.
    pub last_seen_ms: i64,
    /// Timestamp of its newest point, Unix milliseconds by its own clock.
    pub newest_ms: i64,
}

/// Which alert events a list is about. As JSON it goes to other servers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EventFilter {
    /// Exactly this agent.
    pub agent: Option<String>,
    /// Agents whose id contains this.
    pub agent_part: Option<String>,
    /// Exactly the rule with this id.
    pub rule_id: Option<String>,
    /// Rules whose name contains this.
    pub rule_part: Option<String>,
    /// Exactly this metric.
    pub metric: Option<String>,
    /// Exactly this severity.
    pub severity: Option<Severity>,
    /// Exactly this state.
    pub status: Option<AlertStatus>,
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

/// How the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Agents with points that were not removed.
    pub agents: usize,
    /// Whether the last write found no room.
    pub disk_full: bool,
    /// Whether a day file was set aside.
    pub is_damaged: bool,
}

/// What is on the disk.
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

/// Which series a query reads, and when. Times are inclusive Unix milliseconds.
pub struct Selection<'a> {
    /// Whether an agent is meant; asked once a day for each agent.
    pub agent: &'a dyn Fn(&str) -> bool,
    /// Whether a metric may be meant, by its number ([`Series::metric_number`]); what is not here
    /// is asked for by metric.
    pub metric: &'a dyn Fn(u32) -> bool,
    /// Whether a series of such an agent is meant. Asked while its agent is locked, so it must
    /// not take long.
    pub series: &'a dyn Fn(&Series) -> bool,
    /// First millisecond.
    pub from_ms: i64,
    /// Last millisecond.
    pub to_ms: i64,
    /// Whether of each series only the newest point of that time is wanted: it is mostly in
    /// memory.
    pub newest_only: bool,
}

impl Selection<'_> {
    /// Every point of a time.
    pub(crate) fn all(from_ms: i64, to_ms: i64) -> Self {
        let (agent, metric, series) = (&|_: &str| true, &|_| true, &|_: &Series| true);
        Self { agent, metric, series, from_ms, to_ms, newest_only: false }
    }
}
