//! Reads. A reader copies what it wants of the heads, and only then begins its transaction on the
//! file. Points move from the head into chunks and never back, so that the two together hold
//! every point; one that moved in between is seen twice, under the same series and time, and
//! counted once.

use std::sync::Arc;

use rusqlite::Connection;

use crate::server::storage::day::head::AgentDay;
use crate::server::storage::day::{Cell, Day};
use crate::server::storage::{Series, StorageError};

pub mod chunks;
pub mod index;
pub mod points;
pub mod range;
pub mod select;

/// A series of a day, with what the head has of it.
#[derive(Debug)]
pub struct Wanted {
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
pub fn cells(day: &Day, agent: Option<&str>) -> Vec<Cell> {
    match agent {
        Some(name) => day.agent(name).into_iter().collect(),
        None => day.agents(),
    }
}

/// Series of an agent that `is_wanted`, with a point from `from` to `to` as far as their bounds
/// tell, and the head's points in that time.
pub fn gather(cell: &Cell, is_wanted: &dyn Fn(&Series) -> bool, from: i64, to: i64) -> Vec<Wanted> {
    gather_some(cell, is_wanted, from, to, &|_, _| true)
}

/// As [`gather`], with the head's points only of series whose bounds `need_points`.
pub fn gather_some(
    cell: &Cell,
    is_wanted: &dyn Fn(&Series) -> bool,
    from: i64,
    to: i64,
    need_points: &dyn Fn(i64, i64) -> bool,
) -> Vec<Wanted> {
    let agent = cell.lock();
    let mut out = Vec::new();
    for (place, entry) in (0u32..).zip(&agent.entries) {
        let inside = entry.count > 0 && entry.first <= to && entry.last >= from;
        if inside && is_wanted(&entry.series) {
            out.push(Wanted {
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
    let start = agent.ticks.partition_point(|tick| tick.ts < from);
    let ticks = agent.ticks.get(start..).unwrap_or_default();
    for run in ticks.chunk_by(|a, b| Arc::ptr_eq(&a.layout, &b.layout)) {
        let position = run.first().and_then(|tick| tick.layout.position(place));
        let Some(position) = position else { continue };
        for tick in run.iter().take_while(|tick| tick.ts <= to) {
            if let Some(value) = tick.value(position) {
                out.push((tick.ts, value, tick.received));
            }
        }
    }
    out
}

/// Every point of a series from `from` to `to`, oldest first.
///
/// # Errors
///
/// When the file can't be read.
pub fn points_of(
    connection: Option<&Connection>,
    day: &Day,
    wanted: &Wanted,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, f64)>, StorageError> {
    let mut out: Vec<(i64, f64)> = Vec::new();
    if let Some(connection) = connection {
        for stored in chunks::load(connection, day, wanted.id, from, to)? {
            let inside = |&(ts, _): &(i64, f64)| ts >= from && ts <= to;
            out.extend(stored.points(day)?.into_iter().filter(inside));
        }
    }
    out.extend(wanted.head.iter().map(|&(ts, value, _)| (ts, value)));
    if !out.is_sorted_by(|a, b| a.0 < b.0) {
        out.sort_by_key(|&(ts, _)| ts);
        out.dedup_by_key(|&mut (ts, _)| ts);
    }
    Ok(out)
}

/// Runs `body` with a connection to the day's file, or without one when nothing in it is needed.
///
/// # Errors
///
/// What `body` gives.
pub fn with_file<T>(
    day: &Day,
    needed: bool,
    body: impl FnOnce(Option<&Connection>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    if needed { day.read(|connection| body(Some(connection))) } else { body(None) }
}

/// Whether any of the series has chunks at or after `from`. Asked before the heads are copied it
/// could say no too early; the heads are copied first, and a point that is packed after that is
/// in the copy.
pub fn need_file(wanted: &[Wanted], from: i64) -> bool {
    wanted.iter().any(|wanted| wanted.packed_last >= from && wanted.packed_last > i64::MIN)
}
