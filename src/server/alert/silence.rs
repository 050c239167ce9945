//! Who has not been heard of: the state behind `no_data` rules. Points end a silence, a timer
//! begins it.
//!
//! Silence is measured with a clock that nobody sets: a server whose clock is put right, or a
//! virtual machine that was asleep, misses nobody for it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::clock::Now;
use crate::model::series::{Labels, SeriesKey};
use crate::server::alert::history::Warm;
use crate::server::alert::rule::Rule;
use crate::server::alert::rules::{Sample, Verdict};
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::shard::{Change, retire};
use crate::server::alert::state::Phase;
use crate::server::alert::tracked::Tracked;
use crate::server::alert::window::Window;

/// How long after a start nobody is missed: agents need their time to come back.
pub const GRACE_MS_MAX: i64 = 120_000;

/// One `no_data` rule on one agent, or on one metric of it.
#[derive(Debug)]
struct Silence {
    key: SeriesKey,
    tracked: Tracked,
    /// When it was last heard of, steady milliseconds.
    heard_ms: i64,
    /// Nothing is missed before, steady milliseconds.
    quiet_until_ms: i64,
}

/// The silences of one shard.
#[derive(Debug, Default)]
pub struct Silences {
    rules: Vec<Arc<Rule>>,
    list: Vec<Silence>,
    /// Places in the list by rule and key.
    places: HashMap<(String, SeriesKey), usize>,
    /// Agents: when last heard of, and their place in the list for each rule on a whole agent.
    agents: HashMap<Box<str>, Agent>,
    /// When the process began, steady milliseconds.
    started_ms: i64,
}

#[derive(Debug, Default)]
struct Agent {
    heard_ms: i64,
    silences: Vec<usize>,
}

impl Silences {
    /// The rules, of which those are taken that are about silence.
    pub fn set_rules<'r>(&mut self, rules: impl Iterator<Item = &'r Arc<Rule>>) {
        self.rules = rules.filter(|rule| rule.judge.silence_ms().is_some()).cloned().collect();
    }

    /// Says who has been heard of, and when (Unix milliseconds), before this process: they are
    /// missed if they do not come back.
    pub fn start(&mut self, agents: &[(String, i64)], warm: &Warm, now: Now) {
        self.started_ms = now.steady_ms;
        for (agent, heard_ms) in agents {
            self.know(agent, steady(*heard_ms, now), true);
        }
        for rule in self.rules.clone() {
            self.know_metrics(&rule, warm, now, true);
        }
    }

    fn know_metrics(&mut self, rule: &Arc<Rule>, warm: &Warm, now: Now, grace: bool) {
        for (agent, heard_ms) in warm.heard(&rule.id) {
            let (key, heard_ms) = (metric_key(rule, agent), steady(*heard_ms, now));
            let index = self.ensure(rule, &key, heard_ms, grace);
            if let Some(silence) = self.list.get_mut(index) {
                silence.heard_ms = silence.heard_ms.max(heard_ms);
            }
        }
    }

    /// Puts a silence back to where the database says that it stands; false when its rule does not
    /// want it.
    pub fn restore(&mut self, tracked: Tracked, key: &SeriesKey, now: Now) -> bool {
        let rule = Arc::clone(&tracked.rule);
        if !rule.wants_agent(&key.agent) || rule.draft.metric != *key.metric {
            return false;
        }
        let heard_ms = steady(tracked.state.since_ms, now);
        let index = self.ensure(&rule, key, heard_ms, true);
        let whole = rule.draft.metric == "*";
        let Some(silence) = self.list.get_mut(index) else { return false };
        silence.tracked = tracked;
        if whole {
            let agent = self.agents.entry(Box::from(&*key.agent)).or_default();
            agent.heard_ms = agent.heard_ms.max(heard_ms);
            if !agent.silences.contains(&index) {
                agent.silences.push(index);
            }
        }
        true
    }

    fn know(&mut self, agent: &str, heard_ms: i64, grace: bool) {
        let rules: Vec<Arc<Rule>> = self
            .rules
            .iter()
            .filter(|rule| rule.draft.metric == "*" && rule.wants_agent(agent))
            .cloned()
            .collect();
        let silences = rules.iter().map(|rule| {
            let index = self.ensure(rule, &metric_key(rule, agent), heard_ms, grace);
            if let Some(silence) = self.list.get_mut(index) {
                silence.heard_ms = silence.heard_ms.max(heard_ms);
            }
            index
        });
        let silences = silences.collect();
        self.agents.insert(agent.into(), Agent { heard_ms, silences });
    }

    fn ensure(&mut self, rule: &Arc<Rule>, key: &SeriesKey, heard_ms: i64, grace: bool) -> usize {
        let place = (rule.id.clone(), key.clone());
        if let Some(index) = self.places.get(&place) {
            return *index;
        }
        let grace_ms = rule.judge.silence_ms().unwrap_or(0).min(GRACE_MS_MAX);
        let quiet_until_ms = if grace { self.started_ms.saturating_add(grace_ms) } else { 0 };
        let tracked = Tracked::new(Arc::clone(rule));
        self.list.push(Silence { key: key.clone(), tracked, heard_ms, quiet_until_ms });
        self.places.insert(place, self.list.len() - 1);
        self.list.len() - 1
    }

    /// Points of an agent have come.
    pub fn heard(&mut self, agent: &str, now: Now, changes: &mut Vec<Change>) {
        let Some(known) = self.agents.get_mut(agent) else {
            self.know(agent, now.steady_ms, false);
            return;
        };
        known.heard_ms = now.steady_ms;
        for index in &known.silences {
            if let Some(silence) = self.list.get_mut(*index) {
                silence.hear(now, changes);
            }
        }
    }

    /// A point of a metric has come whose place `of_series` gave.
    pub fn heard_metric(&mut self, index: usize, now: Now, changes: &mut Vec<Change>) {
        if let Some(silence) = self.list.get_mut(index) {
            silence.hear(now, changes);
        }
    }

    /// Places of the silences that a point of this series ends, besides those of its whole agent.
    pub fn of_series(&mut self, key: &SeriesKey) -> Vec<usize> {
        let wanted = |rule: &&Arc<Rule>| rule.draft.metric == *key.metric && rule.wants(key);
        let rules: Vec<Arc<Rule>> = self.rules.iter().filter(wanted).cloned().collect();
        let heard_ms = self.agents.get(&*key.agent).map_or(self.started_ms, |agent| agent.heard_ms);
        let places = rules
            .iter()
            .map(|rule| self.ensure(rule, &metric_key(rule, &key.agent), heard_ms, false));
        places.collect()
    }

    /// Judges every silence: some begin now.
    pub fn tick(&mut self, now: Now, changes: &mut Vec<Change>) {
        for silence in &mut self.list {
            silence.judge(now, changes);
        }
    }

    /// Puts other rules in force, as `Shard::set_rules` says.
    pub fn rebuild(&mut self, rules: &RuleSet, warm: &Warm, now: Now, changes: &mut Vec<Change>) {
        let mut kept = Vec::new();
        self.places.clear();
        for mut silence in std::mem::take(&mut self.list) {
            let id = &silence.tracked.rule.id;
            let same = rules.get(id).filter(|rule| rule.judges_like(&silence.tracked.rule));
            if let Some(rule) = same {
                self.places.insert((rule.id.clone(), silence.key.clone()), kept.len());
                silence.tracked.rule = Arc::clone(rule);
                kept.push(silence);
            } else {
                changes.extend(retire(&mut silence.tracked, &silence.key, now.wall_ms));
            }
        }
        self.list = kept;
        let agents: Vec<(Box<str>, i64)> =
            self.agents.iter().map(|(agent, known)| (agent.clone(), known.heard_ms)).collect();
        for (agent, heard_ms) in agents {
            self.know(&agent, heard_ms, false);
        }
        for rule in self.rules.clone() {
            self.know_metrics(&rule, warm, now, false);
        }
    }

    /// The silence whose alert is wanted, with its key.
    pub fn find(
        &mut self,
        wanted: impl Fn(&Tracked) -> bool,
    ) -> Option<(&mut Tracked, &SeriesKey)> {
        let found = self.list.iter_mut().find(|silence| wanted(&silence.tracked))?;
        Some((&mut found.tracked, &found.key))
    }
}

impl Silence {
    fn hear(&mut self, now: Now, changes: &mut Vec<Change>) {
        self.heard_ms = now.steady_ms;
        if self.tracked.state.phase != Phase::Ok {
            self.judge(now, changes);
        }
    }

    fn judge(&mut self, now: Now, changes: &mut Vec<Change>) {
        let silent_ms = now.steady_ms.saturating_sub(self.heard_ms).max(0);
        let sample = Sample { at_ms: now.wall_ms, value: silent_ms as f64 / 1_000.0 };
        let reading = self.tracked.rule.judge.judge(sample, &Window::none());
        let ok = self.tracked.state.phase == Phase::Ok;
        if (ok && reading.verdict == Verdict::Clear)
            || (reading.verdict == Verdict::Breach && now.steady_ms < self.quiet_until_ms)
        {
            return;
        }
        let since_ms = Some(now.wall_ms.saturating_sub(silent_ms));
        if let Some(outcome) = self.tracked.apply(&self.key, now.wall_ms, &reading, since_ms) {
            changes.push(Change::of(&self.tracked, &self.key, outcome));
        }
    }
}

/// When somebody was heard of, by the steady clock; not after now, whatever their clock said.
fn steady(heard_ms: i64, now: Now) -> i64 {
    now.steady_ms.saturating_sub(now.wall_ms.saturating_sub(heard_ms).max(0))
}

/// The key of a silence: a whole agent, or a metric of it whatever its labels.
fn metric_key(rule: &Rule, agent: &str) -> SeriesKey {
    let metric = rule.draft.metric.as_str().into();
    SeriesKey { agent: agent.into(), metric, labels: Labels::none() }
}

#[cfg(test)]
mod tests;
