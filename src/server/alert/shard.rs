//! What one evaluation worker knows: its agents' series with the rules on them. Pure of threads,
//! clocks and databases, so that it can be tested and measured by itself: it takes points and
//! times, and gives changes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::clock::Now;
use crate::model::alert::{AlertEvent, AlertStatus, Cause};
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::absence::{Absences, Skews};
use crate::server::alert::evaluate::Sample;
use crate::server::alert::history::Warm;
use crate::server::alert::results::{Answer, Results};
use crate::server::alert::rule::{CERT_AGENT, Rule};
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::state::Phase;
use crate::server::alert::tracked::{
    Change, Tracked, Transition, TransitionKind, because, end, end_saying, ended, series_of,
    subject,
};
use crate::server::control::alerts::StateRow;
use crate::server::storage::Series;

mod moved;

/// By the labels of a certificate's series, what the newest check found wrong.
pub(crate) type Reasons = Arc<Mutex<HashMap<Labels, String>>>;

/// What a person does about an alert.
#[derive(Debug, Clone)]
pub enum Act {
    /// They say that they know.
    Acknowledge,
    /// It ends for a reason of its own.
    End {
        /// The reason.
        why: &'static str,
    },
    /// They say that it has ended.
    Resolve {
        /// Who says so.
        who: String,
    },
}

/// How often ended series are looked for, milliseconds.
const SWEEP_MS: i64 = 5_000;

/// A series' place in the table: not looked up yet, of no rule's concern, or 2 more than an index.
type Slot = u32;
const UNKNOWN: Slot = 0;
const UNWANTED: Slot = 1;

/// A series of which a rule wants to know.
#[derive(Debug)]
struct Entry {
    key: KeyRef,
    tracked: Vec<Tracked>,
    /// Places in the table of absences that its points end.
    seen: Vec<usize>,
    /// When its last point came, steady milliseconds.
    seen_ms: i64,
}

#[derive(Debug)]
enum KeyRef {
    /// Known from the database or the history; no point has come yet.
    Parked(Arc<SeriesKey>),
    /// As the store knows it.
    Live(Arc<Series>),
}

impl KeyRef {
    fn get(&self) -> &SeriesKey {
        match self {
            Self::Parked(key) => key,
            Self::Live(series) => &series.key,
        }
    }
}

/// One worker's series, rules and alerts.
#[derive(Default)]
pub(crate) struct Shard {
    rules: Arc<RuleSet>,
    by_metric: HashMap<String, Vec<Arc<Rule>>>,
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    parked: HashMap<Arc<SeriesKey>, usize>,
    absences: Absences,
    results: Results,
    warm: Arc<Warm>,
    /// When no window reaches back to what `warm` holds any more, steady milliseconds.
    cool_ms: i64,
    changes: Vec<Change>,
    /// Entries with an alert whose notification waits for newer points.
    deferred: Vec<usize>,
    /// Why series of certificate checks read as they do.
    reasons: Reasons,
    /// When ended series are looked for again, steady milliseconds.
    sweep_ms: i64,
    /// The newest steady time that it knows, milliseconds.
    now_ms: i64,
    evaluated: u64,
}

impl Shard {
    /// A shard without series under these rules.
    pub(crate) fn new(rules: Arc<RuleSet>) -> Self {
        let mut shard = Self::default();
        shard.index(rules);
        shard
    }

    fn index(&mut self, rules: Arc<RuleSet>) {
        self.by_metric.clear();
        for rule in rules.enabled().filter(|rule| rule.evaluates_points()) {
            let of_metric = self.by_metric.entry(rule.draft.metric.clone()).or_default();
            of_metric.push(Arc::clone(rule));
        }
        self.absences.set_rules(rules.enabled());
        self.results.set_rules(rules.enabled());
        self.rules = rules;
    }

    /// Gives it the reasons of what certificate checks find wrong.
    pub(crate) fn set_reasons(&mut self, reasons: Reasons) {
        self.reasons = reasons;
    }

    /// Gives it the clocks that differ from the server's.
    pub(crate) fn set_skews(&mut self, skews: Skews) {
        self.absences.set_skews(skews);
    }

    /// Points that were evaluated by a rule since the last call.
    pub(crate) fn take_evaluated(&mut self) -> u64 {
        std::mem::take(&mut self.evaluated)
    }

    /// The changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Says who was seen before this process, as [`Absences::start`] does.
    pub(crate) fn start(&mut self, agents: &[(String, i64)], warm: &Warm, now: impl Into<Now>) {
        let now = now.into();
        self.now_ms = now.steady_ms;
        self.absences.start(agents, warm, now);
    }

    /// Evaluates who is silent.
    pub(crate) fn tick(&mut self, now: impl Into<Now>) {
        let now = now.into();
        self.now_ms = now.steady_ms;
        self.absences.tick(now, &mut self.changes);
        self.notify_overdue(now);
        if now.steady_ms >= self.sweep_ms {
            self.sweep_ms = now.steady_ms.saturating_add(SWEEP_MS);
            self.end_stale_series(now);
        }
        if now.steady_ms >= self.cool_ms && !self.warm.is_empty() {
            self.warm = Arc::default();
        }
    }

    /// Evaluates stored points of one agent. `now` is when they are evaluated.
    pub(crate) fn points<'p>(
        &mut self,
        agent: &str,
        points: impl IntoIterator<Item = (&'p Arc<Series>, Sample)>,
        now: impl Into<Now>,
    ) {
        let now = now.into();
        self.now_ms = now.steady_ms;
        self.absences.seen(agent, now, &mut self.changes);
        for (series, sample) in points {
            let number = series.number as usize;
            let slot = self.slots.get(number).copied().unwrap_or(UNKNOWN);
            if slot == UNWANTED {
                continue;
            }
            let index = if slot == UNKNOWN {
                match self.place(series) {
                    Some(index) => index,
                    None => continue,
                }
            } else {
                slot as usize - 2
            };
            let Some(entry) = self.entries.get_mut(index) else { continue };
            entry.seen_ms = now.steady_ms;
            let key = entry.key.get();
            for tracked in &mut entry.tracked {
                self.evaluated += 1;
                tracked.put_back(sample.at_ms, now.wall_ms);
                let transition = tracked.point_at(key, sample, now);
                if tracked.deferred.is_some() && !self.deferred.contains(&index) {
                    self.deferred.push(index);
                }
                if let Some(mut transition) = transition {
                    explain(&self.reasons, key, tracked, &mut transition);
                    self.changes.push(Change::of(tracked, key, transition));
                }
            }
            for absence in &entry.seen {
                self.absences.seen_metric(*absence, now, &mut self.changes);
            }
        }
    }

    /// Takes what the expression of a rule gave, as far as its agents are here.
    pub(crate) fn result(&mut self, answer: &Answer, now: Now) {
        self.evaluated += self.results.take(answer, now, &mut self.changes);
    }

    fn notify_overdue(&mut self, now: Now) {
        for index in std::mem::take(&mut self.deferred) {
            let Some(entry) = self.entries.get_mut(index) else { continue };
            let key = entry.key.get();
            for tracked in &mut entry.tracked {
                if let Some(transition) = tracked.overdue(now.steady_ms) {
                    self.changes.push(Change::of(tracked, key, transition));
                }
            }
            if entry.tracked.iter().any(|tracked| tracked.deferred.is_some()) {
                self.deferred.push(index);
            }
        }
    }

    /// Ends the alerts of series that report nothing while their agent does: an unmounted disk, a
    /// removed interface. Certificates have their own times.
    fn end_stale_series(&mut self, now: Now) {
        for entry in &mut self.entries {
            let key = entry.key.get();
            if entry.tracked.iter().all(|tracked| tracked.state.phase == Phase::Ok)
                || &*key.agent == CERT_AGENT
            {
                continue;
            }
            let silent_ms = now.steady_ms.saturating_sub(entry.seen_ms);
            let agent_ms = self.absences.last_seen(&key.agent).unwrap_or(i64::MIN);
            for tracked in &mut entry.tracked {
                let stale_ms = tracked.rule.stale_ms(tracked.state.interval_ms);
                let reports = agent_ms.saturating_sub(entry.seen_ms) >= stale_ms / 2;
                if tracked.state.phase != Phase::Ok && silent_ms >= stale_ms && reports {
                    let sentence = format!("{} is no longer reported", subject(key));
                    let why = (sentence.as_str(), "it is no longer reported");
                    self.changes.extend(end_saying(tracked, key, now.wall_ms, why));
                }
            }
        }
    }

    /// Ends every alert of an agent, and forgets that it was seen; gives how many fired.
    pub(crate) fn end_agent(&mut self, agent: &str, reason: &str, now_ms: i64) -> usize {
        let before = self.changes.len();
        for entry in &mut self.entries {
            let key = entry.key.get();
            if &*key.agent == agent {
                for tracked in &mut entry.tracked {
                    self.changes.extend(end(tracked, key, now_ms, reason));
                }
            }
        }
        self.absences.end_agent(agent, reason, now_ms, &mut self.changes);
        self.results.end_agent(agent, reason, now_ms, &mut self.changes);
        let ended = self.changes[before..].iter();
        ended.filter(|change| change.transition.kind == TransitionKind::Ended).count()
    }

    /// Looks a series up that has not been seen since the rules changed; `None` when no rule
    /// wants to know of it.
    fn place(&mut self, series: &Arc<Series>) -> Option<usize> {
        let number = series.number as usize;
        if self.slots.len() <= number {
            self.slots.resize(number + 1, UNKNOWN);
        }
        let index = match self.parked.remove(&series.key) {
            Some(index) => index,
            None => self.enter(KeyRef::Live(Arc::clone(series)))?,
        };
        if let Some(entry) = self.entries.get_mut(index) {
            entry.key = KeyRef::Live(Arc::clone(series));
        }
        let slot = u32::try_from(index).ok().and_then(|index| index.checked_add(2));
        self.slots[number] = slot.unwrap_or(UNWANTED);
        slot.map(|_| index)
    }

    /// Makes the entry of a series, or marks it as of no concern.
    fn enter(&mut self, key: KeyRef) -> Option<usize> {
        let tracked = self.fresh(key.get(), &[]);
        let seen = self.absences.of_series(key.get());
        if tracked.is_empty() && seen.is_empty() {
            if let KeyRef::Live(series) = &key {
                self.slots[series.number as usize] = UNWANTED;
            }
            return None;
        }
        self.entries.push(Entry { key, tracked, seen, seen_ms: self.now_ms });
        Some(self.entries.len() - 1)
    }

    /// The rules on a series that are not in `known` yet, with what history has for their windows.
    fn fresh(&self, key: &SeriesKey, known: &[Tracked]) -> Vec<Tracked> {
        let rules = self.by_metric.get(&*key.metric).map_or(&[][..], Vec::as_slice);
        let new = rules.iter().filter(|rule| {
            rule.wants(key) && !known.iter().any(|tracked| tracked.rule.id == rule.id)
        });
        let new = new.map(|rule| {
            let mut tracked = Tracked::new(Arc::clone(rule));
            for (at_ms, value) in self.warm.points(&rule.id, key) {
                tracked.warm(*at_ms, *value);
            }
            tracked
        });
        new.collect()
    }

    /// The rule on the series, made if need be, for restoring and for evaluating again.
    pub(crate) fn tracked(&mut self, rule: &Arc<Rule>, key: &SeriesKey) -> Option<&mut Tracked> {
        let index = match self.parked.get(key) {
            Some(index) => *index,
            None => {
                let shared = Arc::new(key.clone());
                let index = self.enter(KeyRef::Parked(Arc::clone(&shared)))?;
                self.parked.insert(shared, index);
                index
            }
        };
        let entry = self.entries.get_mut(index)?;
        entry.tracked.iter_mut().find(|tracked| tracked.rule.id == rule.id)
    }

    /// Evaluates a point of history again, after a restart.
    pub(crate) fn replay(&mut self, rule: &Arc<Rule>, key: &SeriesKey, sample: Sample, now: Now) {
        let Some(tracked) = self.tracked(rule, key) else { return };
        if let Some(transition) = tracked.point_at(key, sample, now) {
            let change = Change::of(tracked, key, transition);
            self.changes.push(change);
        }
    }

    /// Puts an alert back to the state that the database holds.
    pub(crate) fn restore(&mut self, row: &StateRow, now: impl Into<Now>) {
        let now = now.into();
        let [rule_id, ..] = &row.key;
        let rule = self.rules.enabled().find(|rule| rule.id == *rule_id).cloned();
        let key = series_of(&row.key);
        let (Some(rule), Some(key)) = (rule, key) else {
            self.forget(row, now.wall_ms);
            return;
        };
        let restored = Tracked::restored(Arc::clone(&rule), row);
        let wanted = if rule.evaluator.absent_ms().is_some() {
            self.absences.restore(restored, &key, now)
        } else if rule.evaluator.query().is_some() {
            rule.wants(&key) && self.results.restore(restored, &key)
        } else if let Some(tracked) = self.tracked(&rule, &key) {
            *tracked = restored;
            true
        } else {
            false
        };
        if !wanted {
            self.forget(row, now.wall_ms);
        }
    }

    /// Removes the row of a rule that is gone, and ends its alert.
    fn forget(&mut self, row: &StateRow, now_ms: i64) {
        let [rule_id, ..] = &row.key;
        let mut transition = Transition::default();
        if let Some(event) = row.detail.as_deref().and_then(AlertEvent::from_json) {
            let why = self.rules.why_gone(rule_id);
            let message = format!("{} ended: {why} (rule {})", event.series(), event.rule_name);
            transition = ended(event, (now_ms, None), message, because(why), false);
            transition.kind = TransitionKind::Ended;
        }
        self.changes.push(Change { key: row.key.clone(), row: None, active: None, transition });
    }

    /// Puts other rules in force. A rule that evaluates as before keeps its alerts; those of one
    /// that is gone, disabled or evaluates differently end.
    pub(crate) fn set_rules(&mut self, rules: Arc<RuleSet>, warm: Arc<Warm>, now: impl Into<Now>) {
        let now = now.into();
        let windows = rules.enabled().map(|rule| rule.evaluator.window_ms());
        self.cool_ms = now.steady_ms.saturating_add(windows.max().unwrap_or(0));
        self.warm = warm;
        self.index(Arc::clone(&rules));
        for slot in &mut self.slots {
            if *slot == UNWANTED {
                *slot = UNKNOWN;
            }
        }
        let mut entries = std::mem::take(&mut self.entries);
        for entry in &mut entries {
            let key = entry.key.get();
            let mut kept = Vec::new();
            for tracked in entry.tracked.drain(..) {
                self.keep_or_retire(tracked, key, &rules, now.wall_ms, &mut kept);
            }
            kept.extend(self.fresh(key, &kept));
            entry.tracked = kept;
        }
        self.absences.rebuild(&rules, &self.warm, now, &mut self.changes);
        self.results.rebuild(&rules, now.wall_ms, &mut self.changes);
        for entry in &mut entries {
            entry.seen = self.absences.of_series(entry.key.get());
        }
        self.entries = entries;
    }

    fn keep_or_retire(
        &mut self,
        mut tracked: Tracked,
        key: &SeriesKey,
        rules: &RuleSet,
        now_ms: i64,
        kept: &mut Vec<Tracked>,
    ) {
        let rule = rules.enabled().find(|rule| rule.id == tracked.rule.id);
        let Some(rule) = rule.filter(|rule| rule.evaluates_points() && rule.wants(key)) else {
            let reason = rules.why_gone(&tracked.rule.id);
            self.changes.extend(end(&mut tracked, key, now_ms, reason));
            return;
        };
        if rule.evaluates_like(&tracked.rule) {
            tracked.rule = Arc::clone(rule);
        } else {
            let points = self.warm.points(&rule.id, key);
            let adopted = tracked.adopt(Arc::clone(rule), points, key, now_ms);
            self.changes.extend(adopted.map(|transition| Change::of(&tracked, key, transition)));
        }
        kept.push(tracked);
    }

    /// Does what a person asks about the alert that `event_id` began: the event as it stands
    /// then, or `None` when no such alert fires here.
    pub(crate) fn act(&mut self, event_id: &str, act: &Act, now_ms: i64) -> Option<AlertEvent> {
        let fires =
            |tracked: &Tracked| tracked.active.as_ref().is_some_and(|active| active.id == event_id);
        for entry in &mut self.entries {
            if let Some(tracked) = entry.tracked.iter_mut().find(|tracked| fires(tracked)) {
                let key = entry.key.get();
                return answer(tracked, key, act, now_ms, &mut self.changes);
            }
        }
        let found = self.absences.find(fires).or_else(|| self.results.find(fires));
        let (tracked, key) = found?;
        answer(tracked, key, act, now_ms, &mut self.changes)
    }
}

/// Puts the check's own reason into the message of an invalid certificate's alert: "is 0, under 1"
/// says nothing.
fn explain(reasons: &Reasons, key: &SeriesKey, tracked: &mut Tracked, transition: &mut Transition) {
    if &*key.agent != CERT_AGENT || &*key.metric != IS_VALID {
        return;
    }
    let Some(reason) = reasons.lock().get(&key.labels).cloned() else { return };
    let domain = key.labels.get("domain").unwrap_or_default();
    let rule = &tracked.rule.draft.name;
    let text = format!("The certificate of {domain} is not valid: {reason} (rule {rule})");
    let notified = transition.notification.iter_mut().map(|(event, _)| event);
    let events = transition.events.iter_mut().chain(notified);
    for event in events.chain(tracked.active.as_deref_mut()) {
        if event.status == AlertStatus::Firing {
            event.message.clone_from(&text);
            if let Some(facts) = &mut event.facts {
                facts.cause = Cause::CertInvalid { reason: reason.clone() };
            }
        }
    }
}

/// The metric that says whether a certificate is valid.
const IS_VALID: &str = "certificate.is_valid";

fn answer(
    tracked: &mut Tracked,
    key: &SeriesKey,
    act: &Act,
    now_ms: i64,
    changes: &mut Vec<Change>,
) -> Option<AlertEvent> {
    let transition = match act {
        Act::Acknowledge => tracked.acknowledge(),
        Act::End { why } => tracked.end(now_ms, &format!("{} ended: {why}", subject(key)), why),
        Act::Resolve { who } => tracked.resolve_by_hand(key, now_ms, who),
    }?;
    let event = transition.events.first().cloned();
    changes.push(Change::of(tracked, key, transition));
    event
}

#[cfg(test)]
pub(crate) mod tests;
