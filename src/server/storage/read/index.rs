//! Who and what there is: metrics' names, agents, newest values, all from memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::server::storage::day::head::Entry;
use crate::server::storage::day::{AgentCell, Day};
use crate::server::storage::read::chunks::Reader;
use crate::server::storage::read::{needs_file, points_of, views_of, with_file};
use crate::server::storage::{AgentSeen, LatestRow, Listing, Page, Series, StorageError};

/// Whether an entry has a point in a time, when that can be said without looking.
fn has_point(entry: &Entry, from: i64, to: i64) -> Option<bool> {
    if entry.count == 0 || entry.first > to || entry.last < from {
        return Some(false);
    }
    // The first or the newest point lies in it; otherwise it is a hole or there are points.
    (entry.first >= from || entry.last <= to).then_some(true)
}

/// Whether a series has a point in a time, by looking at its points.
fn look(
    day: &Day,
    cell: &AgentCell,
    series: &Arc<Series>,
    from: i64,
    to: i64,
) -> Result<bool, StorageError> {
    let found = views_of(cell, &|other| other.number == series.number, from, to);
    if found.iter().any(|view| !view.head.is_empty()) {
        return Ok(true);
    }
    with_file(day, needs_file(&found, from), |connection| {
        let mut reader = connection.map(|file| Reader::new(file, day)).transpose()?;
        let mut points = Vec::new();
        for view in &found {
            points_of(reader.as_mut(), view, (from, to), &mut points)?;
        }
        Ok(!points.is_empty())
    })
}

/// Names of metrics with a point in the time.
pub(crate) fn metrics(
    days: &[Arc<Day>],
    numbers: usize,
    (from, to): (i64, i64),
) -> Result<BTreeSet<String>, StorageError> {
    let mut seen = vec![false; numbers];
    let mut names = BTreeSet::new();
    let mut unsure: Vec<(Arc<Day>, AgentCell, Arc<Series>)> = Vec::new();
    for day in days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from) {
        for cell in day.agents() {
            let agent = cell.lock();
            for entry in &agent.entries {
                let number = entry.metric_number as usize;
                if seen.get(number).copied().unwrap_or(false) {
                    continue;
                }
                match has_point(entry, from, to) {
                    Some(true) => {
                        names.insert(entry.series.key.metric.to_string());
                        if let Some(seen) = seen.get_mut(number) {
                            *seen = true;
                        }
                    }
                    Some(false) => {}
                    None => {
                        unsure.push((Arc::clone(day), Arc::clone(&cell), Arc::clone(&entry.series)))
                    }
                }
            }
        }
    }
    for (day, cell, series) in unsure {
        if !names.contains(&*series.key.metric) && look(&day, &cell, &series, from, to)? {
            names.insert(series.key.metric.to_string());
        }
    }
    Ok(names)
}

/// Agents with a point in the time.
pub(crate) fn agents(
    days: &[Arc<Day>],
    (from, to): (i64, i64),
) -> Result<BTreeSet<String>, StorageError> {
    let mut names = BTreeSet::new();
    for day in days.iter().filter(|day| day.start_ms() <= to && day.end_ms() >= from) {
        for cell in day.agents() {
            let (name, sure, unsure) = {
                let agent = cell.lock();
                if names.contains(&*agent.name) {
                    continue;
                }
                let sure =
                    agent.entries.iter().any(|entry| has_point(entry, from, to) == Some(true));
                let unsure: Vec<Arc<Series>> = agent
                    .entries
                    .iter()
                    .filter(|entry| !sure && has_point(entry, from, to).is_none())
                    .map(|entry| Arc::clone(&entry.series))
                    .collect();
                (agent.name.to_string(), sure, unsure)
            };
            let mut found = sure;
            for series in unsure {
                found = found || look(day, &cell, &series, from, to)?;
            }
            if found {
                names.insert(name);
            }
        }
    }
    Ok(names)
}

/// A page of a sorted set.
pub(crate) fn page(names: BTreeSet<String>, page: Page) -> Listing<String> {
    Listing::slice(names.into_iter(), page)
}

/// Every agent with a point, by when the last one arrived, newest first; equals by name. Removed
/// agents are left out.
pub(crate) fn agents_seen(days: &[Arc<Day>]) -> Vec<AgentSeen> {
    let mut newest: HashMap<Arc<str>, (i64, i64)> = HashMap::new();
    for day in days {
        for cell in day.agents() {
            let agent = cell.lock();
            if agent.max_ts > i64::MIN && !agent.hidden {
                let seen = newest.entry(Arc::clone(&agent.name)).or_insert((i64::MIN, i64::MIN));
                *seen = (agent.arrived_ms.max(seen.0), agent.max_ts.max(seen.1));
            }
        }
    }
    let seen = |(agent, (last_seen_ms, newest_ms)): (Arc<str>, (i64, i64))| AgentSeen {
        agent_id: agent.to_string(),
        last_seen_ms,
        newest_ms,
    };
    let mut out: Vec<AgentSeen> = newest.into_iter().map(seen).collect();
    out.sort_by(|a, b| {
        b.last_seen_ms.cmp(&a.last_seen_ms).then_with(|| a.agent_id.cmp(&b.agent_id))
    });
    out
}

/// The newest value of every series of `agent`, or of all agents, by key: of `most` series at the
/// most, and how many more there are. Removed agents are left out.
pub(crate) fn latest(
    days: &[Arc<Day>],
    agent: Option<&str>,
    most: usize,
) -> (Vec<LatestRow>, usize) {
    let mut newest: HashMap<u32, (Arc<Series>, i64, f64)> = HashMap::new();
    let mut left_out: HashSet<u32> = HashSet::new();
    // Newest day first: what an older day has of a series that was found is older.
    for day in days.iter().rev() {
        for cell in super::agent_cells(day, agent) {
            let agent = cell.lock();
            let entries = if agent.hidden { &[] } else { agent.entries.as_slice() };
            for entry in entries.iter().filter(|entry| entry.count > 0) {
                let number = entry.series.number;
                if newest.contains_key(&number) {
                    continue;
                }
                if newest.len() >= most {
                    left_out.insert(number);
                    continue;
                }
                newest.insert(number, (Arc::clone(&entry.series), entry.last, entry.last_value));
            }
        }
    }
    let row = |(series, timestamp_ms, value): (Arc<Series>, i64, f64)| LatestRow {
        key: series.key.clone(),
        timestamp_ms,
        value,
    };
    let mut rows: Vec<LatestRow> = newest.into_values().map(row).collect();
    rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    (rows, left_out.len())
}
