//! What a target lacks: times of agents whose samples are stored here and were not sent, because
//! the queue was full or the server ended. They are read from the store and sent when there is
//! time, and stand in `cert.db` until then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::clock::MINUTE_MS;

/// Times closer than this become one: an agent reports every few seconds.
const JOIN_MS: i64 = MINUTE_MS;
/// Separate times of one agent; beyond it the two that are closest become one.
const RANGES_MAX: usize = 64;

/// First and last time, Unix milliseconds.
pub(super) type Times = (i64, i64);

/// A part of a gap that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The agent.
    pub(super) agent: Arc<str>,
    /// The times of the part, within a gap.
    pub(super) times: Times,
}

#[derive(Debug, Default)]
struct State {
    by_agent: BTreeMap<Arc<str>, Vec<Times>>,
    /// Agents whose rows differ from what `cert.db` has.
    changed: BTreeSet<Arc<str>>,
    /// Parts under way; true where samples came into one meanwhile.
    under_way: HashMap<Arc<str>, (Times, bool)>,
    /// Agents that are left alone for some time.
    resting: HashMap<Arc<str>, Instant>,
}

/// What one target lacks.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<State>);

impl Gaps {
    /// Takes over rows that `cert.db` has.
    pub(super) fn load(&self, agent: &str, times: Times) {
        self.0.lock().by_agent.entry(agent.into()).or_default().push(times);
    }

    /// Notes times whose samples are missing.
    pub(super) fn add(&self, agent: &Arc<str>, (from, to): Times) {
        let mut state = self.0.lock();
        if let Some(((start, end), hit)) = state.under_way.get_mut(agent) {
            *hit |= from <= *end && to >= *start;
        }
        let ranges = state.by_agent.entry(Arc::clone(agent)).or_default();
        if let Some((start, end)) = ranges.last_mut()
            && from >= *start
            && from <= end.saturating_add(JOIN_MS)
        {
            // What comes in order: the usual case.
            if to <= *end {
                return;
            }
            *end = to;
        } else {
            ranges.push((from, to));
            join(ranges);
        }
        state.changed.insert(Arc::clone(agent));
    }

    /// Whether something of an agent is missing.
    pub(super) fn has(&self, agent: &str) -> bool {
        self.0.lock().by_agent.contains_key(agent)
    }

    /// Unix milliseconds of the first sample that is missing; `None` when none is.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.0.lock().by_agent.values().flatten().map(|(from_ms, _)| *from_ms).min()
    }

    /// Whether something is missing in these times, of any agent.
    pub(super) fn touches(&self, (from, to): Times) -> bool {
        let state = self.0.lock();
        state.by_agent.values().flatten().any(|range| range.0 <= to && range.1 >= from)
    }

    /// The oldest part, of at most `longest_ms(agent)`, of the agents that `is_mine` means.
    pub(super) fn next(
        &self,
        is_mine: impl Fn(&str) -> bool,
        longest_ms: impl Fn(&str) -> i64,
    ) -> Option<Part> {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.resting.retain(|_, until| *until > now);
        let open = state.by_agent.iter().filter(|(agent, _)| {
            !state.resting.contains_key(*agent) && !state.under_way.contains_key(*agent)
        });
        let firsts = open.filter_map(|(agent, ranges)| Some((ranges.first()?, agent)));
        let (&(from, to), agent) = firsts.filter(|(_, agent)| is_mine(agent)).min()?;
        let agent = Arc::clone(agent);
        let times = (from, to.min(from.saturating_add(longest_ms(&agent).max(1) - 1)));
        state.under_way.insert(Arc::clone(&agent), (times, false));
        Some(Part { agent, times })
    }

    /// A part is sent: it is no longer missing, unless samples came into it meanwhile.
    pub(super) fn sent(&self, part: &Part) {
        let mut state = self.0.lock();
        let hit = state.under_way.remove(&part.agent).is_some_and(|(_, hit)| hit);
        if !hit {
            take_out(&mut state, &part.agent, part.times);
        }
    }

    /// A part could not be sent; its agent is left alone for `rest`.
    pub(super) fn failed(&self, part: &Part, rest: Duration) {
        let mut state = self.0.lock();
        state.under_way.remove(&part.agent);
        state.resting.insert(Arc::clone(&part.agent), Instant::now() + rest);
    }

    /// The rows of each agent that changed since the last call.
    pub(super) fn changed(&self) -> Vec<(Arc<str>, Vec<Times>)> {
        let mut state = self.0.lock();
        let changed = std::mem::take(&mut state.changed);
        let rows = |agent: Arc<str>| {
            let ranges = state.by_agent.get(&agent).cloned().unwrap_or_default();
            (agent, ranges)
        };
        changed.into_iter().map(rows).collect()
    }

    /// What [`Self::changed`] gave could not be written.
    pub(super) fn not_written(&self, agents: impl IntoIterator<Item = Arc<str>>) {
        self.0.lock().changed.extend(agents);
    }

    /// How many gaps there are, and how long they are together, milliseconds.
    pub(super) fn total(&self) -> (usize, i64) {
        let state = self.0.lock();
        let all = || state.by_agent.values().flatten();
        let length = |(from, to): &Times| to.saturating_sub(*from).saturating_add(1);
        (all().count(), all().map(length).fold(0, i64::saturating_add))
    }
}

fn take_out(state: &mut State, agent: &Arc<str>, (from, to): Times) {
    let Some(ranges) = state.by_agent.get_mut(agent) else { return };
    let mut left = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges.iter() {
        if end < from || start > to {
            left.push((start, end));
            continue;
        }
        if start < from {
            left.push((start, from - 1));
        }
        if end > to {
            left.push((to + 1, end));
        }
    }
    if left.is_empty() {
        state.by_agent.remove(agent);
    } else {
        *ranges = left;
    }
    state.changed.insert(Arc::clone(agent));
}

/// Sorts ranges and joins those that are close; then the closest, until there are few.
fn join(ranges: &mut Vec<Times>) {
    ranges.sort_unstable();
    let mut joined: Vec<Times> = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges.iter() {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(JOIN_MS) => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    while joined.len() > RANGES_MAX {
        let apart = |at: &usize| joined[at + 1].0.saturating_sub(joined[*at].1);
        let Some(at) = (0..joined.len() - 1).min_by_key(apart) else { break };
        let (_, end) = joined.remove(at + 1);
        joined[at].1 = end;
    }
    *ranges = joined;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(gaps: &Gaps) -> Vec<Times> {
        gaps.0.lock().by_agent.get("a").cloned().unwrap_or_default()
    }

    #[test]
    fn a_part_that_is_sent_leaves_the_rest() {
        let (gaps, a): (Gaps, Arc<str>) = (Gaps::default(), "a".into());
        gaps.add(&a, (1_000, 1_000));
        gaps.add(&a, (5_000, 700_000));
        gaps.add(&a, (10_000_000, 10_000_000));
        assert_eq!(rows(&gaps), [(1_000, 700_000), (10_000_000, 10_000_000)]);
        assert_eq!(gaps.changed().len(), 1);
        assert_eq!(gaps.total(), (2, 699_002));
        let part = gaps.next(|_| true, |_| 600_000).unwrap();
        assert_eq!(part.times, (1_000, 600_999));
        assert_eq!(gaps.next(|_| true, |_| 1), None, "one part of an agent at a time");
        gaps.sent(&part);
        assert_eq!(rows(&gaps), [(601_000, 700_000), (10_000_000, 10_000_000)]);
        assert_eq!(gaps.changed(), [(Arc::clone(&a), rows(&gaps))]);
        for _ in 0..2 {
            let part = gaps.next(|_| true, |_| 600_000).unwrap();
            gaps.sent(&part);
        }
        assert!(!gaps.has("a"));
        assert_eq!(gaps.changed(), [(a, vec![])]);
    }

    #[test]
    fn samples_that_come_into_a_part_under_way_are_sent_again() {
        let (gaps, a): (Gaps, Arc<str>) = (Gaps::default(), "a".into());
        gaps.add(&a, (0, 100));
        let part = gaps.next(|_| true, |_| 1_000).unwrap();
        gaps.add(&a, (50, 50));
        gaps.sent(&part);
        assert_eq!(rows(&gaps), [(0, 100)]);
        let part = gaps.next(|_| true, |_| 1_000).unwrap();
        gaps.failed(&part, Duration::from_secs(60));
        assert_eq!(gaps.next(|_| true, |_| 1_000), None);
        assert!(gaps.has("a"));
    }

    #[test]
    fn ranges_stay_few_and_lose_nothing() {
        let (gaps, a): (Gaps, Arc<str>) = (Gaps::default(), "a".into());
        for at in (0..200).rev() {
            gaps.add(&a, (at * 1_000_000, at * 1_000_000 + 5));
        }
        let rows = rows(&gaps);
        assert_eq!(rows.len(), RANGES_MAX);
        assert!(
            (0..200).all(|at| rows.iter().any(|r| r.0 <= at * 1_000_000 && at * 1_000_000 <= r.1))
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_stays(
            added in proptest::collection::vec((0i64..5_000_000, 0i64..200_000), 1..40),
            longest in 50_000i64..1_000_000,
        ) {
            let (gaps, a): (Gaps, Arc<str>) = (Gaps::default(), "a".into());
            for (from, length) in &added {
                gaps.add(&a, (*from, from + length));
            }
            let mut sent: Vec<Times> = Vec::new();
            while let Some(part) = gaps.next(|_| true, |_| longest) {
                gaps.sent(&part);
                sent.push(part.times);
            }
            proptest::prop_assert!(!gaps.has("a"));
            for (from, length) in added {
                for at in [from, from + length] {
                    proptest::prop_assert!(sent.iter().any(|s| s.0 <= at && at <= s.1));
                }
            }
        }
    }
}
