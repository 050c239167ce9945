//! Samples as servers hand them to each other: values as text, which keeps each bit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::base::clock::DAY_MS;
use crate::model::series::{Labels, SeriesKey};
use crate::server::storage::{
    LatestRow, Page, PointFilter, PointRow, Selection, Series, StorageError, Store,
};

/// Samples by series, oldest first.
pub(crate) type BySeries = BTreeMap<SeriesKey, Vec<(i64, f64)>>;

/// Takes a series with its samples.
type Take<'a> = &'a mut dyn FnMut(&SeriesKey, &[(i64, f64)]);

/// A series with its samples.
type Read = (SeriesKey, Vec<(i64, f64)>);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted<'a> {
    /// Exactly this agent.
    pub agent: Option<&'a str>,
    /// Exactly this metric.
    pub metric: Option<&'a str>,
    /// Unix milliseconds, both inclusive.
    pub times: (i64, i64),
    /// Of each series the newest sample alone.
    pub newest_only: bool,
}

/// One series with its samples.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    agent: String,
    metric: String,
    labels: Labels,
    /// Unix milliseconds and value.
    points: Vec<(i64, String)>,
}

impl Part {
    fn of(key: &SeriesKey, points: &[(i64, f64)]) -> Self {
        let text = |&(ms, value): &(i64, f64)| (ms, value.to_string());
        Self {
            agent: key.agent.to_string(),
            metric: key.metric.to_string(),
            labels: key.labels.clone(),
            points: points.iter().map(text).collect(),
        }
    }

    /// The series; `None` when a value is not a number.
    fn read(self) -> Option<Read> {
        let key =
            SeriesKey { agent: self.agent.into(), metric: self.metric.into(), labels: self.labels };
        let number = |(ms, text): (i64, String)| Some((ms, text.parse().ok()?));
        Some((key, self.points.into_iter().map(number).collect::<Option<_>>()?))
    }
}

/// What a store has of what is asked for.
///
/// # Errors
///
/// When it can't be read.
pub(crate) fn points(store: &dyn Store, wanted: &Wanted<'_>) -> Result<Vec<Part>, StorageError> {
    let mut out = Vec::new();
    select(store, wanted, &mut |key, points| out.push(Part::of(key, points)))?;
    Ok(out)
}

/// Hands what a store has of what is asked for to `take`.
///
/// # Errors
///
/// When it can't be read.
pub(super) fn select(
    store: &dyn Store,
    wanted: &Wanted<'_>,
    take: Take<'_>,
) -> Result<(), StorageError> {
    let is_agent = |name: &str| wanted.agent.is_none_or(|agent| agent == name);
    let is_series =
        |series: &Series| wanted.metric.is_none_or(|metric| *metric == *series.key.metric);
    let selection = Selection {
        agent: &is_agent,
        series: &is_series,
        newest_only: wanted.newest_only,
        ..Selection::all(wanted.times.0, wanted.times.1)
    };
    store.select(&selection, &mut |series, points| {
        take(&series.key, points);
        ControlFlow::Continue(())
    })
}

/// The newest value of each series of an agent, or of all, that a store has.
///
/// # Errors
///
/// When it can't be read.
pub(crate) fn latest(store: &dyn Store, agent: Option<&str>) -> Result<Vec<Part>, StorageError> {
    let rows = match agent {
        Some(agent) => store.latest(agent)?,
        None => store.latest_all()?,
    };
    Ok(rows.iter().map(|row| Part::of(&row.key, &[(row.timestamp_ms, row.value)])).collect())
}

/// How many points there are, and some of them.
pub(crate) type Rows = (u64, Vec<Part>);

/// The newest points that a store has: how many there are, and a page of them.
///
/// # Errors
///
/// When it can't be read.
pub(crate) fn list(
    store: &dyn Store,
    filter: &PointFilter,
    page: Page,
) -> Result<Rows, StorageError> {
    let found = store.list(filter, page)?;
    let part = |row: &PointRow| Part::of(&row.key, &[(row.timestamp_ms, row.value)]);
    Ok((found.total, found.items.iter().map(part).collect()))
}

/// Newest values that another server has.
pub(super) fn latest_rows(parts: Vec<Part>) -> Vec<LatestRow> {
    let rows = parts.into_iter().filter_map(Part::read).filter_map(|(key, points)| {
        let (timestamp_ms, value) = points.last().copied()?;
        Some(LatestRow { key, timestamp_ms, value })
    });
    rows.collect()
}

/// Adds what another server has; gives false when it is not what was asked for.
pub(super) fn add(parts: Vec<Part>, out: &mut BySeries) -> bool {
    parts.into_iter().all(|part| match part.read() {
        Some((key, points)) => {
            out.entry(key).or_default().extend(points);
            true
        }
        None => false,
    })
}

/// Puts samples into order, and each time once: what came first stays.
pub(super) fn settle(out: &mut BySeries) {
    for points in out.values_mut() {
        points.sort_by_key(|(ms, _)| *ms);
        points.dedup_by_key(|(ms, _)| *ms);
    }
}

/// A query for what is asked for.
pub(super) fn query(wanted: &Wanted<'_>) -> String {
    let text = |name: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("&{name}={}", escaped(value)))
    };
    let (from, to) = wanted.times;
    // The other's clock may be ahead.
    let to = to.min(i64::MAX - DAY_MS);
    format!(
        "?from_ms={}&to_ms={to}&newest={}{}{}",
        from.max(0),
        wanted.newest_only,
        text("agent", wanted.agent),
        text("metric", wanted.metric)
    )
}

/// A text as a part of a query.
pub(super) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn samples_come_as_they_are_and_each_time_once() {
        let key = SeriesKey {
            agent: "a".into(),
            metric: "disk.used".into(),
            labels: Labels::one("mount", "/"),
        };
        let points = [(5, 0.1 + 0.2), (6, f64::MIN_POSITIVE), (7, -1e300)];
        let text = serde_json::to_string(&[Part::of(&key, &points)]).unwrap();
        let mut out = BySeries::from([(key.clone(), vec![(7, 3.0), (4, 1.0)])]);
        assert!(add(serde_json::from_str(&text).unwrap(), &mut out));
        settle(&mut out);
        assert_eq!(out[&key], [(4, 1.0), points[0], points[1], (7, 3.0)]);
        let odd = text.replace("-1", "x");
        assert!(!add(serde_json::from_str(&odd).unwrap(), &mut out));
    }

    #[test]
    fn a_query_keeps_odd_names() {
        let wanted = Wanted { agent: Some("a&b=c"), times: (-5, 9), ..Wanted::default() };
        assert_eq!(query(&wanted), "?from_ms=0&to_ms=9&newest=false&agent=a%26b%3Dc");
    }
}
