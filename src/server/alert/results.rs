//! What the expressions of `promql` rules gave last, as the alerts of their series. Pure of
//! threads, clocks and databases, like the rest of a shard.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::limits::PROMQL_RULE_SERIES_MAX;
use crate::model::series::SeriesKey;
use crate::server::alert::evaluate::{Condition, Evaluation, Sample};
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::state::{CLOCK_AHEAD_MS_MAX, Phase};
use crate::server::alert::tracked::{Change, Tracked, end};
use crate::server::alert::window::Window;

/// The series of one result of one rule, as far as one shard has their agents.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The rule that was evaluated.
    pub rule: Arc<Rule>,
    /// The time that it was evaluated for, Unix milliseconds.
    pub at_ms: i64,
    /// Each series with its value.
    pub series: Vec<(SeriesKey, f64)>,
}

/// The alerts of one shard that come from queries.
#[derive(Debug, Default)]
pub(crate) struct Results {
    rules: HashMap<String, Arc<Rule>>,
    tracked: HashMap<String, HashMap<SeriesKey, Tracked>>,
}

impl Results {
    /// The rules, of which those are taken that are queries.
    pub(crate) fn set_rules<'r>(&mut self, rules: impl Iterator<Item = &'r Arc<Rule>>) {
        let queries = rules.filter(|rule| rule.evaluator.query().is_some());
        self.rules = queries.map(|rule| (rule.id.clone(), Arc::clone(rule))).collect();
    }

    /// Puts an alert back to the state that the database holds; false when its rule has no query.
    pub(crate) fn restore(&mut self, tracked: Tracked, key: &SeriesKey) -> bool {
        let id = &tracked.rule.id;
        if !self.rules.contains_key(id) {
            return false;
        }
        self.tracked.entry(id.clone()).or_default().insert(key.clone(), tracked);
        true
    }

    /// Holds a result against what fires: series that it has breach, those that it lacks are clear.
    /// Gives how many series were evaluated.
    pub(crate) fn take(&mut self, answer: &Answer, now: Now, changes: &mut Vec<Change>) -> u64 {
        let Answer { rule, at_ms, series } = answer;
        let Some(current) = self.rules.get(&rule.id).filter(|it| it.evaluates_like(rule)) else {
            // The rule was changed while it was evaluated; the next result is the new one's.
            return 0;
        };
        let tracked = self.tracked.entry(rule.id.clone()).or_default();
        for (key, value) in series {
            let known = match tracked.get_mut(key) {
                Some(known) => known,
                None => {
                    tracked.entry(key.clone()).or_insert_with(|| Tracked::new(Arc::clone(current)))
                }
            };
            let sample = Sample { at_ms: *at_ms, value: *value };
            let evaluation = current.evaluator.evaluate(sample, &Window::none());
            step(known, key, *at_ms, now, &evaluation, changes);
        }
        let present: HashSet<&SeriesKey> = series.iter().map(|(key, _)| key).collect();
        for (key, known) in tracked.iter_mut().filter(|(key, _)| !present.contains(key)) {
            let last = known.active.as_deref().map(|event| (event.value, event.threshold));
            let (value, threshold) = last.unwrap_or_default();
            let evaluation = Evaluation::plain(Condition::Clear, value, threshold);
            step(known, key, *at_ms, now, &evaluation, changes);
        }
        let crowded = tracked.len() > 2 * PROMQL_RULE_SERIES_MAX;
        tracked.retain(|_, known| !is_forgotten(known, *at_ms, crowded));
        series.len() as u64
    }

    /// Puts other rules in force: alerts of those that are gone end; the next result decides about
    /// those of rules that were changed.
    pub(crate) fn rebuild(&mut self, rules: &RuleSet, now_ms: i64, changes: &mut Vec<Change>) {
        for (id, tracked) in &mut self.tracked {
            if let Some(rule) = self.rules.get(id) {
                tracked.values_mut().for_each(|known| known.rule = Arc::clone(rule));
                continue;
            }
            for (key, mut known) in tracked.drain() {
                changes.extend(end(&mut known, &key, now_ms, rules.why_gone(id)));
            }
        }
        self.tracked.retain(|_, tracked| !tracked.is_empty());
    }

    /// Ends the alerts of an agent.
    pub(crate) fn end_agent(
        &mut self,
        agent: &str,
        reason: &str,
        now_ms: i64,
        changes: &mut Vec<Change>,
    ) {
        let all = self.tracked.values_mut().flatten();
        for (key, known) in all.filter(|(key, _)| &*key.agent == agent) {
            changes.extend(end(known, key, now_ms, reason));
        }
    }

    /// Forgets an agent that reports elsewhere: `take` gets what there is of it.
    pub(crate) fn let_go(&mut self, agent: &str, take: &mut dyn FnMut(&mut Tracked, &SeriesKey)) {
        let all = self.tracked.values_mut().flatten();
        all.filter(|(key, _)| &*key.agent == agent).for_each(|(key, known)| take(known, key));
    }

    /// The series whose alert is wanted, with its key.
    pub(crate) fn find(
        &mut self,
        wanted: impl Fn(&Tracked) -> bool,
    ) -> Option<(&mut Tracked, &SeriesKey)> {
        let mut all = self.tracked.values_mut().flatten();
        all.find(|(_, known)| wanted(known)).map(|(key, known)| (known, key))
    }
}

fn step(
    tracked: &mut Tracked,
    key: &SeriesKey,
    at_ms: i64,
    now: Now,
    evaluation: &Evaluation,
    changes: &mut Vec<Change>,
) {
    // A clock that was ahead and has been put back.
    if tracked.state.last_ms > now.wall_ms.saturating_add(CLOCK_AHEAD_MS_MAX) {
        tracked.state.put_back(at_ms);
    }
    if at_ms <= tracked.state.last_ms {
        return;
    }
    if let Some(transition) = tracked.apply(key, at_ms, evaluation, None) {
        changes.push(Change::of(tracked, key, transition));
    }
}

/// Whether nothing of a series is left to be remembered: it is ok, and its repeat interval has
/// passed.
fn is_forgotten(tracked: &Tracked, at_ms: i64, crowded: bool) -> bool {
    tracked.state.phase == Phase::Ok
        && (crowded || tracked.state.repeat_due(tracked.rule.policy(), at_ms))
}

#[cfg(test)]
mod tests;
