//! Points of many series, agent by agent, whole chunks at a time: what PromQL reads. Agents are
//! read in batches, each with one transaction a day.

use std::collections::{BTreeMap, HashSet};
use std::iter::Peekable;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::rt::thread::ahead;
use crate::server::storage::day::head::{AgentDay, Entry};
use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::read::chunks::Reader;
use crate::server::storage::read::{copy_head, make_ordered, views_of_some, with_file};
use crate::server::storage::{Selection, Series, StorageError, TakePoints, TakeSeries};

/// Points, as far as the days' counts tell, that are read at a time.
const POINTS_AT_ONCE: usize = 100_000;
/// Threads that read for one selection.
const READERS: usize = 2;
/// Series whose newest points are read at a time.
const NEWEST_AT_ONCE: usize = 10_000;

/// Hands each series with its points, oldest first, to `take`, until that breaks. While `take`
/// has those of one batch, the next are read.
pub(crate) fn select(
    days: &[Arc<Day>],
    selection: &Selection<'_>,
    take: TakePoints<'_>,
) -> Result<(), StorageError> {
    let days = days_of(days, selection);
    if selection.newest_only {
        return newest(&days, selection, take);
    }
    let times = (selection.from_ms, selection.to_ms);
    let mut batches = Batches::new(&days, selection);
    let mut outcome = Ok(());
    ahead(
        "select",
        READERS,
        || batches.next(),
        |batch| read(&days, &batch, times),
        |batch| match batch {
            Ok(batch) => batch.hand_on(take),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    );
    outcome
}

/// What one day has of a series.
struct Part {
    /// The day's place.
    day: usize,
    series: Arc<Series>,
    cell: AgentCell,
    /// Its place among the agent's entries of the day.
    entry: u32,
    /// About how many points of the time it has.
    points: usize,
}

/// Series of a selection, batch by batch.
struct Batches<'s> {
    selection: &'s Selection<'s>,
    agents: std::vec::IntoIter<Vec<(usize, AgentCell)>>,
    /// Parts of an agent's series that wait for the next batch.
    rest: Peekable<std::vec::IntoIter<Part>>,
}

impl<'s> Batches<'s> {
    fn new(days: &[&Arc<Day>], selection: &'s Selection<'s>) -> Self {
        let agents = by_agent(days, selection).into_iter();
        Self { selection, agents, rest: Vec::new().into_iter().peekable() }
    }

    /// Parts of whole series, by agent, series and day; `None` when there are no more.
    fn next(&mut self) -> Option<Vec<Part>> {
        let mut batch: Vec<Part> = Vec::new();
        let mut points = 0;
        loop {
            let Some(part) = self.rest.next() else {
                let Some(cells) = self.agents.next() else { break };
                let mut parts: Vec<Part> =
                    cells.iter().flat_map(|(day, cell)| self.parts(*day, cell)).collect();
                // Stable, so that days stay in their order.
                parts.sort_by_key(|part| part.series.number);
                self.rest = parts.into_iter().peekable();
                continue;
            };
            points += part.points;
            let number = part.series.number;
            batch.push(part);
            let goes_on = self.rest.peek().is_some_and(|next| next.series.number == number);
            if points >= POINTS_AT_ONCE && !goes_on {
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// What a day has of an agent's series.
    fn parts(&self, day: usize, cell: &AgentCell) -> Vec<Part> {
        let Selection { from_ms: from, to_ms: to, series: is_wanted, .. } = *self.selection;
        let agent = cell.lock();
        let entries = (0u32..).zip(&agent.entries);
        let inside = entries.filter(|(_, entry)| {
            let inside = entry.count > 0 && entry.first <= to && entry.last >= from;
            inside && is_wanted(&entry.series)
        });
        let part = |(place, entry): (u32, &Entry)| Part {
            day,
            series: Arc::clone(&entry.series),
            cell: Arc::clone(cell),
            entry: place,
            points: points_inside(entry, from, to),
        };
        inside.map(part).collect()
    }
}

/// Days of the time.
fn days_of<'d>(days: &'d [Arc<Day>], selection: &Selection<'_>) -> Vec<&'d Arc<Day>> {
    let (from, to) = (selection.from_ms, selection.to_ms);
    days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from).collect()
}

/// What each day has of an agent, days by their place; agents in the order of their names.
fn by_agent(days: &[&Arc<Day>], selection: &Selection<'_>) -> Vec<Vec<(usize, AgentCell)>> {
    let mut agents: BTreeMap<Arc<str>, Vec<(usize, AgentCell)>> = BTreeMap::new();
    for (place, day) in days.iter().enumerate() {
        for cell in day.agents() {
            let name = Arc::clone(&cell.lock().name);
            if (selection.agent)(&name) {
                agents.entry(name).or_default().push((place, cell));
            }
        }
    }
    agents.into_values().collect()
}

/// What days have of an agent by series, in the order of the series' numbers.
fn by_series(views: impl Iterator<Item = (usize, Newest)>) -> Vec<Found> {
    let mut views: Vec<(usize, Newest)> = views.collect();
    // Stable, so that days stay in their order.
    views.sort_by_key(|(_, view)| view.series.number);
    let mut out: Vec<Found> = Vec::with_capacity(views.len());
    for (day, view) in views {
        let number = view.series.number;
        match out.last_mut() {
            Some(found) if found.last().is_some_and(|(_, one)| one.series.number == number) => {
                found.push((day, view));
            }
            _ => out.push(vec![(day, view)]),
        }
    }
    out
}

/// About how many points of a day's series lie in a time, if they are spread evenly.
fn points_inside(entry: &Entry, from: i64, to: i64) -> usize {
    let (first, last) = (entry.first.max(from), entry.last.min(to));
    if (first, last) == (entry.first, entry.last) {
        return entry.count as usize;
    }
    let share = last.abs_diff(first) as f64 / entry.last.abs_diff(entry.first).max(1) as f64;
    (f64::from(entry.count) * share) as usize + 1
}

/// Points of some series.
struct Batch {
    series: Vec<Arc<Series>>,
    points: Vec<(i64, f64)>,
    /// Place of a series, and which points are its; those of an older day first.
    parts: Vec<(usize, Range<usize>)>,
}

/// A part as it was when its points in memory were copied.
struct Copied {
    /// Place of its series.
    series: usize,
    /// The series' id in the day file.
    id: u32,
    in_file: bool,
    head: Range<usize>,
}

/// Reads the points of a batch.
fn read(days: &[&Arc<Day>], batch: &[Part], (from, to): (i64, i64)) -> Result<Batch, StorageError> {
    let series = batch.chunk_by(|a, b| a.series.number == b.series.number);
    let mut out = Batch {
        series: series
            .clone()
            .filter_map(|parts| Some(Arc::clone(&parts.first()?.series)))
            .collect(),
        points: Vec::with_capacity(batch.iter().map(|part| part.points).sum()),
        parts: Vec::with_capacity(batch.len()),
    };
    let mut heads: Vec<(i64, f64)> = Vec::new();
    for (day_place, day) in days.iter().enumerate() {
        heads.clear();
        let mut copied: Vec<Copied> = Vec::new();
        for (series, parts) in series.clone().enumerate() {
            let Some(part) = parts.iter().find(|part| part.day == day_place) else { continue };
            let agent = part.cell.lock();
            // Entries go with an agent that is deleted.
            let Some(entry) = agent.entries.get(part.entry as usize) else { continue };
            let (id, in_file) = (entry.id, entry.packed_last >= from);
            let start = heads.len();
            copy_head(&agent, part.entry, (from, to), |record, value| {
                heads.push((record.ts, value));
            });
            copied.push(Copied { series, id, in_file, head: start..heads.len() });
        }
        let needed = copied.iter().any(|part| part.in_file);
        with_file(day, needed, |connection| {
            let mut reader = connection.map(|file| Reader::new(file, day)).transpose()?;
            for Copied { series, id, in_file, head } in copied {
                let start = out.points.len();
                if let Some(reader) = reader.as_mut().filter(|_| in_file) {
                    reader.append(id, (from, to), &mut out.points)?;
                }
                out.points.extend_from_slice(heads.get(head).unwrap_or_default());
                make_ordered(&mut out.points, start);
                out.parts.push((series, start..out.points.len()));
            }
            Ok(())
        })?;
    }
    // Stable, so that days stay in their order.
    out.parts.sort_by_key(|(series, _)| *series);
    Ok(out)
}

impl Batch {
    /// Hands each series that has points to `take`, until that breaks.
    fn hand_on(&self, take: TakePoints<'_>) -> ControlFlow<()> {
        let mut joined: Vec<(i64, f64)> = Vec::new();
        for parts in self.parts.chunk_by(|a, b| a.0 == b.0) {
            let of = |(_, range): &(usize, Range<usize>)| self.points.get(range.clone());
            let points = match parts {
                [part] => of(part).unwrap_or_default(),
                _ => {
                    joined.clear();
                    parts.iter().filter_map(of).for_each(|part| joined.extend_from_slice(part));
                    &joined
                }
            };
            let series = parts.first().and_then(|(place, _)| self.series.get(*place));
            if let Some(series) = series.filter(|_| !points.is_empty()) {
                take(series, points)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// A series with what each day has of it, oldest day first; days by their place.
type Found = Vec<(usize, Newest)>;

/// What a day tells of the newest point of a series up to a time.
struct Newest {
    series: Arc<Series>,
    /// The series' id in the day file.
    id: u32,
    /// The newest point in memory.
    point: Option<(i64, f64)>,
    /// Whether the file may have a newer one.
    in_file: bool,
}

/// Hands each series with its newest point to `take`, until that breaks.
fn newest(
    days: &[&Arc<Day>],
    selection: &Selection<'_>,
    take: TakePoints<'_>,
) -> Result<(), StorageError> {
    let (from, to) = (selection.from_ms, selection.to_ms);
    let mut batch: Vec<Found> = Vec::new();
    for cells in by_agent(days, selection) {
        let views = |(day, cell): &(usize, AgentCell)| {
            let day = *day;
            newest_of(cell, selection).into_iter().map(move |view| (day, view))
        };
        batch.append(&mut by_series(cells.iter().flat_map(views)));
        if batch.len() >= NEWEST_AT_ONCE {
            if read_newest(days, &batch, (from, to), take)?.is_break() {
                return Ok(());
            }
            batch.clear();
        }
    }
    let _ = read_newest(days, &batch, (from, to), take)?;
    Ok(())
}

/// What a day has in memory of the newest points of an agent's series.
fn newest_of(cell: &AgentCell, selection: &Selection<'_>) -> Vec<Newest> {
    let (from, to) = (selection.from_ms, selection.to_ms);
    let agent = cell.lock();
    let mut out = Vec::new();
    for (place, entry) in (0u32..).zip(&agent.entries) {
        let inside = entry.count > 0 && entry.first <= to && entry.last >= from;
        if !inside || !(selection.series)(&entry.series) {
            continue;
        }
        let point = if is_exact(entry) && entry.last <= to {
            Some((entry.last, entry.last_value))
        } else {
            newest_in_head(&agent, place, from, to)
        };
        let packed = entry.packed_last;
        let in_file = packed >= from && point.is_none_or(|(ts, _)| ts < packed.min(to));
        let series = Arc::clone(&entry.series);
        out.push(Newest { series, id: entry.id, point, in_file });
    }
    out
}

/// Whether the newest value in memory is the stored one to the bit: a zero that was read from a
/// chunk may have lost its sign.
fn is_exact(entry: &Entry) -> bool {
    entry.last_value != 0.0 || entry.packed_last < entry.last
}

fn newest_in_head(agent: &AgentDay, place: u32, from: i64, to: i64) -> Option<(i64, f64)> {
    let end = agent.records.partition_point(|record| record.ts <= to);
    let records = agent.records.get(..end).unwrap_or_default().iter().rev();
    records.take_while(|record| record.ts >= from).find_map(|record| {
        let position = record.series_list.position(place)?;
        Some((record.ts, record.value(&agent.values, position)?))
    })
}

/// Reads the newest points of a batch where the files have newer ones, and hands them on.
fn read_newest(
    days: &[&Arc<Day>],
    batch: &[Found],
    (from, to): (i64, i64),
    take: TakePoints<'_>,
) -> Result<ControlFlow<()>, StorageError> {
    let mut points: Vec<Option<(i64, f64)>> = vec![None; batch.len()];
    // Newest day first: what an older day has of a series that was found is older.
    for (place, day) in days.iter().enumerate().rev() {
        let missing: Vec<(usize, &Newest)> = batch
            .iter()
            .enumerate()
            .filter(|(index, _)| points[*index].is_none())
            .filter_map(|(index, found)| {
                let (_, view) = found.iter().find(|(other, _)| *other == place)?;
                Some((index, view))
            })
            .collect();
        let needed = missing.iter().any(|(_, view)| view.in_file);
        with_file(day, needed, |connection| {
            let mut reader = connection.map(|file| Reader::new(file, day)).transpose()?;
            for (index, view) in missing {
                points[index] = view.point;
                let Some(reader) = reader.as_mut().filter(|_| view.in_file) else { continue };
                let after = view.point.map_or(from, |(ts, _)| ts + 1);
                if let Some(newer) = reader.newest(view.id, (after, to))? {
                    points[index] = Some(newer);
                }
            }
            Ok(())
        })?;
    }
    for (found, point) in batch.iter().zip(points) {
        let (Some((_, view)), Some(point)) = (found.first(), point) else { continue };
        if take(&view.series, &[point]).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Hands each series that has points in the time, as far as the bounds of its days tell, to
/// `take`, once and without its points, until that breaks.
pub(crate) fn series(days: &[Arc<Day>], selection: &Selection<'_>, take: TakeSeries<'_>) {
    let (from, to) = (selection.from_ms, selection.to_ms);
    for cells in by_agent(&days_of(days, selection), selection) {
        let mut seen: HashSet<u32> = HashSet::new();
        for (_, cell) in cells {
            for view in views_of_some(&cell, selection.series, from, to, &|_, _| false) {
                if seen.insert(view.series.number) && take(&view.series).is_break() {
                    return;
                }
            }
        }
    }
}
