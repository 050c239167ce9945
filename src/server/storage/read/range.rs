//! Summaries and charts: buckets from whole chunks where one lies in a bucket, from points else.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use crate::base::limits::RANGE_ROWS_MAX;
use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::day::Day;
use crate::server::storage::read::chunks::Reader;
use crate::server::storage::read::{
    SeriesView, agent_cells, chunks, needs_file, points_of, views_of, with_file,
};
use crate::server::storage::{
    Bucket, RangeQuery, RangeSeries, Series, StorageError, Summary, Visit,
};

/// Points summed up, with enough to join two of them.
#[derive(Debug, Clone, Copy)]
struct Sums {
    min: f64,
    max: f64,
    sum: f64,
    count: u64,
    last: f64,
    last_ts: i64,
}

impl Sums {
    fn of(ts: i64, value: f64) -> Self {
        Self { min: value, max: value, sum: value, count: 1, last: value, last_ts: ts }
    }

    fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.count += other.count;
        if other.last_ts >= self.last_ts {
            (self.last, self.last_ts) = (other.last, other.last_ts);
        }
    }

    fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

/// Buckets of one series by number.
type Buckets = BTreeMap<i64, Sums>;

fn add_to_bucket(buckets: &mut Buckets, number: i64, sums: &Sums) {
    buckets.entry(number).and_modify(|there| there.join(sums)).or_insert(*sums);
}

/// Adds a day's points of a series to `buckets`; `number` gives the bucket of a time.
fn add_points(
    connection: Option<&Connection>,
    day: &Day,
    view: &SeriesView,
    (from, to): (i64, i64),
    number: &dyn Fn(i64) -> i64,
    buckets: &mut Buckets,
) -> Result<(), StorageError> {
    let mut packed_again: HashSet<i64> = HashSet::new();
    if let Some(connection) = connection {
        for stored in chunks::load(connection, day, view.id, from, to)? {
            let meta = &stored.meta;
            let at = view.head.partition_point(|point| point.0 < meta.start);
            let touches_head = view.head.get(at).is_some_and(|point| point.0 <= meta.end);
            let whole = meta.start >= from && meta.end <= to;
            if whole && !touches_head && number(meta.start) == number(meta.end) {
                let sums = Sums {
                    min: meta.min,
                    max: meta.max,
                    sum: meta.sum,
                    count: meta.count as u64,
                    last: meta.last,
                    last_ts: meta.end,
                };
                add_to_bucket(buckets, number(meta.start), &sums);
                continue;
            }
            let inside = stored.points(day)?.into_iter().filter(|&(ts, _)| ts >= from && ts <= to);
            for (ts, value) in inside {
                add_to_bucket(buckets, number(ts), &Sums::of(ts, value));
                if touches_head {
                    packed_again.insert(ts);
                }
            }
        }
    }
    for &(ts, value, _) in &view.head {
        if !packed_again.contains(&ts) {
            add_to_bucket(buckets, number(ts), &Sums::of(ts, value));
        }
    }
    Ok(())
}

/// Whether the labels have each of `asked`.
fn has_labels(labels: &Labels, asked: &Labels) -> bool {
    asked.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Points of one agent's metric in buckets, by series.
pub(crate) fn range(
    days: &[Arc<Day>],
    query: &RangeQuery,
) -> Result<Vec<RangeSeries>, StorageError> {
    let step = query.step_ms.max(1);
    let number = |ts: i64| ts.div_euclid(step);
    let is_wanted = |series: &Series| {
        *series.key.metric == *query.metric && has_labels(&series.key.labels, &query.labels)
    };
    let mut found: BTreeMap<Labels, Buckets> = BTreeMap::new();
    let mut rows = 0;
    for_each_series(days, &query.agent, &is_wanted, (query.from_ms, query.to_ms), &mut |one| {
        let buckets = found.entry(one.view.series.key.labels.clone()).or_default();
        let before = buckets.len();
        add_points(one.connection, one.day, one.view, one.time, &number, buckets)?;
        rows += buckets.len() - before;
        if rows > RANGE_ROWS_MAX { Err(too_many_rows()) } else { Ok(()) }
    })?;
    let bucket = |(number, sums): (i64, Sums)| Bucket {
        start_ms: number.saturating_mul(step),
        min: sums.min,
        max: sums.max,
        avg: sums.mean(),
        last: sums.last,
        count: sums.count,
    };
    Ok(found
        .into_iter()
        .filter(|(_, buckets)| !buckets.is_empty())
        .map(|(labels, buckets)| RangeSeries {
            labels,
            buckets: buckets.into_iter().map(bucket).collect(),
        })
        .collect())
}

fn too_many_rows() -> StorageError {
    StorageError::Invalid(format!(
        "the series of this metric have over {RANGE_ROWS_MAX} buckets together: take a longer \
         step, a shorter time, or fewer series by their labels"
    ))
}

/// All points of one agent's metric, summed up.
pub(crate) fn summary(
    days: &[Arc<Day>],
    agent: &str,
    metric: &str,
    time: (i64, i64),
) -> Result<Summary, StorageError> {
    let is_wanted = |series: &Series| *series.key.metric == *metric;
    let mut buckets = Buckets::new();
    for_each_series(days, agent, &is_wanted, time, &mut |one| {
        add_points(one.connection, one.day, one.view, one.time, &|_| 0, &mut buckets)
    })?;
    Ok(buckets.get(&0).map_or_else(Summary::default, |sums| Summary {
        min: sums.min,
        max: sums.max,
        avg: sums.mean(),
        count: sums.count,
    }))
}

struct SeriesOfDay<'a> {
    connection: Option<&'a Connection>,
    day: &'a Day,
    view: &'a SeriesView,
    time: (i64, i64),
}

fn for_each_series(
    days: &[Arc<Day>],
    agent: &str,
    is_wanted: &dyn Fn(&Series) -> bool,
    time: (i64, i64),
    visit: &mut dyn FnMut(SeriesOfDay<'_>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let (from, to) = time;
    for day in days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from) {
        for cell in agent_cells(day, Some(agent)) {
            let found = views_of(&cell, is_wanted, from, to);
            with_file(day, needs_file(&found, from), |connection| {
                for view in &found {
                    visit(SeriesOfDay { connection, day, view, time })?;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Points handed to a visitor at once.
const SCAN_POINTS: usize = 10_000;

/// The raw points of every view series, one series after the other, oldest first.
pub(crate) fn scan(
    days: &[Arc<Day>],
    metric: &str,
    is_wanted: &dyn Fn(&SeriesKey) -> bool,
    (from, to): (i64, i64),
    visit: Visit<'_>,
) -> Result<(), StorageError> {
    let days: Vec<&Arc<Day>> =
        days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from).collect();
    let is_wanted = |series: &Series| *series.key.metric == *metric && is_wanted(&series.key);
    let mut series: BTreeMap<SeriesKey, Arc<Series>> = BTreeMap::new();
    for day in &days {
        for cell in day.agents() {
            for view in views_of(&cell, &is_wanted, from, to) {
                series.entry(view.series.key.clone()).or_insert(view.series);
            }
        }
    }
    for (key, one) in series {
        let is_one = |other: &Series| other.number == one.number;
        for day in &days {
            for cell in agent_cells(day, Some(&key.agent)) {
                let found = views_of(&cell, &is_one, from, to);
                let mut points = Vec::new();
                with_file(day, needs_file(&found, from), |connection| {
                    let mut reader = connection.map(|file| Reader::new(file, day)).transpose()?;
                    // One at the most: an agent has a series once.
                    found.iter().try_for_each(|view| {
                        points_of(reader.as_mut(), view, (from, to), &mut points)
                    })
                })?;
                for part in points.chunks(SCAN_POINTS) {
                    if visit(&key, part).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}
