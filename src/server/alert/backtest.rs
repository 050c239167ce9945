//! What a rule would have done: stored history, evaluated by the same code as live points, with the
//! points' own times for a clock. Nothing is stored and nobody is notified.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::clock::SECOND_MS;
use crate::base::limits::{BACKTEST_ALERTS_MAX, BACKTEST_POINTS_MAX};
use crate::model::alert::AlertEvent;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::evaluate::Sample;
use crate::server::alert::manage::AlertError;
use crate::server::alert::rule::Rule;
use crate::server::alert::tracked::{Tracked, Transition, TransitionKind};
use crate::server::alert::window::Window;
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
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Alerts, oldest first, of which the list may be cut.
    pub alerts: Vec<Would>,
    /// All alerts.
    pub total: u64,
    /// Series that were evaluated; agents, for silence.
    pub series: u64,
    /// Points that were evaluated.
    pub points: u64,
}

impl Found {
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
            | TransitionKind::Acknowledged => {}
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

/// Evaluates the history from `from_ms` to `to_ms`.
///
/// # Errors
///
/// When the storage fails, or there are too many points.
pub(crate) fn run(
    store: &dyn Store,
    rule: &Arc<Rule>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Found, AlertError> {
    let mut found = Found::default();
    if rule.evaluator.absent_ms().is_some() {
        absences(store, rule, (from_ms, to_ms), &mut found)?;
    } else {
        points(store, rule, (from_ms, to_ms), &mut found)?;
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
            let Some((key, tracked)) = &mut current else { return };
            for (at_ms, value) in points {
                found.points += 1;
                if found.points > BACKTEST_POINTS_MAX {
                    return;
                }
                let sample = Sample { at_ms: *at_ms, value: *value };
                if let Some(transition) = tracked.point(key, sample) {
                    found.take(from_ms, transition);
                }
            }
        },
    )?;
    check_points(found)
}

fn check_points(found: &Found) -> Result<(), AlertError> {
    if found.points <= BACKTEST_POINTS_MAX {
        return Ok(());
    }
    Err(AlertError::TooMuch(format!(
        "the time and the pattern hold more than {BACKTEST_POINTS_MAX} points: take a shorter \
         time or fewer agents"
    )))
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
            if found.points > BACKTEST_POINTS_MAX {
                return;
            }
            let times = seen.entry(Box::from(&*key.agent)).or_default();
            times.extend(points.iter().map(|(at_ms, _)| *at_ms));
            if times.len() > TIMES_BEFORE_SORT {
                times.sort_unstable();
                times.dedup();
            }
        };
        store.scan(&metric, &|key| rule.wants(key), from_ms, to_ms, &mut visit)?;
        check_points(found)?;
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
