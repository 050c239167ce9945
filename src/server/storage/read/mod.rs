//! Reads. A reader copies what it wants of the heads, and only then begins its transaction on the
//! file. Points move from the head into chunks and never back, so that the two together hold
//! every point; one that moved in between is seen twice, under the same series and time, and
//! counted once.

use std::sync::Arc;

use rusqlite::Connection;

use crate::server::storage::day::head::{AgentDay, HeadRecord};
use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::read::chunks::Reader;
use crate::server::storage::{Series, StorageError};

pub(crate) mod arrived;
pub(crate) mod chunks;
pub(crate) mod index;
pub(crate) mod points;
pub(crate) mod range;
pub(crate) mod select;

/// A series of a day, with what the head has of it.
#[derive(Debug)]
pub(super) struct SeriesView {
    /// The series.
    pub series: Arc<Series>,
    /// Its id in the day file.
    pub id: u32,
    /// Points stored.
    pub count: u64,
    /// Time of the first point.
    pub first: i64,
    /// Time of the newest point.
    pub last: i64,
    /// Time of the newest packed point; `i64::MIN` when none is packed.
    pub packed_last: i64,
    /// Points of the head in the time asked for, oldest first: time, value, arrival.
    pub head: Vec<(i64, f64, i64)>,
}

/// The agents of a day that a query is about.
pub(super) fn agent_cells(day: &Day, agent: Option<&str>) -> Vec<AgentCell> {
    match agent {
        Some(name) => day.agent(name).into_iter().collect(),
        None => day.agents(),
    }
}

/// Series of an agent that `is_wanted`, with a point from `from` to `to` as far as their bounds
/// tell, and the head's points in that time.
pub(super) fn views_of(
    cell: &AgentCell,
    is_wanted: &dyn Fn(&Series) -> bool,
    from: i64,
    to: i64,
) -> Vec<SeriesView> {
    views_of_some(cell, is_wanted, from, to, &|_, _| true)
}

/// As [`views_of`], with the head's points only of series whose bounds `need_points`.
pub(super) fn views_of_some(
    cell: &AgentCell,
    is_wanted: &dyn Fn(&Series) -> bool,
    from: i64,
    to: i64,
    need_points: &dyn Fn(i64, i64) -> bool,
) -> Vec<SeriesView> {
    let agent = cell.lock();
    let mut out = Vec::new();
    for (place, entry) in (0u32..).zip(&agent.entries) {
        let inside = entry.count > 0 && entry.first <= to && entry.last >= from;
        if inside && is_wanted(&entry.series) {
            out.push(SeriesView {
                series: Arc::clone(&entry.series),
                id: entry.id,
                count: u64::from(entry.count),
                first: entry.first,
                last: entry.last,
                packed_last: entry.packed_last,
                head: if need_points(entry.first, entry.last) {
                    head_points(&agent, place, from, to)
                } else {
                    Vec::new()
                },
            });
        }
    }
    out
}

fn head_points(agent: &AgentDay, place: u32, from: i64, to: i64) -> Vec<(i64, f64, i64)> {
    let mut out = Vec::new();
    copy_head(agent, place, (from, to), |record, value| {
        out.push((record.ts, value, record.received));
    });
    out
}

/// Hands each record of the head from `from` to `to` that has a value of an entry to `take` with
/// that value, oldest first.
pub(super) fn copy_head(
    agent: &AgentDay,
    place: u32,
    (from, to): (i64, i64),
    mut take: impl FnMut(&HeadRecord, f64),
) {
    let start = agent.records.partition_point(|record| record.ts < from);
    let end = agent.records.partition_point(|record| record.ts <= to);
    let records = agent.records.get(start..end).unwrap_or_default();
    for run in records.chunk_by(|a, b| Arc::ptr_eq(&a.series_list, &b.series_list)) {
        let position = run.first().and_then(|record| record.series_list.position(place));
        let Some(position) = position else { continue };
        for record in run {
            if let Some(value) = record.value(&agent.values, position) {
                take(record, value);
            }
        }
    }
}

/// Appends every point that a day has of a series from `from` to `to`, oldest first, to `out`,
/// which has only older ones.
pub(super) fn points_of(
    file: Option<&mut Reader<'_>>,
    view: &SeriesView,
    (from, to): (i64, i64),
    out: &mut Vec<(i64, f64)>,
) -> Result<(), StorageError> {
    let before = out.len();
    if let Some(file) = file.filter(|_| needs_file(std::slice::from_ref(view), from)) {
        file.append(view.id, (from, to), out)?;
    }
    out.extend(view.head.iter().map(|&(ts, value, _)| (ts, value)));
    make_ordered(out, before);
    Ok(())
}

/// Sorts the points after the first `before`, of which each time stays once.
pub(super) fn make_ordered(points: &mut Vec<(i64, f64)>, before: usize) {
    let added = points.get(before..).unwrap_or_default();
    if !added.is_sorted_by(|a, b| a.0 < b.0) {
        let mut added = points.split_off(before);
        added.sort_by_key(|&(ts, _)| ts);
        added.dedup_by_key(|&mut (ts, _)| ts);
        points.append(&mut added);
    }
}

/// Runs `body` with a connection to the day's file, or without one when nothing in it is needed.
pub(super) fn with_file<T>(
    day: &Day,
    needed: bool,
    body: impl FnOnce(Option<&Connection>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    if needed { day.read(|connection| body(Some(connection))) } else { body(None) }
}

/// Whether any of the series has chunks at or after `from`. Asked before the heads are copied it
/// could say no too early; the heads are copied first, and a point that is packed after that is
/// in the copy.
pub(super) fn needs_file(view: &[SeriesView], from: i64) -> bool {
    view.iter().any(|view| view.packed_last >= from && view.packed_last > i64::MIN)
}
