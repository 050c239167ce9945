//! Every point of many series, agent by agent, whole chunks at a time: what PromQL reads.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::read::{
    SeriesView, needs_file, points_of, views_of, views_of_some, with_file,
};
use crate::server::storage::{Selection, Series, StorageError, TakePoints, TakeSeries};

/// Points, as far as the days' counts tell, that are in memory at a time.
const POINTS_AT_ONCE: u64 = 500_000;

/// A series with what each day has of it.
type Found = (Arc<Series>, Vec<(usize, SeriesView)>);

/// Hands each series with its points, oldest first, to `take`, until that breaks.
pub(crate) fn select(
    days: &[Arc<Day>],
    selection: &Selection<'_>,
    take: TakePoints<'_>,
) -> Result<(), StorageError> {
    let (from, to) = (selection.from_ms, selection.to_ms);
    for (days, cells) in by_agent(days, selection) {
        let mut found: BTreeMap<u32, Found> = BTreeMap::new();
        for (place, cell) in cells.iter().enumerate() {
            for view in views_of(cell, selection.series, from, to) {
                let entry = found.entry(view.series.number);
                let (_, parts) = entry.or_insert_with(|| (Arc::clone(&view.series), Vec::new()));
                parts.push((place, view));
            }
        }
        let mut part: Vec<Found> = Vec::new();
        let mut points = 0;
        let mut rest = found.into_values().peekable();
        while let Some(one) = rest.next() {
            points += one.1.iter().map(|(_, view)| view.count).sum::<u64>();
            part.push(one);
            if points < POINTS_AT_ONCE && rest.peek().is_some() {
                continue;
            }
            if hand_on(&days, &part, (from, to), take)?.is_break() {
                return Ok(());
            }
            (points, part) = (0, Vec::new());
        }
    }
    Ok(())
}

/// Days of an agent, and its part of each.
type OfAgent<'d> = (Vec<&'d Arc<Day>>, Vec<AgentCell>);

/// Days with the agents' part of each, agent by agent, in the order of the agents' names.
fn by_agent<'d>(days: &'d [Arc<Day>], selection: &Selection<'_>) -> Vec<OfAgent<'d>> {
    let (from, to) = (selection.from_ms, selection.to_ms);
    let mut agents: BTreeMap<Arc<str>, OfAgent<'d>> = BTreeMap::new();
    for day in days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from) {
        for cell in day.agents() {
            let name = Arc::clone(&cell.lock().name);
            if (selection.agent)(&name) {
                let (days, cells) = agents.entry(name).or_default();
                days.push(day);
                cells.push(cell);
            }
        }
    }
    agents.into_values().collect()
}

fn hand_on(
    days: &[&Arc<Day>],
    part: &[Found],
    (from, to): (i64, i64),
    take: TakePoints<'_>,
) -> Result<ControlFlow<()>, StorageError> {
    let mut all: Vec<Vec<(i64, f64)>> = vec![Vec::new(); part.len()];
    for (place, day) in days.iter().enumerate() {
        let of_day = |(_, parts): &'_ Found| parts.iter().position(|(other, _)| *other == place);
        let needed = part.iter().any(|found| {
            let view = of_day(found).map(|at| &found.1[at].1);
            view.is_some_and(|view| needs_file(std::slice::from_ref(view), from))
        });
        with_file(day, needed, |connection| {
            for (found, out) in part.iter().zip(&mut all) {
                let Some(at) = of_day(found) else { continue };
                let mut points = points_of(connection, day, &found.1[at].1, from, to)?;
                if out.is_empty() {
                    *out = points;
                } else {
                    out.append(&mut points);
                }
            }
            Ok(())
        })?;
    }
    for ((series, _), points) in part.iter().zip(&all) {
        if !points.is_empty() && take(series, points).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Hands each series that has points in the time, as far as the bounds of its days tell, to
/// `take`, once and without its points, until that breaks.
pub(crate) fn series(days: &[Arc<Day>], selection: &Selection<'_>, take: TakeSeries<'_>) {
    let (from, to) = (selection.from_ms, selection.to_ms);
    for (_, cells) in by_agent(days, selection) {
        let mut seen: HashSet<u32> = HashSet::new();
        for cell in cells {
            for view in views_of_some(&cell, selection.series, from, to, &|_, _| false) {
                if seen.insert(view.series.number) && take(&view.series).is_break() {
                    return;
                }
            }
        }
    }
}

/// Every metric of any day, with its number, which is below `numbers`.
pub(crate) fn metrics(days: &[Arc<Day>], numbers: usize) -> Vec<(Arc<str>, u32)> {
    let mut names: Vec<Option<Arc<str>>> = vec![None; numbers];
    for day in days {
        for cell in day.agents() {
            for entry in &cell.lock().entries {
                if let Some(name @ None) = names.get_mut(entry.metric_number as usize) {
                    *name = Some(Arc::clone(&entry.series.key.metric));
                }
            }
        }
    }
    (0u32..).zip(names).filter_map(|(number, name)| Some((name?, number))).collect()
}
