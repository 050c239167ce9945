//! Agents that move between servers. Where points of an agent come whose alerts may be known
//! elsewhere, its evaluation waits until their state is here, for a bounded time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::MINUTE_MS;
use crate::base::limits::MOVED_POINTS_HELD_MAX;
use crate::model::alert::{AlertEvent, AlertStatus, Facts};
use crate::model::series::SeriesKey;
use crate::model::severity::Severity;
use crate::server::alert::evaluate::{Condition, Evaluation};
use crate::server::alert::notify::NotifyKind;
use crate::server::alert::results::Answer;
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::state::{Phase, State};
use crate::server::alert::tracked::{
    Change, Tracked, Transition, TransitionKind, because, event_of, row_key, series_of, subject,
};
use crate::server::control::alerts::{Figures, StateRow};
use crate::server::storage::SampleSet;

/// How long the evaluation of an agent waits for its state.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(6);
/// How often a series may report so that its pending alert goes on with the next point, as long as
/// nothing is known of it: the engine has the state once a minute.
const INTERVAL_MS: i64 = MINUTE_MS;
/// Why an alert ends here that nobody else goes on with.
const ELSEWHERE: &str = "the agent reports to another server, where it does not fire";
/// Why an alert ends in the history of the server that its agent has left.
const GOES_ON: &str = "the agent reports to another server";

/// The state of an alert, as another server had it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Taken {
    /// Its row.
    pub row: StateRow,
    /// Whether everybody was notified of it who is to be.
    pub is_sent: bool,
}

/// Who knows where agents report. All of it must return at once.
pub(crate) trait Takeover: Send + Sync {
    /// Points of an agent have come whose state this process has not looked for. Gives whether its
    /// evaluation waits: then [`super::Alerts::adopt`] is called soon.
    fn ask(&self, agent: &str) -> bool;

    /// Points of an agent have come that is evaluated here; the newest of them is of `newest_ms`.
    fn reported(&self, agent: &str, newest_ms: i64);

    /// The state of an agent is here, and written.
    fn adopted(&self, agent: &str);

    /// Nothing came in time: the evaluation of an agent goes on with what is here.
    fn gave_up(&self, agent: &str);

    /// Alerts have changed, and that is written.
    fn changed(&self, changes: &[Change]);

    /// Whether an agent belongs to this server although it never reported here.
    fn watches(&self, agent: &str) -> bool;

    /// Whether an agent reported here and reports to another server now.
    fn is_elsewhere(&self, agent: &str) -> bool;
}

/// Sample sets that were queued at a time.
pub(crate) type Queued = (Vec<SampleSet>, Instant);

struct Held {
    since: Instant,
    queued: Vec<Queued>,
}

/// Which agents one worker evaluates, and what it holds back of others.
#[derive(Default)]
pub(crate) struct Holding {
    mine: HashSet<String>,
    held: HashMap<String, Held>,
    points: usize,
}

/// What to do with points.
pub(crate) enum Verdict {
    /// They are evaluated.
    Evaluate(Vec<SampleSet>, Instant),
    /// They wait.
    Wait,
}

/// What a query gave of agents that are evaluated here: of others that reported here, old samples
/// may still be found.
pub(crate) fn of_those_here(answer: Answer, takeover: &dyn Takeover) -> Answer {
    let series = answer.series.into_iter();
    let here = series.filter(|(key, _)| !takeover.is_elsewhere(&key.agent));
    Answer { series: here.collect(), ..answer }
}

fn count(sets: &[SampleSet]) -> usize {
    sets.iter().map(|set| set.values.len()).sum()
}

impl Holding {
    /// Takes points of an agent.
    pub(crate) fn take(
        &mut self,
        takeover: &dyn Takeover,
        agent: &str,
        (sets, queued): Queued,
    ) -> Verdict {
        if self.mine.contains(agent) {
            let newest = sets.iter().map(|set| set.timestamp_ms).max();
            newest.into_iter().for_each(|newest_ms| takeover.reported(agent, newest_ms));
            return Verdict::Evaluate(sets, queued);
        }
        if let Some(held) = self.held.get_mut(agent) {
            self.points += count(&sets);
            held.queued.push((sets, queued));
            return Verdict::Wait;
        }
        if !takeover.ask(agent) {
            self.mine.insert(agent.to_owned());
            return Verdict::Evaluate(sets, queued);
        }
        self.points += count(&sets);
        let held = Held { since: Instant::now(), queued: vec![(sets, queued)] };
        self.held.insert(agent.to_owned(), held);
        Verdict::Wait
    }

    /// The state of an agent is here: gives what waited for it. `None` when nothing did, because
    /// it was given up, or because no points of it have come.
    pub(crate) fn adopt(&mut self, agent: &str) -> Option<Vec<Queued>> {
        let held = self.held.remove(agent)?;
        self.points = self.points.saturating_sub(held.queued.iter().map(|(s, _)| count(s)).sum());
        self.mine.insert(agent.to_owned());
        Some(held.queued)
    }

    /// Whether an agent is evaluated here.
    pub(crate) fn is_mine(&self, agent: &str) -> bool {
        self.mine.contains(agent)
    }

    /// An agent is watched here.
    pub(crate) fn own(&mut self, agent: &str) {
        self.mine.insert(agent.to_owned());
    }

    /// An agent reports elsewhere.
    pub(crate) fn release(&mut self, agent: &str) {
        self.mine.remove(agent);
    }

    /// Agents whose state has not come in time.
    pub(crate) fn overdue(&self) -> Vec<String> {
        let crowded = self.points > MOVED_POINTS_HELD_MAX;
        let late = |held: &Held| crowded || held.since.elapsed() >= WAIT_MAX;
        self.held.iter().filter(|(_, held)| late(held)).map(|(agent, _)| agent.clone()).collect()
    }
}

/// Lets go of an alert whose agent reports elsewhere, where `known` is known; `None` when there is
/// nothing of it.
pub(super) fn hand_over(
    tracked: &mut Tracked,
    key: &SeriesKey,
    known: &[Taken],
    now_ms: i64,
) -> Option<Change> {
    tracked.row(key)?;
    let row_key = row_key(&tracked.rule.id, key);
    let there = known.iter().find(|taken| taken.row.key == row_key).map(|taken| &taken.row);
    let goes_on = |event: &AlertEvent, row: &StateRow| {
        row.event_id.as_deref() == Some(&event.id) || row.updated_ms >= event.first_triggered_at_ms
    };
    let transition = match tracked.active.as_deref().cloned() {
        Some(event) if there.is_none_or(|row| !goes_on(&event, row)) => {
            let sentence = format!("{} ended: {ELSEWHERE}", subject(key));
            tracked.end(now_ms, &sentence, ELSEWHERE).unwrap_or_default()
        }
        Some(event) => handed_over(event, now_ms),
        None => Transition { kind: TransitionKind::HandedOver, ..Transition::default() },
    };
    // What was evaluated here is not evaluated again after a restart.
    let State { last_ms, notified_ms, .. } = tracked.state;
    *tracked = Tracked::new(Arc::clone(&tracked.rule));
    tracked.state = State { last_ms, notified_ms, ..State::NEW };
    let row = tracked.row(key);
    Some(Change { key: row_key, row, active: None, transition })
}

fn handed_over(event: AlertEvent, now_ms: i64) -> Transition {
    let mut closed = event.clone();
    closed.status = AlertStatus::Resolved;
    // One later than an event that fired now, which would be its own recovery.
    closed.resolved_at_ms = Some(now_ms.max(event.timestamp_ms + 1));
    closed.facts = closed.facts.map(|facts| Box::new(Facts { end: because(GOES_ON), ..*facts }));
    Transition {
        kind: TransitionKind::HandedOver,
        events: vec![closed],
        notification: Some((event, NotifyKind::HandedOver)),
    }
}

/// The alert of a state that another server had, under the rules in force; `None` when no rule
/// wants it, or there is nothing to go on with.
pub(super) fn taken_over(rules: &RuleSet, taken: &Taken) -> Option<(Tracked, SeriesKey, Change)> {
    let [rule_id, ..] = &taken.row.key;
    let rule = rules.enabled().find(|rule| rule.id == *rule_id)?;
    let key = series_of(&taken.row.key)?;
    let mut tracked = Tracked::restored(Arc::clone(rule), &taken.row);
    tracked.state.interval_ms = INTERVAL_MS;
    tracked.row(&key)?;
    let notified_ms = tracked.state.notified_ms;
    let notification = match (tracked.active.as_deref(), notified_ms) {
        (Some(event), Some(notified_ms)) if tracked.state.notified => {
            let known = NotifyKind::TakenOver { notified_ms };
            let kind = if taken.is_sent { known } else { NotifyKind::Firing };
            Some((event.clone(), kind))
        }
        (None, Some(notified_ms)) => {
            let clear = Evaluation::plain(Condition::Clear, 0.0, 0.0);
            let since = (taken.row.since_ms, rule.draft.severity);
            let mut event = event_of(rule, &key, since, notified_ms, &clear);
            event.status = AlertStatus::Resolved;
            Some((event, NotifyKind::TakenOver { notified_ms }))
        }
        _ => None,
    };
    let events = tracked.active.as_deref().cloned().into_iter().collect();
    let transition = Transition { kind: TransitionKind::TakenOver, events, notification };
    let change = Change::of(&tracked, &key, transition);
    Some((tracked, key, change))
}

/// The state that figures stand for; `None` when they mean nothing to the rules in force.
pub(crate) fn rebuilt(rules: &RuleSet, figures: &Figures) -> Option<Taken> {
    let [rule_id, ..] = &figures.key;
    let rule: &Arc<Rule> = rules.enabled().find(|rule| rule.id == *rule_id)?;
    let key = series_of(&figures.key)?;
    let place = usize::from(figures.severity).checked_sub(1);
    let severity = place.and_then(|at| Severity::ALL.get(at).copied());
    let severity = severity.unwrap_or(rule.draft.severity);
    let event = (figures.firing_since_ms > 0).then(|| {
        let breach = Evaluation::plain(Condition::Breach, figures.value, figures.threshold);
        event_of(rule, &key, (figures.firing_since_ms, severity), figures.fired_ms, &breach)
    });
    let (phase, since_ms) = match (figures.firing_since_ms, figures.pending_since_ms) {
        (since_ms @ 1.., _) => (Phase::Firing, since_ms),
        (_, since_ms @ 1..) => (Phase::Pending, since_ms),
        _ => (Phase::Ok, 0),
    };
    let row = StateRow {
        key: figures.key.clone(),
        state: phase.name().to_owned(),
        since_ms,
        event_id: event.as_ref().map(|event| event.id.clone()),
        last_notified_ms: (figures.notified_ms > 0).then_some(figures.notified_ms),
        acknowledged: false,
        detail: event.as_ref().map(AlertEvent::to_json),
        updated_ms: figures.evaluated_ms,
    };
    Some(Taken { row, is_sent: figures.is_sent })
}

/// What an engine is to know of an alert; `None` when its row can't be read.
pub(crate) fn figures(row: &StateRow, is_sent: bool, evaluated_ms: i64) -> Option<Figures> {
    let phase = Phase::from_name(&row.state)?;
    let event = row.detail.as_deref().and_then(AlertEvent::from_json);
    let when = |is: bool, ms: i64| if is { ms } else { 0 };
    let is_firing = phase == Phase::Firing;
    let severity = event.as_ref().map(|event| event.severity);
    let place = severity.and_then(|it| Severity::ALL.iter().position(|one| *one == it));
    Some(Figures {
        key: row.key.clone(),
        pending_since_ms: when(phase == Phase::Pending, row.since_ms),
        firing_since_ms: when(is_firing, row.since_ms),
        fired_ms: event.as_ref().map_or(0, |event| when(is_firing, event.timestamp_ms)),
        notified_ms: row.last_notified_ms.unwrap_or(0),
        is_sent,
        value: event.as_ref().map_or(0.0, |event| event.value),
        threshold: event.as_ref().map_or(0.0, |event| event.threshold),
        severity: place.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(0),
        evaluated_ms: evaluated_ms.max(row.updated_ms),
    })
}
