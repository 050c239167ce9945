//! Counters that only grow, and how much they grew since the collection before.

use std::collections::HashMap;
use std::time::Instant;

/// How much a counter grew. One that is smaller than before was reset, or has wrapped: what it did
/// in between is not known, so there is no growth rather than a spike.
pub(super) fn growth(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before)
}

/// A group's name and its counters.
pub(super) type Group<const N: usize> = (Box<str>, [u64; N]);

/// Groups of `N` counters each, such as those of one interface, as they were last.
pub(super) struct Counters<const N: usize> {
    before: HashMap<Box<str>, [u64; N]>,
    before_at: Option<Instant>,
}

/// What the groups did between two collections.
pub(super) struct Growth<const N: usize> {
    /// Seconds between the collections.
    pub secs: f64,
    /// Each group with how much each of its counters grew, in the order in which they came.
    pub groups: Vec<Group<N>>,
}

impl<const N: usize> Growth<N> {
    /// The growth of the one group there is.
    pub(super) fn only(&self) -> Option<[u64; N]> {
        self.groups.first().map(|(_, grown)| *grown)
    }

    /// A growth as a rate a second.
    pub(super) fn per_second(&self, grown: u64) -> f64 {
        grown as f64 / self.secs
    }
}

impl<const N: usize> Counters<N> {
    /// Nothing known yet.
    pub(super) fn new() -> Self {
        Self { before: HashMap::new(), before_at: None }
    }

    /// A group's counters as they were last.
    pub(super) fn last(&self, name: &str) -> Option<&[u64; N]> {
        self.before.get(name)
    }

    /// What the counters did since the call before; `None` for the first call. A group that is new
    /// or has a counter that went back is left out: counters of a group are reset together.
    pub(super) fn step(&mut self, at: Instant, now: Vec<Group<N>>) -> Option<Growth<N>> {
        let secs = self.before_at.map(|before| at.duration_since(before).as_secs_f64());
        let mut groups = Vec::with_capacity(now.len());
        for (name, counters) in &now {
            let Some(before) = self.before.get(name) else { continue };
            let mut grown = [0; N];
            let grew = grown
                .iter_mut()
                .zip(before.iter().zip(counters))
                .all(|(grown, pair)| growth(*pair.0, *pair.1).map(|by| *grown = by).is_some());
            if grew {
                groups.push((name.clone(), grown));
            }
        }
        self.before = now.into_iter().collect();
        self.before_at = Some(at);
        secs.filter(|secs| *secs > 0.0).map(|secs| Growth { secs, groups })
    }

    /// As [`Self::step`], for a source that has one group alone.
    pub(super) fn step_one(&mut self, at: Instant, now: [u64; N]) -> Option<Growth<N>> {
        self.step(at, vec![("".into(), now)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_counter_that_went_back_gives_nothing() {
        assert_eq!(growth(10, 25), Some(15));
        assert_eq!(growth(10, 10), Some(0));
        assert_eq!(growth(u64::MAX, 3), None);
        assert_eq!(growth(u64::from(u32::MAX), 100), None);
    }

    #[test]
    fn groups_that_are_new_or_went_back_are_left_out() {
        let mut counters = Counters::<2>::new();
        let at = Instant::now();
        let group = |name: &str, now| (Box::<str>::from(name), now);
        assert!(counters.step(at, vec![group("a", [1, 1]), group("b", [5, 5])]).is_none());
        let later = at + Duration::from_secs(2);
        let now = vec![group("a", [5, 1]), group("b", [9, 4]), group("c", [1, 1])];
        let growth = counters.step(later, now).unwrap();
        assert_eq!(growth.groups, [group("a", [4, 0])]);
        assert_eq!(growth.per_second(4), 2.0);
    }
}
