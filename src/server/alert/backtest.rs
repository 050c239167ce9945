//! What a rule would have done: stored history, evaluated by the same code as live points, with the
//! points' own times for a clock. Nothing is stored and nobody is notified.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::SECOND_MS;
use crate::base::limits::{BACKTEST_ALERTS_MAX, BACKTEST_POINTS_MAX, BACKTEST_SECS_MAX};
use crate::model::alert::AlertEvent;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::evaluate::{Condition, Sample};
use crate::server::alert::manage::AlertError;
use crate::server::alert::query::{Queries, interval_ms};
use crate::server::alert::rule::Rule;
use crate::server::alert::state::Phase;
use crate::server::alert::tracked::{Tracked, Transition, TransitionKind};
use crate::server::alert::window::Window;
use crate::server::promql::eval::Steps;
use crate::server::promql::value::{ABSENT, is_absent};
use crate::server::storage::{Page, StorageError, Store};

/// Alerts that are kept before the oldest of them are chosen.
const KEPT_MAX: usize = 10 * BACKTEST_ALERTS_MAX;

/// An alert that would have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Would {
    /// As it would have fired.
    pub event: AlertEvent,
    /// When it would have been over, Unix milliseconds; `None` when it lasts to the end.
    pub resolved_ms: Option<i64>,
    /// Whether it would have been notified, rather than held back by `silence_secs`.
    pub notified: bool,
}

/// What a backtest found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Alerts, oldest first, of which the list may be cut.
    pub alerts: Vec<Would>,
    /// All alerts.
    pub total: u64,
    /// Series that were evaluated; agents, for silence.
    pub series: u64,
    /// Points that were evaluated.
    pub points: u64,
    started: Instant,
    within: Duration,
}

impl Default for Found {
    fn default() -> Self {
        let (started, within) = (Instant::now(), Duration::MAX);
        Self { alerts: Vec::new(), total: 0, series: 0, points: 0, started, within }
    }
}

impl Found {
    /// Whether it may go on.
    ///
    /// # Errors
    ///
    /// When there are too many points, or it takes too long.
    fn check(&self) -> Result<(), AlertError> {
        if self.points > BACKTEST_POINTS_MAX {
            return Err(AlertError::TooMuch(format!(
                "the time and the pattern hold more than {BACKTEST_POINTS_MAX} points: take a \
                 shorter time or fewer agents"
            )));
        }
        if self.started.elapsed() > self.within {
            let secs = self.within.as_secs();
            return Err(AlertError::TooMuch(format!(
                "the backtest takes more than {secs} s: take a shorter time or fewer agents"
            )));
        }
        Ok(())
    }

    /// As [`Self::check`], for a scan.
    fn flow(&self) -> ControlFlow<()> {
        if self.check().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn begin(&mut self, event: AlertEvent, notified: bool) {
        self.total += 1;
        if self.alerts.len() < KEPT_MAX {
            self.alerts.push(Would { event, resolved_ms: None, notified });
        }
    }

    fn take(&mut self, from_ms: i64, transition: Transition) {
        let notified = transition.is_notified();
        match transition.kind {
            TransitionKind::Fired | TransitionKind::Escalated => {
                for event in transition.events {
                    self.take_event(from_ms, event, notified);
                }
            }
            TransitionKind::Resolved => {
                if let Some(event) = transition.events.into_iter().next() {
                    self.end(&event);
                }
            }
            TransitionKind::Notified => {
                let event = transition.notification.map(|(event, _)| event);
                let open = event.and_then(|event| self.open(&event.id));
                if let Some(would) = open {
                    would.notified = true;
                }
            }
            TransitionKind::Kept
            | TransitionKind::Ended
            | TransitionKind::Late
            | TransitionKind::Acknowledged
            | TransitionKind::TakenOver
            | TransitionKind::HandedOver => {}
        }
    }

    fn take_event(&mut self, from_ms: i64, event: AlertEvent, notified: bool) {
        if event.resolved_at_ms.is_some() {
            self.end(&event);
        } else if event.timestamp_ms >= from_ms {
            self.begin(event, notified);
        }
    }

    fn open(&mut self, id: &str) -> Option<&mut Would> {
        self.alerts.iter_mut().rev().find(|would| would.event.id == id)
    }

    fn end(&mut self, event: &AlertEvent) {
        if let Some(would) = self.open(&event.id) {
            would.resolved_ms = event.resolved_at_ms;
        }
    }

    fn sort_and_cut(&mut self) {
        self.alerts.sort_by(|a, b| {
            let key = |would: &Would| (would.event.timestamp_ms, would.event.id.clone());
            key(a).cmp(&key(b))
        });
        self.alerts.truncate(BACKTEST_ALERTS_MAX);
    }
}

/// Evaluates the history from `from_ms` to `to_ms`; `queries` has the names for a rule that is an
/// expression.
///
/// # Errors
///
/// When the storage fails, there are too many points, or it takes more than `BACKTEST_SECS_MAX`.
pub(crate) fn run(
    store: &dyn Store,
    queries: &Queries,
    rule: &Arc<Rule>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Found, AlertError> {
    run_within(store, queries, rule, (from_ms, to_ms), Duration::from_secs(BACKTEST_SECS_MAX))
}

/// As [`run`], within another time.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_within(
    store: &dyn Store,
    queries: &Queries,
    rule: &Arc<Rule>,
    time: (i64, i64),
    within: Duration,
) -> Result<Found, AlertError> {
    let mut found = Found { within, ..Found::default() };
    if let Some(query) = rule.evaluator.query() {
        expression(queries, rule, interval_ms(query), time, &mut found)?;
    } else if rule.evaluator.absent_ms().is_some() {
        absences(store, rule, time, &mut found)?;
    } else {
        points(store, rule, time, &mut found)?;
    }
    found.sort_and_cut();
    Ok(found)
}

fn points(
    store: &dyn Store,
    rule: &Arc<Rule>,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<(), AlertError> {
    let before_ms = rule.evaluator.window_ms().max(rule.evaluator.hold_ms());
    let mut current: Option<(SeriesKey, Tracked)> = None;
    store.scan(
        &rule.draft.metric,
        &|key| rule.wants(key),
        from_ms.saturating_sub(before_ms),
        to_ms,
        &mut |key, points| {
            if current.as_ref().is_none_or(|(known, _)| known != key) {
                current = Some((key.clone(), Tracked::new(Arc::clone(rule))));
                found.series += 1;
            }
            found.points += points.len() as u64;
            let Some((key, tracked)) = &mut current else { return ControlFlow::Break(()) };
            for (at_ms, value) in points {
                let sample = Sample { at_ms: *at_ms, value: *value };
                if let Some(transition) = tracked.point(key, sample) {
                    found.take(from_ms, transition);
                }
            }
            found.flow()
        },
    )?;
    found.check()
}

/// Steps of an expression that are evaluated at once.
const STEPS_AT_ONCE: i64 = 2_000;

/// Evaluates an expression at each multiple of its interval, as the server does while it runs.
fn expression(
    queries: &Queries,
    rule: &Arc<Rule>,
    interval_ms: i64,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<(), AlertError> {
    let too_much = |message: String| AlertError::TooMuch(message);
    let names = queries.names();
    let first = from_ms.saturating_sub(rule.evaluator.hold_ms()).div_euclid(interval_ms);
    let last = to_ms.div_euclid(interval_ms);
    let mut known: HashMap<SeriesKey, Tracked> = HashMap::new();
    for start in (first..=last).step_by(STEPS_AT_ONCE as usize) {
        let count = usize::try_from((last - start + 1).min(STEPS_AT_ONCE)).unwrap_or(0);
        let steps = Steps { start_ms: start * interval_ms, step_ms: interval_ms, count };
        let secs = found.within.saturating_sub(found.started.elapsed()).as_secs().max(1);
        let mut rows = names.over_time(rule, steps, secs).map_err(too_much)?;
        let present: HashSet<SeriesKey> = rows.iter().map(|(key, _)| key.clone()).collect();
        let gone = known.keys().filter(|key| !present.contains(*key)).cloned();
        let gone: Vec<_> = gone.map(|key| (key, vec![ABSENT; count])).collect();
        rows.extend(gone);
        for (key, values) in rows {
            let tracked = known.entry(key.clone()).or_insert_with(|| {
                found.series += 1;
                Tracked::new(Arc::clone(rule))
            });
            found.points += values.len() as u64;
            found.check()?;
            for (index, value) in values.into_iter().enumerate() {
                step(rule, tracked, &key, (steps.time(index), value), from_ms, found);
            }
        }
    }
    Ok(())
}

fn step(
    rule: &Rule,
    tracked: &mut Tracked,
    key: &SeriesKey,
    (at_ms, value): (i64, f64),
    from_ms: i64,
    found: &mut Found,
) {
    let absent = is_absent(value);
    if absent && tracked.state.phase == Phase::Ok {
        // Nothing to clear; its time is noted by the next value.
        tracked.state.last_ms = at_ms;
        return;
    }
    let sample = Sample { at_ms, value: if absent { 0.0 } else { value } };
    let mut evaluation = rule.evaluator.evaluate(sample, &Window::none());
    if absent {
        evaluation.condition = Condition::Clear;
    }
    if let Some(transition) = tracked.apply(key, at_ms, &evaluation, None) {
        found.take(from_ms, transition);
    }
}

/// Times at which each agent was seen, to the second.
type Seen = BTreeMap<Box<str>, Vec<i64>>;

fn absences(
    store: &dyn Store,
    rule: &Arc<Rule>,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<(), AlertError> {
    let absent_ms = rule.evaluator.absent_ms().unwrap_or(0);
    let seen = seen(store, rule, (from_ms.saturating_sub(absent_ms), to_ms), found)?;
    for (agent, mut times) in seen {
        found.check()?;
        times.sort_unstable();
        times.dedup();
        found.series += 1;
        let metric = rule.draft.metric.as_str().into();
        let key = SeriesKey { agent: agent.into(), metric, labels: Labels::none() };
        let mut tracked = Tracked::new(Arc::clone(rule));
        let mut evaluate = |at_ms: i64, seen_ms: i64| {
            let value = (at_ms - seen_ms) as f64 / SECOND_MS as f64;
            let evaluation = rule.evaluator.evaluate(Sample { at_ms, value }, &Window::none());
            if let Some(transition) = tracked.apply(&key, at_ms, &evaluation, Some(seen_ms)) {
                found.take(from_ms, transition);
            }
        };
        for (index, seen_ms) in times.iter().enumerate() {
            evaluate(*seen_ms, *seen_ms);
            let next_ms = times.get(index + 1).copied().unwrap_or(to_ms);
            let due_ms = seen_ms.saturating_add(absent_ms);
            if next_ms > due_ms || (next_ms == to_ms && to_ms >= due_ms) {
                evaluate(due_ms, *seen_ms);
            }
        }
    }
    Ok(())
}

fn seen(
    store: &dyn Store,
    rule: &Arc<Rule>,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<Seen, AlertError> {
    let metrics = if rule.draft.metric == "*" {
        all_metrics(store, from_ms, to_ms)?
    } else {
        vec![rule.draft.metric.clone()]
    };
    let mut seen = Seen::new();
    for metric in metrics {
        let mut visit = |key: &SeriesKey, points: &[(i64, f64)]| {
            found.points += points.len() as u64;
            let times = seen.entry(Box::from(&*key.agent)).or_default();
            times.extend(points.iter().map(|(at_ms, _)| *at_ms));
            if times.len() > TIMES_BEFORE_SORT {
                times.sort_unstable();
                times.dedup();
            }
            found.flow()
        };
        store.scan(&metric, &|key| rule.wants(key), from_ms, to_ms, &mut visit)?;
        found.check()?;
    }
    Ok(seen)
}

/// Times of one agent that are kept before those that stand twice are dropped.
const TIMES_BEFORE_SORT: usize = 200_000;

fn all_metrics(store: &dyn Store, from_ms: i64, to_ms: i64) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    loop {
        let page = Page { limit: 1_000, offset: names.len() };
        let listing = store.names(from_ms, to_ms, page)?;
        let last = listing.items.len() < page.limit;
        names.extend(listing.items);
        if last {
            return Ok(names);
        }
    }
}
