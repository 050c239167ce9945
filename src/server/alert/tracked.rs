//! One rule on one series: its window, its state and its alert. Evaluating is here, and is the same
//! for live points, for points that are evaluated again after a restart, and for a backtest.

use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::ids::stable_id;
use crate::model::alert::{AlertEvent, AlertStatus, End, Facts};
use crate::model::series::{Labels, SeriesKey};
use crate::model::severity::Severity;
use crate::server::alert::evaluate::{Condition, Evaluation, Sample, Subject, number};
use crate::server::alert::notify::NotifyKind;
use crate::server::alert::rule::Rule;
use crate::server::alert::state::{Action, CLOCK_AHEAD_MS_MAX, Input, Phase, Policy, State};
use crate::server::alert::window::Window;
use crate::server::control::alerts::StateRow;

/// An alert that fires and has not been notified, because its point was old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deferred {
    /// The time of the point that fired, Unix milliseconds.
    pub(super) point_ms: i64,
    /// When it was evaluated, steady milliseconds.
    pub(super) since_ms: i64,
    /// When the newest point was evaluated, steady milliseconds.
    pub(super) newest_ms: i64,
}

/// A rule on a series.
#[derive(Debug)]
pub(crate) struct Tracked {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The state of the alert.
    pub state: State,
    /// The event that fired, while it fires.
    pub active: Option<Box<AlertEvent>>,
    window: Option<Box<Window>>,
    late: Option<Box<Late>>,
    /// The newest value that was evaluated.
    last_value: Option<f64>,
    pub(super) deferred: Option<Box<Deferred>>,
}

/// An alert among points that came late: over before it was known of.
#[derive(Debug)]
struct Late {
    state: State,
    event: Option<AlertEvent>,
}

/// What a change means for the world outside.
#[derive(Debug, Default)]
pub(crate) struct Transition {
    /// What happened, for the counters; the least says that only the state changed.
    pub kind: TransitionKind,
    /// Events to be kept, new or changed.
    pub events: Vec<AlertEvent>,
    /// What is to be notified.
    pub notification: Option<(AlertEvent, NotifyKind)>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the transitions of the state machine")]
pub(crate) enum TransitionKind {
    #[default]
    Kept,
    Fired,
    Escalated,
    Notified,
    Resolved,
    Ended,
    Late,
    Acknowledged,
    TakenOver,
    HandedOver,
}

/// A change of one alert, to be written in one transaction with others.
#[derive(Debug)]
pub(crate) struct Change {
    /// The alert's key.
    pub key: [String; 4],
    /// Its row; `None` when there is nothing to remember.
    pub row: Option<StateRow>,
    /// The event that fires now, where it does.
    pub active: Option<AlertEvent>,
    /// Events and notices.
    pub transition: Transition,
}

impl Change {
    /// The change that `transition` is for `tracked`.
    pub(crate) fn of(tracked: &Tracked, key: &SeriesKey, transition: Transition) -> Self {
        Self {
            key: row_key(&tracked.rule.id, key),
            row: tracked.row(key),
            active: tracked.active.as_deref().cloned(),
            transition,
        }
    }
}

impl Tracked {
    /// A rule on a series that it has not seen.
    pub(crate) fn new(rule: Arc<Rule>) -> Self {
        let span_ms = rule.evaluator.window_ms();
        let window =
            (span_ms > 0).then(|| Box::new(Window::new(span_ms, rule.evaluator.window_points())));
        Self {
            rule,
            state: State::NEW,
            active: None,
            window,
            late: None,
            last_value: None,
            deferred: None,
        }
    }

    /// A rule on a series as it stood when the process ended.
    pub(crate) fn restored(rule: Arc<Rule>, row: &StateRow) -> Self {
        let mut tracked = Self::new(rule);
        let Some(phase) = Phase::from_name(&row.state) else { return tracked };
        let event = row.detail.as_deref().and_then(AlertEvent::from_json);
        let state = &mut tracked.state;
        state.notified_ms = row.last_notified_ms;
        state.last_ms = row.updated_ms;
        if phase == Phase::Firing && event.is_none() {
            return tracked;
        }
        state.phase = phase;
        state.since_ms = row.since_ms;
        if let Some(event) = event {
            state.severity = event.severity;
            // What was notified is notified at the alert's time or later.
            state.notified =
                row.last_notified_ms.is_some_and(|notified| notified >= event.timestamp_ms);
            tracked.active = (phase == Phase::Firing).then(|| Box::new(event));
        }
        tracked
    }

    /// Puts a point into the window without evaluating it.
    pub(crate) fn warm(&mut self, at_ms: i64, value: f64) {
        if let Some(window) = &mut self.window {
            window.push(at_ms, value);
        }
    }

    /// Looks whether the agent's clock was ahead and has been put back, before a point of `at_ms`
    /// is evaluated at `now_ms`. Without this its points would be late ones for as long as that
    /// was.
    pub(crate) fn put_back(&mut self, at_ms: i64, now_ms: i64) {
        let possible_ms = now_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
        if at_ms > possible_ms {
            return;
        }
        if self.state.last_ms > possible_ms {
            self.state.put_back(at_ms);
        }
        if let Some(window) = &mut self.window
            && window.newest().is_some_and(|newest_ms| newest_ms > possible_ms)
        {
            window.put_back(at_ms);
        }
    }

    /// Evaluates a point.
    pub(crate) fn point(&mut self, key: &SeriesKey, sample: Sample) -> Option<Transition> {
        self.warm(sample.at_ms, sample.value);
        if sample.at_ms <= self.state.last_ms {
            return self.late_point(key, sample);
        }
        self.last_value = Some(sample.value);
        let evaluation = self.evaluate(sample);
        self.apply(key, sample.at_ms, &evaluation, None)
    }

    /// Evaluates a stored point at `now`: an alert at an old point is not notified at once.
    pub(crate) fn point_at(
        &mut self,
        key: &SeriesKey,
        sample: Sample,
        now: Now,
    ) -> Option<Transition> {
        let notified_ms = self.state.notified_ms;
        let late = sample.at_ms <= self.state.last_ms;
        let transition = self.point(key, sample);
        if late {
            return transition;
        }
        let lag_ms = now.wall_ms.saturating_sub(sample.at_ms);
        self.defer(sample.at_ms, lag_ms, now.steady_ms, notified_ms, transition)
    }

    fn evaluate(&self, sample: Sample) -> Evaluation {
        let Some(window) = &self.window else {
            return self.rule.evaluator.evaluate(sample, &Window::none());
        };
        let from = self.active.as_deref().map(|event| match event.predicted_breach_ms {
            // It fired beyond the threshold, and came from the other side.
            None if event.value != event.threshold => event.threshold * 2.0 - event.value,
            None => event.threshold - 1.0,
            Some(_) => event.value,
        });
        self.rule.evaluator.evaluate_from(sample, window, from)
    }

    /// The notification of an alert that was deferred.
    pub(super) fn notify_deferred(&mut self) -> Option<Transition> {
        self.deferred = None;
        let event = self.active.as_deref().cloned()?;
        let at_ms = self.state.last_ms;
        let kind = if self.state.repeat_due(self.policy(), at_ms) {
            (self.state.notified, self.state.notified_ms) = (true, Some(at_ms));
            NotifyKind::Firing
        } else {
            self.held()
        };
        let notification = Some((event, kind));
        Some(Transition { kind: TransitionKind::Notified, events: Vec::new(), notification })
    }

    fn held(&self) -> NotifyKind {
        let Policy { repeat_ms, refire_ms, .. } = self.policy();
        NotifyKind::Held { repeat_ms, refire_ms }
    }

    /// Takes a condition: the machine's step, and the events and notices that follow.
    pub(crate) fn apply(
        &mut self,
        key: &SeriesKey,
        at_ms: i64,
        evaluation: &Evaluation,
        since_ms: Option<i64>,
    ) -> Option<Transition> {
        let severity = evaluation.severity.unwrap_or(self.rule.draft.severity);
        let input = Input { at_ms, condition: evaluation.condition, severity, since_ms };
        match self.state.step(self.policy(), input) {
            Action::Nothing => None,
            Action::Keep => Some(Transition::default()),
            Action::Fire { notify } => {
                let event = self.event(key, &self.state, at_ms, evaluation);
                self.active = Some(Box::new(event.clone()));
                let kind = if notify { NotifyKind::Firing } else { self.held() };
                let notification = Some((event.clone(), kind));
                Some(Transition { kind: TransitionKind::Fired, events: vec![event], notification })
            }
            Action::Escalate => Some(self.escalate(key, at_ms, evaluation)),
            Action::Notify => {
                let event = self.active.as_deref().cloned()?;
                let notification = Some((event, NotifyKind::Firing));
                Some(Transition {
                    kind: TransitionKind::Notified,
                    events: Vec::new(),
                    notification,
                })
            }
            Action::Resolve { notify } => {
                let text =
                    |lasted_ms| self.rule.evaluator.recovered(subject(key), evaluation, lasted_ms);
                let active = self.active.take()?;
                let lasted_ms = at_ms.saturating_sub(active.first_triggered_at_ms);
                let message = self.sentence(text(lasted_ms));
                Some(ended(*active, (at_ms, Some(evaluation.value)), message, None, notify))
            }
        }
    }

    fn escalate(&mut self, key: &SeriesKey, at_ms: i64, evaluation: &Evaluation) -> Transition {
        let event = self.event(key, &self.state, at_ms, evaluation);
        let mut events = Vec::new();
        if let Some(mut milder) = self.active.take() {
            milder.status = AlertStatus::Resolved;
            milder.resolved_at_ms = Some(at_ms);
            events.push(*milder);
        }
        self.active = Some(Box::new(event.clone()));
        events.push(event.clone());
        let notification = Some((event, NotifyKind::Firing));
        Transition { kind: TransitionKind::Escalated, events, notification }
    }

    /// Ends the alert for another reason than its points: the rule, the series or the agent is
    /// gone. `None` when it does not fire.
    pub(crate) fn end(&mut self, now_ms: i64, why: &str, reason: &str) -> Option<Transition> {
        self.state = State {
            last_ms: self.state.last_ms,
            notified_ms: self.state.notified_ms,
            interval_ms: self.state.interval_ms,
            ..State::NEW
        };
        self.deferred = None;
        let active = self.active.take()?;
        let message = self.sentence(why.to_owned());
        Some(Transition {
            kind: TransitionKind::Ended,
            ..ended(*active, (now_ms, None), message, because(reason), false)
        })
    }

    /// Takes another version of its rule. A firing alert goes on where its newest value breaches
    /// under that rule too.
    pub(crate) fn adopt(
        &mut self,
        rule: Arc<Rule>,
        points: &[(i64, f64)],
        key: &SeriesKey,
        now_ms: i64,
    ) -> Option<Transition> {
        let mut next = Self::new(rule);
        points.iter().for_each(|(at_ms, value)| next.warm(*at_ms, *value));
        next.state = self.state;
        next.active = self.active.take();
        next.last_value = self.last_value;
        next.deferred = self.deferred.take();
        *self = next;
        let value = self.last_value.or(self.active.as_deref().map(|event| event.value))?;
        let sample = Sample { at_ms: self.state.last_ms, value };
        let evaluation = self.evaluate(sample);
        if evaluation.condition == Condition::Clear {
            let subject = subject(key);
            let text = format!("{subject} is {}: {NO_LONGER_FIRES}", number(value));
            let had_row = self.row(key).is_some();
            let ended = self.end(now_ms, &text, NO_LONGER_FIRES);
            return ended.or_else(|| had_row.then(Transition::default));
        }
        let active = self.active.as_mut()?;
        active.threshold = evaluation.threshold;
        active.rule_name.clone_from(&self.rule.draft.name);
        let events = vec![*active.clone()];
        Some(Transition { kind: TransitionKind::Kept, events, notification: None })
    }

    /// Somebody says that they know of the alert.
    pub(crate) fn acknowledge(&mut self) -> Option<Transition> {
        let active = self.active.as_mut()?;
        active.status = AlertStatus::Acknowledged;
        let events = vec![*active.clone()];
        Some(Transition { kind: TransitionKind::Acknowledged, events, notification: None })
    }

    /// Somebody says that the alert has ended.
    pub(crate) fn resolve_by_hand(
        &mut self,
        key: &SeriesKey,
        now_ms: i64,
        who: &str,
    ) -> Option<Transition> {
        let active = self.active.take()?;
        let notify = self.state.close(now_ms);
        let message = self.sentence(format!("{} was resolved by {who}", subject(key)));
        let end = Some(End::By(who.to_owned()));
        Some(ended(*active, (now_ms, None), message, end, notify))
    }

    /// The alert's row: `None` when there is nothing to remember.
    pub(crate) fn row(&self, key: &SeriesKey) -> Option<StateRow> {
        let state = &self.state;
        if state.phase == Phase::Ok && state.notified_ms.is_none() {
            return None;
        }
        let acknowledged = |event: &AlertEvent| event.status == AlertStatus::Acknowledged;
        Some(StateRow {
            key: row_key(&self.rule.id, key),
            state: state.phase.name().to_owned(),
            since_ms: state.since_ms,
            event_id: self.active.as_ref().map(|event| event.id.clone()),
            last_notified_ms: state.notified_ms,
            acknowledged: self.active.as_deref().is_some_and(acknowledged),
            detail: self.active.as_deref().map(AlertEvent::to_json),
            updated_ms: state.last_ms,
        })
    }

    fn policy(&self) -> Policy {
        self.rule.policy()
    }

    /// A point from before what has been evaluated already. The newer state stays what it is; a
    /// whole alert among the late points goes to the history alone, with its own times.
    fn late_point(&mut self, key: &SeriesKey, sample: Sample) -> Option<Transition> {
        if self.window.is_some() {
            // It stands in the window now, and the next newer point is evaluated with it.
            return None;
        }
        let evaluation = self.rule.evaluator.evaluate(sample, &Window::none());
        let breach = evaluation.condition == Condition::Breach;
        let kept = (!breach && self.state.interrupt(sample.at_ms)).then(Transition::default);
        if self.late.is_none() && !breach {
            return kept;
        }
        let severity = evaluation.severity.unwrap_or(self.rule.draft.severity);
        let input = Input {
            at_ms: sample.at_ms,
            condition: evaluation.condition,
            severity,
            since_ms: None,
        };
        let mut late = match self.late.take() {
            Some(late) if late.state.last_ms < sample.at_ms => late,
            _ => Box::new(Late { state: State::NEW, event: None }),
        };
        let mut events = Vec::new();
        match late.state.step(self.policy(), input) {
            Action::Fire { .. } if !self.covers(sample.at_ms) => {
                let mut event = self.event(key, &late.state, sample.at_ms, &evaluation);
                event.status = AlertStatus::Resolved;
                let newer_ms = if self.state.phase == Phase::Ok {
                    self.state.last_ms
                } else {
                    self.state.since_ms
                };
                event.resolved_at_ms = Some(newer_ms.max(sample.at_ms + 1));
                events.push(event.clone());
                late.event = Some(event);
            }
            Action::Resolve { .. } => {
                events.extend(
                    late.event
                        .take()
                        .map(|event| AlertEvent { resolved_at_ms: Some(sample.at_ms), ..event }),
                );
            }
            _ => {}
        }
        if late.state.phase != Phase::Ok {
            self.late = Some(late);
        }
        if events.is_empty() {
            return kept;
        }
        Some(Transition { kind: TransitionKind::Late, events, notification: None })
    }

    /// Whether a time is within the alert that stands now.
    fn covers(&self, at_ms: i64) -> bool {
        self.state.phase != Phase::Ok && at_ms >= self.state.since_ms
    }

    fn event(
        &self,
        key: &SeriesKey,
        state: &State,
        at_ms: i64,
        evaluation: &Evaluation,
    ) -> AlertEvent {
        event_of(&self.rule, key, (state.since_ms, state.severity), at_ms, evaluation)
    }

    fn sentence(&self, text: String) -> String {
        sentence(&self.rule, &text)
    }
}

fn sentence(rule: &Rule, text: &str) -> String {
    format!("{text} (rule {})", rule.draft.name)
}

/// The event of an alert that fires at `at_ms`, with its beginning and how bad it is.
pub(super) fn event_of(
    rule: &Rule,
    key: &SeriesKey,
    (since_ms, severity): (i64, Severity),
    at_ms: i64,
    evaluation: &Evaluation,
) -> AlertEvent {
    let (labels, since) = (key.labels.to_json(), since_ms.to_string());
    // The same alert found again, after a crash or by another server, has the same id.
    let parts = [&rule.id, &*key.agent, &*key.metric, &labels, &since, severity.name()];
    AlertEvent {
        id: stable_id(&parts),
        rule_id: rule.id.clone(),
        rule_name: rule.draft.name.clone(),
        agent_id: key.agent.to_string(),
        metric_name: key.metric.to_string(),
        severity,
        message: sentence(rule, &rule.evaluator.firing(subject(key), evaluation)),
        labels: key.labels.clone(),
        value: finite(evaluation.value),
        threshold: evaluation.threshold,
        timestamp_ms: at_ms,
        predicted_breach_ms: evaluation.predicted_breach_ms,
        first_triggered_at_ms: since_ms,
        status: AlertStatus::Firing,
        resolved_at_ms: None,
        facts: Some(Box::new(Facts {
            cause: rule.evaluator.cause(subject(key), evaluation),
            end: None,
            process: None,
        })),
    }
}

/// A value as JSON can hold it: a query may give any.
fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

pub(super) fn subject(key: &SeriesKey) -> Subject<'_> {
    Subject { agent: &key.agent, metric: &key.metric, labels: &key.labels }
}

/// Why an alert ends that its changed rule would not begin.
pub(super) const NO_LONGER_FIRES: &str = "the rule was changed and no longer fires";

/// An end that no value recovered from.
pub(super) fn because(reason: &str) -> Option<End> {
    Some(End::Because(reason.to_owned()))
}

/// The firing event with its end, and the recovery as an event of its own.
pub(super) fn ended(
    mut firing: AlertEvent,
    (at_ms, value): (i64, Option<f64>),
    message: String,
    end: Option<End>,
    notify: bool,
) -> Transition {
    firing.status = AlertStatus::Resolved;
    firing.resolved_at_ms = Some(at_ms);
    let facts = firing.facts.clone().map(|facts| Box::new(Facts { end, ..*facts }));
    let recovery = AlertEvent {
        id: stable_id(&[&firing.id, "recovered"]),
        facts,
        message,
        value: value.unwrap_or(firing.value),
        timestamp_ms: at_ms,
        predicted_breach_ms: None,
        ..firing.clone()
    };
    if firing.timestamp_ms == at_ms {
        // So that nobody takes it for its own recovery.
        firing.resolved_at_ms = Some(at_ms + 1);
    }
    // Without a notification of its own, who sends may still have sent one.
    let recovered = NotifyKind::Recovered { firing_id: firing.id.clone() };
    let kind = if notify { recovered } else { NotifyKind::Ended };
    let notification = Some((recovery.clone(), kind));
    Transition { kind: TransitionKind::Resolved, events: vec![firing, recovery], notification }
}

/// Ends what a rule, a series or an agent that is gone has left; `None` when that is nothing.
pub(crate) fn end(
    tracked: &mut Tracked,
    key: &SeriesKey,
    now_ms: i64,
    reason: &str,
) -> Option<Change> {
    let sentence = format!("{} ended: {reason}", subject(key));
    end_saying(tracked, key, now_ms, (&sentence, reason))
}

/// The same with a sentence of its own.
pub(crate) fn end_saying(
    tracked: &mut Tracked,
    key: &SeriesKey,
    now_ms: i64,
    (sentence, reason): (&str, &str),
) -> Option<Change> {
    let had_row = tracked.row(key).is_some();
    let transition = tracked.end(now_ms, sentence, reason);
    (had_row || transition.is_some())
        .then(|| Change::of(tracked, key, transition.unwrap_or_default()))
}

impl Transition {
    /// Whether it is notified now, as far as the evaluation knows.
    pub(crate) fn is_notified(&self) -> bool {
        let kind = self.notification.as_ref().map(|(_, kind)| kind);
        matches!(kind, Some(NotifyKind::Firing | NotifyKind::Recovered { .. }))
    }
}

/// The key of an alert's row.
pub(crate) fn row_key(rule_id: &str, key: &SeriesKey) -> [String; 4] {
    [rule_id.to_owned(), key.agent.to_string(), key.metric.to_string(), key.labels.to_json()]
}

/// The series of an alert's row; `None` when its labels can't be read.
pub(crate) fn series_of([_, agent, metric, labels]: &[String; 4]) -> Option<SeriesKey> {
    let labels = Labels::from_json(labels)?;
    Some(SeriesKey { agent: agent.as_str().into(), metric: metric.as_str().into(), labels })
}

#[cfg(test)]
mod tests;
