//! Reads over days that are no longer here and those that are, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::clock::{DAY_MS, HOUR_MS};
use crate::base::ids;
use crate::base::limits::RANGE_ROWS_MAX;
use crate::model::series::{Labels, SeriesKey};
use crate::server::remote::Inner;
use crate::server::remote::gaps::Times;
use crate::server::remote::old::BySeries;
use crate::server::storage::{
    Bucket, KnownMetrics, Listing, Page, PointFilter, PointRow, RangeQuery, RangeSeries, Selection,
    Series, StorageError, Summary, TakePoints, TakeSeries, Visit,
};

/// The part of a time whose days are here.
fn hot_part(inner: &Inner, (from_ms, to_ms): Times) -> Times {
    (from_ms.max(inner.hot_from_ms()), to_ms)
}

/// Buckets of one series by their start.
type Buckets = BTreeMap<i64, Bucket>;

fn join(buckets: &mut Buckets, later: Bucket) {
    let Some(known) = buckets.get_mut(&later.start_ms) else {
        buckets.insert(later.start_ms, later);
        return;
    };
    let count = known.count + later.count;
    let sum = known.avg * known.count as f64 + later.avg * later.count as f64;
    known.min = known.min.min(later.min);
    known.max = known.max.max(later.max);
    known.avg = sum / count.max(1) as f64;
    known.last = later.last;
    known.count = count;
}

/// The buckets of points, oldest first, with `step_ms` each.
pub(super) fn buckets_of(points: &[(i64, f64)], step_ms: i64) -> Buckets {
    let number = |ms: i64| ms.div_euclid(step_ms);
    let bucket = |run: &[(i64, f64)]| {
        let (first, last) = (run.first()?, run.last()?);
        let values = || run.iter().map(|(_, value)| *value);
        let start_ms = number(first.0).saturating_mul(step_ms);
        let sum: f64 = values().sum();
        let bucket = Bucket {
            start_ms,
            min: values().fold(f64::INFINITY, f64::min),
            max: values().fold(f64::NEG_INFINITY, f64::max),
            avg: sum / run.len() as f64,
            last: last.1,
            count: run.len() as u64,
        };
        Some((start_ms, bucket))
    };
    points.chunk_by(|a, b| number(a.0) == number(b.0)).filter_map(bucket).collect()
}

fn has_labels(labels: &Labels, asked: &Labels) -> bool {
    asked.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// As `Store::range`.
pub(super) fn range(inner: &Inner, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
    let times = (query.from_ms, query.to_ms);
    let Some(old) = inner.old_part(times) else { return inner.store.range(query) };
    let step_ms = query.step_ms.max(1);
    let mut found: BTreeMap<Labels, Buckets> = BTreeMap::new();
    for (key, points) in inner.old_points(Some(&query.agent), Some(&query.metric), old)? {
        if has_labels(&key.labels, &query.labels) {
            found.insert(key.labels, buckets_of(&points, step_ms));
        }
    }
    let (from_ms, to_ms) = hot_part(inner, times);
    if from_ms <= to_ms {
        for series in inner.store.range(&RangeQuery { from_ms, to_ms, ..query.clone() })? {
            let buckets = found.entry(series.labels).or_default();
            series.buckets.into_iter().for_each(|bucket| join(buckets, bucket));
        }
    }
    let rows: usize = found.values().map(BTreeMap::len).sum();
    if rows > RANGE_ROWS_MAX {
        let message = "the series of this metric have too many buckets together: take a longer \
                       step, a shorter time, or fewer series by their labels";
        return Err(StorageError::Invalid(message.to_owned()));
    }
    let whole = found.into_iter().filter(|(_, buckets)| !buckets.is_empty());
    let series = |(labels, buckets): (Labels, Buckets)| RangeSeries {
        labels,
        buckets: buckets.into_values().collect(),
    };
    Ok(whole.map(series).collect())
}

/// As `Store::summary`, of an agent and a metric.
pub(super) fn summary(
    inner: &Inner,
    (agent, metric): (&str, &str),
    times: Times,
) -> Result<Summary, StorageError> {
    let Some(old) = inner.old_part(times) else {
        return inner.store.summary(agent, metric, times.0, times.1);
    };
    let (from_ms, to_ms) = hot_part(inner, times);
    let mut out = match from_ms <= to_ms {
        true => inner.store.summary(agent, metric, from_ms, to_ms)?,
        false => Summary::default(),
    };
    for points in inner.old_points(Some(agent), Some(metric), old)?.into_values() {
        for (_, value) in points {
            let is_first = out.count == 0;
            let sum = out.avg * out.count as f64 + value;
            out.count += 1;
            out.avg = sum / out.count as f64;
            out.min = if is_first { value } else { out.min.min(value) };
            out.max = if is_first { value } else { out.max.max(value) };
        }
    }
    Ok(out)
}

/// Names or agents: those of the store, and those of series of old days.
pub(super) fn texts(
    inner: &Inner,
    times: Times,
    page: Page,
    of: &dyn Fn(SeriesKey) -> Arc<str>,
    local: &dyn Fn(Page) -> Result<Listing<String>, StorageError>,
) -> Result<Listing<String>, StorageError> {
    let Some(old) = inner.old_part(times) else { return local(page) };
    let all = local(Page { limit: usize::MAX, offset: 0 })?.items;
    let mut all: BTreeSet<String> = all.into_iter().collect();
    all.extend(inner.old_series(None, None, old)?.into_iter().map(|key| (*of(key)).to_owned()));
    Ok(Listing::slice(all.into_iter(), page))
}

/// As `Store::list`.
pub(super) fn list(
    inner: &Inner,
    filter: &PointFilter,
    page: Page,
) -> Result<Listing<PointRow>, StorageError> {
    let times = (filter.from_ms.unwrap_or(i64::MIN), filter.to_ms.unwrap_or(i64::MAX));
    let Some(old) = inner.old_part(times) else { return inner.store.list(filter, page) };
    let (from_ms, _) = hot_part(inner, times);
    let hot = PointFilter { from_ms: Some(from_ms), ..filter.clone() };
    list_on(inner, filter, page, inner.store.list(&hot, page)?, old)
}

/// A list whose newest part is `out`, with what old days have.
pub(super) fn list_on(
    inner: &Inner,
    filter: &PointFilter,
    page: Page,
    mut out: Listing<PointRow>,
    old: Times,
) -> Result<Listing<PointRow>, StorageError> {
    let mut skip = (page.offset as u64).saturating_sub(out.total);
    let metrics: BTreeSet<Arc<str>> = match &filter.metric {
        Some(metric) => BTreeSet::from([metric.as_str().into()]),
        None => {
            let series = inner.old_series(filter.agent.as_deref(), None, old)?;
            series.into_iter().map(|key| key.metric).collect()
        }
    };
    for day in parts_back(old, DAY_MS) {
        let mut of_day = 0;
        for metric in &metrics {
            of_day += inner.old_counts(filter.agent.as_deref(), metric, day)?.values().sum::<u64>();
        }
        out.total += of_day;
        if out.items.len() >= page.limit || skip >= of_day {
            skip = skip.saturating_sub(of_day);
            continue;
        }
        for part in parts_back(day, HOUR_MS) {
            let rows = rows(inner, filter, part)?;
            let wanted = page.limit - out.items.len();
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(rows.len());
            skip -= skipped as u64;
            out.items.extend(rows.into_iter().skip(skipped).take(wanted));
            if out.items.len() >= page.limit {
                break;
            }
        }
    }
    Ok(out)
}

/// A time in parts of `length_ms`, newest first.
fn parts_back((from_ms, to_ms): Times, length_ms: i64) -> impl Iterator<Item = Times> {
    let mut next = Some(to_ms);
    std::iter::from_fn(move || {
        let to = next.filter(|to| *to >= from_ms)?;
        let start = (to.div_euclid(length_ms) * length_ms).max(from_ms);
        next = start.checked_sub(1);
        Some((start, to))
    })
}

/// Points of old days, newest first.
fn rows(inner: &Inner, filter: &PointFilter, part: Times) -> Result<Vec<PointRow>, StorageError> {
    Ok(rows_of(inner.old_points(filter.agent.as_deref(), filter.metric.as_deref(), part)?))
}

/// Points as a list shows them, newest first.
pub(super) fn rows_of(found: BySeries) -> Vec<PointRow> {
    let mut rows: Vec<PointRow> = Vec::new();
    for (key, points) in found {
        for (timestamp_ms, value) in points {
            let labels = key.labels.to_json();
            let time = timestamp_ms.to_string();
            let id = ids::stable_id(&[&key.agent, &key.metric, &labels, &time]);
            let key = key.clone();
            rows.push(PointRow { id, key, timestamp_ms, value, created_ms: timestamp_ms });
        }
    }
    rows.sort_by(|a, b| b.timestamp_ms.cmp(&a.timestamp_ms).then_with(|| a.key.cmp(&b.key)));
    rows
}

/// What is scanned: a metric, and which of its series.
type Wanted<'a> = (&'a str, &'a dyn Fn(&SeriesKey) -> bool);

/// As `Store::scan`.
pub(super) fn scan(
    inner: &Inner,
    (metric, wanted): Wanted<'_>,
    times: Times,
    visit: Visit<'_>,
) -> Result<(), StorageError> {
    let Some(old) = inner.old_part(times) else {
        return inner.store.scan(metric, wanted, times.0, times.1, visit);
    };
    let mut keys = inner.old_series(None, Some(metric), old)?;
    let (from_ms, to_ms) = hot_part(inner, times);
    let of_metric = |series: &Series| *series.key.metric == *metric;
    let selection = Selection { series: &of_metric, ..Selection::all(from_ms, to_ms) };
    inner.store.select_series(&selection, &mut |series| {
        keys.insert(series.key.clone());
        ControlFlow::Continue(())
    })?;
    let mut agent: Option<(Arc<str>, BySeries)> = None;
    for key in keys.into_iter().filter(|key| wanted(key)) {
        if agent.as_ref().is_none_or(|(name, _)| *name != key.agent) {
            let points = inner.old_points(Some(&key.agent), Some(metric), old)?;
            agent = Some((Arc::clone(&key.agent), points));
        }
        let points = agent.as_ref().and_then(|(_, points)| points.get(&key));
        if points.is_some_and(|points| visit(&key, points).is_break()) {
            return Ok(());
        }
        let mut ended = false;
        inner.store.scan(metric, &|other| *other == key, from_ms, to_ms, &mut |key, points| {
            let flow = visit(key, points);
            ended |= flow.is_break();
            flow
        })?;
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

/// Series by agent and metric.
type ByMetric = BTreeMap<(Arc<str>, Arc<str>), BTreeMap<SeriesKey, Arc<Series>>>;

/// As `Store::select`.
pub(super) fn select(
    inner: &Inner,
    selection: &Selection<'_>,
    take: TakePoints<'_>,
) -> Result<(), StorageError> {
    let times = (selection.from_ms, selection.to_ms);
    let Some(old) = inner.old_part(times) else { return inner.store.select(selection, take) };
    let (from_ms, to_ms) = hot_part(inner, times);
    let mut wanted = ByMetric::new();
    for series in old_selected(inner, selection, old)? {
        let pair = (Arc::clone(&series.key.agent), Arc::clone(&series.key.metric));
        wanted.entry(pair).or_default().insert(series.key.clone(), series);
    }
    // Those that are here as well, with what is here.
    let hot = Selection { from_ms, ..*selection };
    if from_ms <= to_ms {
        let mut there = Vec::new();
        inner.store.select_series(&hot, &mut |series| {
            there.push(Arc::clone(series));
            ControlFlow::Continue(())
        })?;
        for series in there {
            let pair = (Arc::clone(&series.key.agent), Arc::clone(&series.key.metric));
            wanted.entry(pair).or_default().insert(series.key.clone(), series);
        }
    }
    for ((agent, metric), series) in wanted {
        let mut found = inner.old_points(Some(&agent), Some(&metric), old)?;
        if from_ms <= to_ms {
            let is_agent = |name: &str| *name == *agent;
            let is_series = |one: &Series| series.contains_key(&one.key);
            let here =
                Selection { agent: &is_agent, series: &is_series, from_ms, to_ms, ..*selection };
            inner.store.select(&here, &mut |one, points| {
                found.entry(one.key.clone()).or_default().extend_from_slice(points);
                ControlFlow::Continue(())
            })?;
        }
        for (key, series) in series {
            let points = found.remove(&key).unwrap_or_default();
            let first = if selection.newest_only { points.len().saturating_sub(1) } else { 0 };
            let points = points.get(first..).unwrap_or_default();
            if !points.is_empty() && take(&series, points).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The series of a selection that have samples in old days.
fn old_selected(
    inner: &Inner,
    selection: &Selection<'_>,
    old: Times,
) -> Result<Vec<Arc<Series>>, StorageError> {
    let mut out = Vec::new();
    for key in inner.old_series(None, None, old)? {
        if (selection.agent)(&key.agent) {
            let series = inner.known(key)?;
            if (selection.series)(&series) {
                out.push(series);
            }
        }
    }
    Ok(out)
}

/// As `Store::select_series`.
pub(super) fn select_series(
    inner: &Inner,
    selection: &Selection<'_>,
    take: TakeSeries<'_>,
) -> Result<(), StorageError> {
    let Some(old) = inner.old_part((selection.from_ms, selection.to_ms)) else {
        return inner.store.select_series(selection, take);
    };
    let found = old_selected(inner, selection, old)?;
    let mut all: BTreeMap<u32, Arc<Series>> =
        found.into_iter().map(|series| (series.number, series)).collect();
    inner.store.select_series(selection, &mut |series| {
        all.insert(series.number, Arc::clone(series));
        ControlFlow::Continue(())
    })?;
    for series in all.values() {
        if take(series).is_break() {
            break;
        }
    }
    Ok(())
}

/// As `Store::metrics`, with those that only old days have.
pub(super) fn metrics(inner: &Inner) -> KnownMetrics {
    let (mut all, mut missing) = inner.store.metrics();
    if let Some(old) = inner.old_part((i64::MIN, i64::MAX)) {
        let known: BTreeSet<Arc<str>> = all.iter().map(|(name, _)| Arc::clone(name)).collect();
        let (found, failed) = inner.old_metrics(old, &known);
        missing = missing.or(failed);
        for series in found {
            all.push((Arc::clone(&series.key.metric), series.metric_number));
        }
    }
    (all, missing)
}
