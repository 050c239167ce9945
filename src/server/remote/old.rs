//! Samples of days that are no longer here: read from the engine, and joined with what arrived here
//! late. Each sample comes once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::{DAY_MS, rfc3339};
use crate::model::series::SeriesKey;
use crate::server::remote::Inner;
use crate::server::remote::fetch::{self, Fetched, secs};
use crate::server::remote::gaps::Times;
use crate::server::remote::target::Target;
use crate::server::storage::{Selection, Series, StorageError};

/// Samples by series, oldest first.
pub(crate) type BySeries = BTreeMap<SeriesKey, Vec<(i64, f64)>>;

impl Inner {
    /// The part of a time whose days are no longer here; `None` when there is none.
    pub(super) fn old_part(&self, (from_ms, to_ms): Times) -> Option<Times> {
        let hot_from_ms = self.hot_from_ms();
        let (from_ms, to_ms) = self.kept((from_ms, to_ms));
        (from_ms < hot_from_ms && from_ms <= to_ms).then(|| (from_ms, to_ms.min(hot_from_ms - 1)))
    }

    /// The part of a time that the API answers for: as far back as it did when all days were here.
    pub(super) fn kept(&self, (from_ms, to_ms): Times) -> Times {
        let first = self.clock.now_ms().div_euclid(DAY_MS) - self.retention_days;
        (from_ms.max(first.saturating_mul(DAY_MS)), to_ms)
    }

    /// Reads from every target: of an engine one address is enough, of a ring as many nodes as no
    /// agent is missing.
    fn ask_targets(
        &self,
        first_ms: i64,
        read: &dyn Fn(&str) -> Result<Vec<Fetched>, String>,
    ) -> Result<Vec<Vec<Fetched>>, StorageError> {
        let mut answers = Vec::new();
        let mut away: Vec<String> = Vec::new();
        for target in &self.targets {
            match ask_target(target, read) {
                Ok(rows) => answers.push(rows),
                Err(why) => away.push(why),
            }
        }
        if answers.is_empty() || away.len() >= self.replicas.min(self.targets.len()) {
            let why = away.join("; ");
            return Err(StorageError::Behind(format!(
                "samples since {} are at the engine of [remote], which does not answer: {why}",
                rfc3339(first_ms)
            )));
        }
        Ok(answers)
    }

    /// Samples of the series of an agent and of a metric, or of all, within old days.
    ///
    /// # Errors
    ///
    /// [`StorageError::Behind`], which names the address, when the engine does not answer.
    pub(super) fn old_points(
        &self,
        agent: Option<&str>,
        metric: Option<&str>,
        times: Times,
    ) -> Result<BySeries, StorageError> {
        let selector = self.naming.selector(agent, metric);
        let mut out = self.late_points(agent, metric, times)?;
        for part in by_day(times) {
            let read = |base: &str| fetch::raw(&self.http, base, &selector, part);
            for (labels, points) in self.ask_targets(part.0, &read)?.into_iter().flatten() {
                if let Some(key) = self.naming.inside(labels) {
                    out.entry(key).or_default().extend(points);
                }
            }
        }
        for points in out.values_mut() {
            // The sort is stable, and what is here comes first: it was stored first.
            points.sort_by_key(|(ms, _)| *ms);
            points.dedup_by_key(|(ms, _)| *ms);
        }
        Ok(out)
    }

    /// What is here of old days: samples that came late.
    fn late_points(
        &self,
        agent: Option<&str>,
        metric: Option<&str>,
        (from_ms, to_ms): Times,
    ) -> Result<BySeries, StorageError> {
        let is_agent = |name: &str| agent.is_none_or(|agent| agent == name);
        let is_metric = |series: &Series| metric.is_none_or(|metric| *metric == *series.key.metric);
        let (agent, series) = (&is_agent, &is_metric);
        let selection = Selection { agent, series, ..Selection::all(from_ms, to_ms) };
        let mut out = BySeries::new();
        self.store.select(&selection, &mut |series, points| {
            out.insert(series.key.clone(), points.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// How many samples each series of a metric has within old days.
    ///
    /// # Errors
    ///
    /// As [`Self::old_points`].
    pub(super) fn old_counts(
        &self,
        agent: Option<&str>,
        metric: &str,
        times: Times,
    ) -> Result<BTreeMap<SeriesKey, u64>, StorageError> {
        let selector = self.naming.selector(agent, Some(metric));
        let mut out: BTreeMap<SeriesKey, u64> = BTreeMap::new();
        for (from_ms, to_ms) in by_day(times) {
            let query = format!("count_over_time({selector}[{}ms])", to_ms - from_ms + 1);
            let time = secs(to_ms);
            let read = |base: &str| {
                let parameters =
                    [("query", query.as_str()), ("time", time.as_str()), ("nocache", "1")];
                fetch::series(&self.http.query(base, "/api/v1/query", &parameters)?)
            };
            let mut of_day: BTreeMap<SeriesKey, u64> = BTreeMap::new();
            for (labels, points) in self.ask_targets(from_ms, &read)?.into_iter().flatten() {
                let count = points.first().map_or(0, |(_, count)| *count as u64);
                if let Some(key) = self.naming.inside(labels) {
                    let known = of_day.entry(key).or_default();
                    *known = count.max(*known);
                }
            }
            for (key, count) in of_day {
                *out.entry(key).or_default() += count;
            }
        }
        Ok(out)
    }

    /// The series that have samples within old days.
    ///
    /// # Errors
    ///
    /// As [`Self::old_points`].
    pub(super) fn old_series(
        &self,
        agent: Option<&str>,
        metric: Option<&str>,
        times: Times,
    ) -> Result<BTreeSet<SeriesKey>, StorageError> {
        let selector = self.naming.selector(agent, metric);
        let mut out = BTreeSet::new();
        for part in by_day(times) {
            let (start, end) = (secs(part.0), secs(part.1));
            let read = |base: &str| {
                let parameters = [
                    ("match[]", selector.as_str()),
                    ("start", start.as_str()),
                    ("end", end.as_str()),
                ];
                let data = self.http.query(base, "/api/v1/series", &parameters)?;
                fetch::labels(&data)
            };
            for (labels, _) in self.ask_targets(part.0, &read)?.into_iter().flatten() {
                out.extend(self.naming.inside(labels));
            }
        }
        out.extend(self.late_points(agent, metric, times)?.into_keys());
        Ok(out)
    }

    /// A series as the process knows it.
    pub(super) fn known(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        self.store.resolve(key)
    }
}

/// How long the list of metrics of old days is good for.
const METRICS_FOR: Duration = Duration::from_secs(300);

/// A series of each metric that only old days have, and when it was read.
pub(super) type OldMetrics = Option<(Instant, Vec<Arc<Series>>)>;

impl Inner {
    /// A series of each metric that old days have and `known` does not name, and why some may be
    /// missing. Held, so that the metrics keep their numbers.
    pub(super) fn old_metrics(
        &self,
        old: Times,
        known: &BTreeSet<Arc<str>>,
    ) -> (Vec<Arc<Series>>, Option<StorageError>) {
        let mut kept = self.old_metrics.lock().clone();
        let mut failed = None;
        if kept.as_ref().is_none_or(|(at, _)| at.elapsed() > METRICS_FOR) {
            match self.old_series(None, None, old) {
                Ok(series) => {
                    let mut firsts: BTreeMap<Arc<str>, SeriesKey> = BTreeMap::new();
                    for key in series {
                        firsts.entry(Arc::clone(&key.metric)).or_insert(key);
                    }
                    let found = firsts.into_values().filter_map(|key| self.known(key).ok());
                    kept = Some((Instant::now(), found.collect()));
                    *self.old_metrics.lock() = kept.clone();
                }
                Err(error) => failed = Some(error),
            }
        }
        let all = kept.map(|(_, series)| series).unwrap_or_default();
        let more = all.into_iter().filter(|series| !known.contains(&series.key.metric));
        (more.collect(), failed)
    }
}

/// What the first address of a target that answers gives.
pub(super) fn ask_target(
    target: &Target,
    read: &dyn Fn(&str) -> Result<Vec<Fetched>, String>,
) -> Result<Vec<Fetched>, String> {
    let mut failed = Vec::new();
    for base in &target.read_urls {
        match read(base) {
            Ok(rows) => return Ok(rows),
            Err(why) => failed.push(format!("{base}: {why}")),
        }
    }
    Err(failed.join("; "))
}

/// A time in parts of a day, oldest first: an answer is held in memory.
fn by_day((from_ms, to_ms): Times) -> impl Iterator<Item = Times> {
    let mut next = Some(from_ms);
    std::iter::from_fn(move || {
        let from = next.filter(|from| *from <= to_ms)?;
        let end = ((from.div_euclid(DAY_MS) + 1) * DAY_MS - 1).min(to_ms);
        next = end.checked_add(1);
        Some((from, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_at_days() {
        let parts: Vec<Times> = by_day((DAY_MS - 1, 2 * DAY_MS)).collect();
        let wanted = [(DAY_MS - 1, DAY_MS - 1), (DAY_MS, 2 * DAY_MS - 1), (2 * DAY_MS, 2 * DAY_MS)];
        assert_eq!(parts, wanted);
        assert_eq!(by_day((5, 4)).count(), 0);
    }
}
