//! Points one by one, newest first. The newest are found with a heap as large as the page with
//! what comes before it, and a series is unpacked only when its newest point could still be in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::server::storage::day::file::date_of;
use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::read::{
    SeriesView, agent_cells, chunks, needs_file, views_of_some, with_file,
};
use crate::server::storage::{Listing, Page, PointFilter, PointRow, Series, StorageError};

/// A point's place in the list: time, then series. Later is newer.
type Key = (i64, u32);

/// A point of the list, whose key no other point has.
struct Hit {
    value: f64,
    received: i64,
    series: Arc<Series>,
}

/// The newest `limit` points seen so far, each once.
struct Newest {
    hits: BTreeMap<Key, Hit>,
    limit: usize,
}

impl Newest {
    /// Whether a point with this key would be among them.
    fn wants(&self, key: Key) -> bool {
        self.hits.len() < self.limit
            || self.hits.first_key_value().is_some_and(|(least, _)| key > *least)
    }

    fn add(&mut self, key: Key, hit: Hit) {
        if self.wants(key) {
            self.hits.entry(key).or_insert(hit);
            if self.hits.len() > self.limit {
                self.hits.pop_first();
            }
        }
    }
}

/// A page of points, newest first; points of the same time by series.
pub(crate) fn list(
    days: &[Arc<Day>],
    filter: &PointFilter,
    page: Page,
) -> Result<Listing<PointRow>, StorageError> {
    let from = filter.from_ms.unwrap_or(i64::MIN);
    let to = filter.to_ms.unwrap_or(i64::MAX);
    let metric = filter.metric.as_deref();
    let is_wanted = |series: &Series| metric.is_none_or(|metric| *series.key.metric == *metric);
    let mut out = Listing { items: Vec::new(), total: 0 };
    let mut skip = page.offset as u64;
    for day in days.iter().rev().filter(|day| day.start_ms() <= to && day.end_ms() >= from) {
        let mut found = Vec::new();
        for cell in agent_cells(day, filter.agent.as_deref()) {
            // Points are needed only of a series that the time cuts; the others are counted.
            let cut = |first, last| first < from || last > to;
            found.extend(views_of_some(&cell, &is_wanted, from, to, &cut));
        }
        let needed = needs_file(&found, from);
        let count = if found.iter().all(|view| view.first >= from && view.last <= to) {
            found.iter().map(|view| view.count).sum()
        } else {
            with_file(day, needed, |file| count_inside(file, day, &found, from, to))?
        };
        out.total += count;
        let missing = page.limit - out.items.len();
        if missing > 0 && skip < count {
            let limit = usize::try_from(skip).unwrap_or(usize::MAX).saturating_add(missing);
            let hits = newest(day, filter, (from, to), limit)?;
            out.items.extend(hits.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)));
            skip = 0;
        } else {
            skip = skip.saturating_sub(count);
        }
    }
    Ok(out)
}

fn count_inside(
    connection: Option<&Connection>,
    day: &Day,
    found: &[SeriesView],
    from: i64,
    to: i64,
) -> Result<u64, StorageError> {
    let mut sum = 0;
    for view in found {
        sum += if view.first >= from && view.last <= to {
            view.count
        } else {
            points_inside(connection, day, view, from, to)?
        };
    }
    Ok(sum)
}

fn points_inside(
    connection: Option<&Connection>,
    day: &Day,
    view: &SeriesView,
    from: i64,
    to: i64,
) -> Result<u64, StorageError> {
    let mut sum = view.head.len() as u64;
    let Some(connection) = connection else { return Ok(sum) };
    for stored in chunks::load(connection, day, view.id, from, to)? {
        let meta = &stored.meta;
        let at = view.head.partition_point(|point| point.0 < meta.start);
        let touches_head = view.head.get(at).is_some_and(|point| point.0 <= meta.end);
        if meta.start >= from && meta.end <= to && !touches_head {
            sum += meta.count as u64;
            continue;
        }
        let head = |ts: &i64| view.head.binary_search_by_key(ts, |point| point.0).is_ok();
        let times = stored.times(day)?;
        let inside = times.iter().filter(|&&ts| ts >= from && ts <= to && !head(&ts));
        sum += inside.count() as u64;
    }
    Ok(sum)
}

/// The newest `limit` points of a day, newest first.
fn newest(
    day: &Day,
    filter: &PointFilter,
    (from, to): (i64, i64),
    limit: usize,
) -> Result<Vec<PointRow>, StorageError> {
    let metric = filter.metric.as_deref();
    let is_wanted = |series: &Series| metric.is_none_or(|metric| *series.key.metric == *metric);
    let mut newest = Newest { hits: BTreeMap::new(), limit };
    let mut packed: Vec<(Key, Arc<Series>)> = Vec::new();
    for cell in agent_cells(day, filter.agent.as_deref()) {
        from_head(&cell, &is_wanted, (from, to), &mut newest, &mut packed);
    }
    // Those whose newest packed point is newest come first: the rest is soon out of reach.
    packed.retain(|(key, _)| newest.wants(*key));
    packed.sort_unstable_by_key(|&(key, _)| Reverse(key));
    with_file(day, !packed.is_empty(), |connection| {
        let Some(connection) = connection else { return Ok(()) };
        for (key, series) in &packed {
            if !newest.wants(*key) {
                break;
            }
            from_chunks(connection, day, key.1, series, (from, to), &mut newest)?;
        }
        Ok(())
    })?;
    let row = |((ts, id), hit): (Key, Hit)| PointRow {
        id: format!("{}-{id}-{ts}", date_of(day.number)),
        key: hit.series.key.clone(),
        timestamp_ms: ts,
        value: hit.value,
        created_ms: hit.received,
    };
    Ok(newest.hits.into_iter().rev().map(row).collect())
}

/// Adds an agent's points that are not packed, and notes which series have packed ones in reach.
fn from_head(
    cell: &AgentCell,
    is_wanted: &dyn Fn(&Series) -> bool,
    (from, to): (i64, i64),
    newest: &mut Newest,
    packed: &mut Vec<(Key, Arc<Series>)>,
) {
    let agent = cell.lock();
    let end = agent.records.partition_point(|record| record.ts <= to);
    for record in agent.records.iter().take(end).rev() {
        if record.ts < from || !newest.wants((record.ts, u32::MAX)) {
            break;
        }
        for (&place, value) in record.series_list.entries.iter().zip(record.values(&agent.values)) {
            let Some(entry) = agent.entries.get(place as usize) else { continue };
            let key = (record.ts, entry.id);
            if newest.wants(key) && is_wanted(&entry.series) {
                let series = Arc::clone(&entry.series);
                newest.add(key, Hit { value, received: record.received, series });
            }
        }
    }
    for entry in agent.entries.iter().filter(|entry| entry.packed_last > i64::MIN) {
        let key = (entry.packed_last.min(to), entry.id);
        let inside = entry.first <= to && entry.packed_last >= from;
        if inside && newest.wants(key) && is_wanted(&entry.series) {
            packed.push((key, Arc::clone(&entry.series)));
        }
    }
}

/// Adds a series' packed points.
fn from_chunks(
    connection: &Connection,
    day: &Day,
    id: u32,
    series: &Arc<Series>,
    (from, to): (i64, i64),
    newest: &mut Newest,
) -> Result<(), StorageError> {
    let mut stored = chunks::load(connection, day, id, from, to)?;
    stored.sort_by_key(|stored| Reverse(stored.meta.end));
    for stored in stored {
        if !newest.wants((stored.meta.end.min(to), id)) {
            break;
        }
        for (ts, value) in stored.points(day)?.into_iter().rev() {
            if ts > to {
                continue;
            }
            if ts < from || !newest.wants((ts, id)) {
                break;
            }
            let received = ts.saturating_add(stored.meta.lag);
            newest.add((ts, id), Hit { value, received, series: Arc::clone(series) });
        }
    }
    Ok(())
}
