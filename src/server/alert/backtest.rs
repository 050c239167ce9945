//! What a rule would have done: stored history, judged by the same code as live points, with the
//! points' own times for a clock. Nothing is stored and nobody is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::clock::SECOND_MS;
use crate::base::limits::{BACKTEST_ALERTS_MAX, BACKTEST_POINTS_MAX};
use crate::model::alert::AlertEvent;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::manage::AlertError;
use crate::server::alert::rule::Rule;
use crate::server::alert::rules::Sample;
use crate::server::alert::tracked::{Happened, Outcome, Tracked};
use crate::server::alert::window::Window;
use crate::server::storage::{Page, StorageError, Store};

/// Alerts that are kept before the oldest of them are chosen.
const KEPT_MAX: usize = 10 * BACKTEST_ALERTS_MAX;

/// An alert that would have been.
#[derive(Debug, Clone, PartialEq)]
pub struct Would {
    /// As it would have fired.
    pub event: AlertEvent,
    /// When it would have been over, Unix milliseconds; `None` when it lasts to the end.
    pub resolved_ms: Option<i64>,
    /// Whether it would have been told, rather than held back by `silence_secs`.
    pub told: bool,
}

/// What a backtest found.
#[derive(Debug, Default)]
pub struct Found {
    /// Alerts, oldest first, of which the list may be cut.
    pub alerts: Vec<Would>,
    /// All alerts.
    pub total: u64,
    /// Series that were judged; agents, for silence.
    pub series: u64,
    /// Points that were judged.
    pub points: u64,
}

impl Found {
    fn begin(&mut self, event: AlertEvent, told: bool) {
        self.total += 1;
        if self.alerts.len() < KEPT_MAX {
            self.alerts.push(Would { event, resolved_ms: None, told });
        }
    }

    fn take(&mut self, from_ms: i64, outcome: Outcome) {
        let told = outcome.notice.is_some();
        match outcome.what {
            Happened::Fired | Happened::Escalated => {
                for event in outcome.events {
                    self.take_event(from_ms, event, told);
                }
            }
            Happened::Resolved => {
                if let Some(event) = outcome.events.into_iter().next() {
                    self.end(&event);
                }
            }
            Happened::Told => {
                let event = outcome.notice.map(|(event, _)| event);
                let open = event.and_then(|event| self.open(&event.id));
                if let Some(would) = open {
                    would.told = true;
                }
            }
            Happened::Kept | Happened::Retired | Happened::Late | Happened::Acknowledged => {}
        }
    }

    fn take_event(&mut self, from_ms: i64, event: AlertEvent, told: bool) {
        if event.resolved_at_ms.is_some() {
            self.end(&event);
        } else if event.timestamp_ms >= from_ms {
            self.begin(event, told);
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

/// Judges the history from `from_ms` to `to_ms`.
///
/// # Errors
///
/// When the storage fails, or there are too many points.
pub fn run(
    store: &dyn Store,
    rule: &Arc<Rule>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Found, AlertError> {
    let mut found = Found::default();
    if rule.judge.silence_ms().is_some() {
        silence(store, rule, (from_ms, to_ms), &mut found)?;
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
    let before_ms = rule.judge.window_ms().max(rule.judge.hold_ms());
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
                if let Some(outcome) = tracked.point(key, sample) {
                    found.take(from_ms, outcome);
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

/// Times at which each agent was heard of, to the second.
type Heard = BTreeMap<Box<str>, Vec<i64>>;

fn silence(
    store: &dyn Store,
    rule: &Arc<Rule>,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<(), AlertError> {
    let silence_ms = rule.judge.silence_ms().unwrap_or(0);
    let heard = heard(store, rule, (from_ms.saturating_sub(silence_ms), to_ms), found)?;
    for (agent, mut times) in heard {
        times.sort_unstable();
        times.dedup();
        found.series += 1;
        let metric = rule.draft.metric.as_str().into();
        let key = SeriesKey { agent: agent.into(), metric, labels: Labels::none() };
        let mut tracked = Tracked::new(Arc::clone(rule));
        let mut judge = |at_ms: i64, heard_ms: i64| {
            let value = (at_ms - heard_ms) as f64 / SECOND_MS as f64;
            let reading = rule.judge.judge(Sample { at_ms, value }, &Window::none());
            if let Some(outcome) = tracked.apply(&key, at_ms, &reading, Some(heard_ms)) {
                found.take(from_ms, outcome);
            }
        };
        for (index, heard_ms) in times.iter().enumerate() {
            judge(*heard_ms, *heard_ms);
            let next_ms = times.get(index + 1).copied().unwrap_or(to_ms);
            let due_ms = heard_ms.saturating_add(silence_ms);
            if next_ms > due_ms || (next_ms == to_ms && to_ms >= due_ms) {
                judge(due_ms, *heard_ms);
            }
        }
    }
    Ok(())
}

fn heard(
    store: &dyn Store,
    rule: &Arc<Rule>,
    (from_ms, to_ms): (i64, i64),
    found: &mut Found,
) -> Result<Heard, AlertError> {
    let metrics = if rule.draft.metric == "*" {
        all_metrics(store, from_ms, to_ms)?
    } else {
        vec![rule.draft.metric.clone()]
    };
    let mut heard = Heard::new();
    for metric in metrics {
        let mut visit = |key: &SeriesKey, points: &[(i64, f64)]| {
            found.points += points.len() as u64;
            if found.points > BACKTEST_POINTS_MAX {
                return;
            }
            let times = heard.entry(Box::from(&*key.agent)).or_default();
            times.extend(points.iter().map(|(at_ms, _)| *at_ms));
            if times.len() > TIMES_BEFORE_SORT {
                times.sort_unstable();
                times.dedup();
            }
        };
        store.scan(&metric, &|key| rule.wants(key), from_ms, to_ms, &mut visit)?;
        check_points(found)?;
    }
    Ok(heard)
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
