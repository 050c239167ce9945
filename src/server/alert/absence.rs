//! Who has not been seen: the state behind `no_data` rules. Points end an absence, a timer
//! begins it.
//!
//! Absence is measured with a clock that nobody sets: a server whose clock is put right, or a
//! virtual machine that was asleep, misses nobody for it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::clock::Now;
use crate::model::alert::Cause;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::evaluate::{Condition, Sample, span};
use crate::server::alert::history::Warm;
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::state::Phase;
use crate::server::alert::tracked::{
    Change, NO_LONGER_FIRES, Tracked, Transition, TransitionKind, end,
};
use crate::server::alert::window::Window;

/// How far the clocks of agents are ahead of the server's, milliseconds, where they differ.
pub(crate) type Skews = Arc<Mutex<HashMap<Box<str>, i64>>>;

/// How long after a start nobody is missed: agents need their time to come back.
pub(crate) const GRACE_MS_MAX: i64 = 120_000;

/// One `no_data` rule on one agent, or on one metric of it.
#[derive(Debug)]
struct Absence {
    key: SeriesKey,
    tracked: Tracked,
    /// When it was last seen, steady milliseconds.
    seen_ms: i64,
    /// Nothing is missed before, steady milliseconds.
    grace_until_ms: i64,
    /// The agent was removed, and has not reported since.
    gone: bool,
}

/// The absences of one shard.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    rules: Vec<Arc<Rule>>,
    list: Vec<Absence>,
    /// Places in the list by rule and key.
    places: HashMap<(String, SeriesKey), usize>,
    /// Agents: when last seen, and their place in the list for each rule on a whole agent.
    agents: HashMap<Box<str>, Agent>,
    /// When the process began, steady milliseconds.
    started_ms: i64,
    skews: Skews,
}

#[derive(Debug, Default)]
struct Agent {
    seen_ms: i64,
    absences: Vec<usize>,
}

impl Absences {
    /// The rules, of which those are taken that are about absence.
    pub(crate) fn set_rules<'r>(&mut self, rules: impl Iterator<Item = &'r Arc<Rule>>) {
        self.rules = rules.filter(|rule| rule.evaluator.absent_ms().is_some()).cloned().collect();
    }

    /// Gives it the clocks that differ from the server's, which messages name.
    pub(crate) fn set_skews(&mut self, skews: Skews) {
        self.skews = skews;
    }

    /// Says who has been seen, and when (Unix milliseconds), before this process: they are
    /// missed if they do not come back.
    pub(crate) fn start(&mut self, agents: &[(String, i64)], warm: &Warm, now: Now) {
        self.started_ms = now.steady_ms;
        for (agent, seen_ms) in agents {
            self.know(agent, steady(*seen_ms, now), true);
        }
        for rule in self.rules.clone() {
            self.know_metrics(&rule, warm, now, true);
        }
    }

    fn know_metrics(&mut self, rule: &Arc<Rule>, warm: &Warm, now: Now, grace: bool) {
        for (agent, seen_ms) in warm.seen(&rule.id) {
            let (key, seen_ms) = (metric_key(rule, agent), steady(*seen_ms, now));
            let index = self.ensure(rule, &key, seen_ms, grace);
            if let Some(absence) = self.list.get_mut(index) {
                absence.seen_ms = absence.seen_ms.max(seen_ms);
            }
        }
    }

    /// Puts an absence back to the state that the database holds; false when its rule does not
    /// want it.
    pub(crate) fn restore(&mut self, tracked: Tracked, key: &SeriesKey, now: Now) -> bool {
        let rule = Arc::clone(&tracked.rule);
        if !rule.wants_agent(&key.agent) || rule.draft.metric != *key.metric {
            return false;
        }
        let seen_ms = steady(tracked.state.since_ms, now);
        let index = self.ensure(&rule, key, seen_ms, true);
        let whole = rule.draft.metric == "*";
        let Some(absence) = self.list.get_mut(index) else { return false };
        (absence.tracked, absence.gone) = (tracked, false);
        if whole {
            let agent = self.agents.entry(Box::from(&*key.agent)).or_default();
            agent.seen_ms = agent.seen_ms.max(seen_ms);
            if !agent.absences.contains(&index) {
                agent.absences.push(index);
            }
        }
        true
    }

    fn know(&mut self, agent: &str, seen_ms: i64, grace: bool) {
        let rules: Vec<Arc<Rule>> = self
            .rules
            .iter()
            .filter(|rule| rule.draft.metric == "*" && rule.wants_agent(agent))
            .cloned()
            .collect();
        let absences = rules.iter().map(|rule| {
            let index = self.ensure(rule, &metric_key(rule, agent), seen_ms, grace);
            if let Some(absence) = self.list.get_mut(index) {
                absence.seen_ms = absence.seen_ms.max(seen_ms);
                absence.gone = false;
            }
            index
        });
        let absences = absences.collect();
        self.agents.insert(agent.into(), Agent { seen_ms, absences });
    }

    fn ensure(&mut self, rule: &Arc<Rule>, key: &SeriesKey, seen_ms: i64, grace: bool) -> usize {
        let place = (rule.id.clone(), key.clone());
        if let Some(index) = self.places.get(&place) {
            return *index;
        }
        let grace_ms = rule.evaluator.absent_ms().unwrap_or(0).min(GRACE_MS_MAX);
        let grace_until_ms = if grace { self.started_ms.saturating_add(grace_ms) } else { 0 };
        let tracked = Tracked::new(Arc::clone(rule));
        self.list.push(Absence { key: key.clone(), tracked, seen_ms, grace_until_ms, gone: false });
        self.places.insert(place, self.list.len() - 1);
        self.list.len() - 1
    }

    /// Points of an agent have come.
    pub(crate) fn seen(&mut self, agent: &str, now: Now, changes: &mut Vec<Change>) {
        let Some(known) = self.agents.get_mut(agent) else {
            self.know(agent, now.steady_ms, false);
            return;
        };
        known.seen_ms = now.steady_ms;
        for index in &known.absences {
            if let Some(absence) = self.list.get_mut(*index) {
                absence.seen(now, &self.skews, changes);
            }
        }
    }

    /// A point of a metric has come whose place `of_series` gave.
    pub(crate) fn seen_metric(&mut self, index: usize, now: Now, changes: &mut Vec<Change>) {
        if let Some(absence) = self.list.get_mut(index) {
            absence.seen(now, &self.skews, changes);
        }
    }

    /// Places of the absences that a point of this series ends, besides those of its whole agent.
    pub(crate) fn of_series(&mut self, key: &SeriesKey) -> Vec<usize> {
        let wanted = |rule: &&Arc<Rule>| rule.draft.metric == *key.metric && rule.wants(key);
        let rules: Vec<Arc<Rule>> = self.rules.iter().filter(wanted).cloned().collect();
        let seen_ms = self.agents.get(&*key.agent).map_or(self.started_ms, |agent| agent.seen_ms);
        let places = rules
            .iter()
            .map(|rule| self.ensure(rule, &metric_key(rule, &key.agent), seen_ms, false));
        places.collect()
    }

    /// Evaluates every absence: some begin now.
    pub(crate) fn tick(&mut self, now: Now, changes: &mut Vec<Change>) {
        for absence in &mut self.list {
            absence.evaluate(now, &self.skews, changes);
        }
    }

    /// Puts other rules in force, as `Shard::set_rules` says.
    pub(crate) fn rebuild(
        &mut self,
        rules: &RuleSet,
        warm: &Warm,
        now: Now,
        changes: &mut Vec<Change>,
    ) {
        let mut kept = Vec::new();
        self.places.clear();
        for mut absence in std::mem::take(&mut self.list) {
            let id = &absence.tracked.rule.id;
            let same = rules.enabled().find(|rule| rule.id == *id).filter(|rule| {
                rule.evaluator.absent_ms().is_some()
                    && rule.wants_agent(&absence.key.agent)
                    && rule.draft.metric == *absence.key.metric
                    && rule.draft.config.get("labels")
                        == absence.tracked.rule.draft.config.get("labels")
            });
            if let Some(rule) = same {
                self.places.insert((rule.id.clone(), absence.key.clone()), kept.len());
                absence.tracked.rule = Arc::clone(rule);
                changes.extend(absence.recheck(now));
                kept.push(absence);
            } else {
                let key = absence.key.clone();
                let reason = rules.why_gone(id);
                changes.extend(end(&mut absence.tracked, &key, now.wall_ms, reason));
            }
        }
        self.list = kept;
        let agents: Vec<(Box<str>, i64)> =
            self.agents.iter().map(|(agent, known)| (agent.clone(), known.seen_ms)).collect();
        for (agent, seen_ms) in agents {
            self.know(&agent, seen_ms, false);
        }
        for rule in self.rules.clone() {
            self.know_metrics(&rule, warm, now, false);
        }
    }

    /// When points of an agent last came, steady milliseconds.
    pub(crate) fn last_seen(&self, agent: &str) -> Option<i64> {
        self.agents.get(agent).map(|known| known.seen_ms)
    }

    /// Ends the alerts of an agent and forgets it: it is not missed before it reports again.
    pub(crate) fn end_agent(
        &mut self,
        agent: &str,
        reason: &str,
        now_ms: i64,
        changes: &mut Vec<Change>,
    ) {
        self.agents.remove(agent);
        for absence in self.list.iter_mut().filter(|absence| &*absence.key.agent == agent) {
            changes.extend(end(&mut absence.tracked, &absence.key, now_ms, reason));
            absence.gone = true;
        }
    }

    /// Misses an agent that was last seen at `seen_ms` (Unix milliseconds), elsewhere.
    pub(crate) fn watch(&mut self, agent: &str, seen_ms: i64, now: Now) {
        self.know(agent, steady(seen_ms, now), false);
    }

    /// Forgets an agent that reports elsewhere: `take` gets what there is of it.
    pub(crate) fn let_go(&mut self, agent: &str, take: &mut dyn FnMut(&mut Tracked, &SeriesKey)) {
        self.agents.remove(agent);
        for absence in self.list.iter_mut().filter(|absence| &*absence.key.agent == agent) {
            take(&mut absence.tracked, &absence.key);
            absence.gone = true;
        }
    }

    /// The absence whose alert is wanted, with its key.
    pub(crate) fn find(
        &mut self,
        wanted: impl Fn(&Tracked) -> bool,
    ) -> Option<(&mut Tracked, &SeriesKey)> {
        let found = self.list.iter_mut().find(|absence| wanted(&absence.tracked))?;
        Some((&mut found.tracked, &found.key))
    }
}

impl Absence {
    /// After a change of the rule: an alert that it no longer begins ends with that reason.
    fn recheck(&mut self, now: Now) -> Option<Change> {
        let silent_ms = now.steady_ms.saturating_sub(self.seen_ms).max(0);
        let limit_ms = self.tracked.rule.evaluator.absent_ms()?;
        if self.tracked.state.phase != Phase::Firing || silent_ms >= limit_ms {
            return None;
        }
        end(&mut self.tracked, &self.key, now.wall_ms, NO_LONGER_FIRES)
    }

    fn seen(&mut self, now: Now, skews: &Skews, changes: &mut Vec<Change>) {
        (self.seen_ms, self.gone) = (now.steady_ms, false);
        if self.tracked.state.phase != Phase::Ok {
            self.evaluate(now, skews, changes);
        }
    }

    fn evaluate(&mut self, now: Now, skews: &Skews, changes: &mut Vec<Change>) {
        if self.gone {
            return;
        }
        let silent_ms = now.steady_ms.saturating_sub(self.seen_ms).max(0);
        let sample = Sample { at_ms: now.wall_ms, value: silent_ms as f64 / 1_000.0 };
        let evaluation = self.tracked.rule.evaluator.evaluate(sample, &Window::none());
        let ok = self.tracked.state.phase == Phase::Ok;
        if (ok && evaluation.condition == Condition::Clear)
            || (evaluation.condition == Condition::Breach && now.steady_ms < self.grace_until_ms)
        {
            return;
        }
        let since_ms = Some(now.wall_ms.saturating_sub(silent_ms));
        let transition = self.tracked.apply(&self.key, now.wall_ms, &evaluation, since_ms);
        if let Some(mut transition) = transition {
            name_skew(skews, &self.key.agent, &mut self.tracked, &mut transition);
            changes.push(Change::of(&self.tracked, &self.key, transition));
        }
    }
}

/// Adds to the message of an absence that begins what is known of the agent's clock: points of one
/// that is far ahead are rejected.
fn name_skew(skews: &Skews, agent: &str, tracked: &mut Tracked, transition: &mut Transition) {
    if transition.kind != TransitionKind::Fired {
        return;
    }
    let Some(ahead_ms) = skews.lock().get(agent).copied() else { return };
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let text = format!("; its clock is {} {way} the server's", span(ahead_ms.saturating_abs()));
    let notified = transition.notification.iter_mut().map(|(event, _)| event);
    let events = transition.events.iter_mut().chain(notified);
    for event in events.chain(tracked.active.as_deref_mut()) {
        let end = event.message.rfind(" (rule ").unwrap_or(event.message.len());
        event.message.insert_str(end, &text);
        if let Some(facts) = &mut event.facts {
            facts.cause = Cause::NoData { clock_ahead_ms: Some(ahead_ms) };
        }
    }
}

/// When somebody was seen, by the steady clock; not after now, whatever their clock said.
fn steady(seen_ms: i64, now: Now) -> i64 {
    now.steady_ms.saturating_sub(now.wall_ms.saturating_sub(seen_ms).max(0))
}

/// The key of an absence: a whole agent, or a metric of it whatever its labels.
fn metric_key(rule: &Rule, agent: &str) -> SeriesKey {
    let metric = rule.draft.metric.as_str().into();
    SeriesKey { agent: agent.into(), metric, labels: Labels::none() }
}

#[cfg(test)]
mod tests;
