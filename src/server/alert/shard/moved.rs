//! Alerts of agents that come from another server, or go to one.

use crate::base::clock::Now;
use crate::server::alert::moved::{Taken, hand_over, taken_over};
use crate::server::alert::shard::Shard;

impl Shard {
    /// Takes over an agent with the state that its alerts had elsewhere: whatever is known of it
    /// here is older. An agent that reports nowhere was last seen at `seen_ms` (Unix
    /// milliseconds), and is missed from here on.
    pub(crate) fn adopt(&mut self, agent: &str, taken: &[Taken], seen_ms: Option<i64>, now: Now) {
        self.now_ms = now.steady_ms;
        self.let_go(agent, taken, now.wall_ms);
        if let Some(seen_ms) = seen_ms {
            self.absences.watch(agent, seen_ms, now);
        }
        for taken in taken {
            self.take_over(taken, now);
        }
    }

    fn take_over(&mut self, taken: &Taken, now: Now) {
        let rules = std::sync::Arc::clone(&self.rules);
        let Some((tracked, key, change)) = taken_over(&rules, taken) else { return };
        let rule = std::sync::Arc::clone(&tracked.rule);
        let is_wanted = if rule.evaluator.absent_ms().is_some() {
            self.absences.restore(tracked, &key, now)
        } else if rule.evaluator.query().is_some() {
            rule.wants(&key) && self.results.restore(tracked, &key)
        } else {
            let now_ms = self.now_ms;
            // One that has reported before has a place already.
            let known = self.entries.iter().position(|entry| *entry.key.get() == key);
            let known = known.and_then(|at| self.entries.get_mut(at)).and_then(|entry| {
                entry.seen_ms = now_ms;
                entry.tracked.iter_mut().find(|known| known.rule.id == rule.id)
            });
            match known {
                Some(known) => {
                    *known = tracked;
                    true
                }
                None => match self.tracked(&rule, &key) {
                    Some(place) => {
                        *place = tracked;
                        true
                    }
                    None => false,
                },
            }
        };
        if is_wanted {
            self.changes.push(change);
        }
    }

    /// Forgets an agent that reports to another server, where `known` is known of its alerts.
    pub(crate) fn let_go(&mut self, agent: &str, known: &[Taken], now_ms: i64) {
        for entry in &mut self.entries {
            let key = entry.key.get();
            if &*key.agent == agent {
                let tracked = entry.tracked.iter_mut();
                let gone = tracked.filter_map(|tracked| hand_over(tracked, key, known, now_ms));
                self.changes.extend(gone);
            }
        }
        let changes = &mut self.changes;
        self.absences.let_go(agent, &mut |tracked, key| {
            changes.extend(hand_over(tracked, key, known, now_ms));
        });
        self.results.let_go(agent, &mut |tracked, key| {
            changes.extend(hand_over(tracked, key, known, now_ms));
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::model::series::{Labels, SeriesKey};
    use crate::server::alert::evaluate::Sample;
    use crate::server::alert::moved::{figures, rebuilt};
    use crate::server::alert::notify::NotifyKind;
    use crate::server::alert::shard::tests::rules;
    use crate::server::alert::tracked::{Change, TransitionKind};
    use crate::server::storage::Series;
    use std::sync::Arc;

    const SECOND: i64 = 1_000;

    fn hot() -> Value {
        json!({
            "name": "hot", "type": "threshold", "metric": "cpu.usage",
            "operator": "greater_than", "value": 90, "duration_secs": 10,
        })
    }

    fn absent() -> Value {
        json!({"name": "absent", "type": "no_data", "metric": "*", "duration_secs": 30})
    }

    fn at(secs: i64) -> Now {
        Now { wall_ms: secs * SECOND, steady_ms: secs * SECOND }
    }

    /// A server's shard, and the series of its one agent.
    struct Server(Shard, Arc<Series>);

    impl Server {
        fn new() -> Self {
            let key = SeriesKey {
                agent: "web".into(),
                metric: "cpu.usage".into(),
                labels: Labels::none(),
            };
            let series = Arc::new(Series { number: 0, metric_number: 0, key });
            Self(Shard::new(rules(&[hot(), absent()])), series)
        }

        fn report(&mut self, secs: i64, value: f64) -> Vec<Change> {
            let sample = Sample { at_ms: secs * SECOND, value };
            self.0.points("web", [(&self.1, sample)], at(secs));
            self.0.take_changes()
        }

        /// What the other server knows of the alerts that these changes left.
        fn told(changes: &[Change], is_sent: bool) -> Vec<Taken> {
            let rows = changes.iter().filter_map(|change| change.row.clone());
            rows.map(|row| Taken { row, is_sent }).collect()
        }

        fn adopt(&mut self, taken: &[Taken], watch_secs: Option<i64>, secs: i64) -> Vec<Change> {
            self.0.adopt("web", taken, watch_secs.map(|secs| secs * SECOND), at(secs));
            self.0.take_changes()
        }
    }

    fn kinds(changes: &[Change]) -> Vec<TransitionKind> {
        changes.iter().map(|change| change.transition.kind).collect()
    }

    #[test]
    fn a_pending_alert_keeps_its_beginning() {
        let (mut a, mut b) = (Server::new(), Server::new());
        let pending = a.report(100, 95.0);
        let taken = Server::told(&pending, true);
        assert_eq!(kinds(&b.adopt(&taken, None, 105)), [TransitionKind::TakenOver]);
        assert_eq!(kinds(&b.report(105, 95.0)), []);
        let fired = b.report(110, 95.0);
        assert_eq!(kinds(&fired), [TransitionKind::Fired]);
        assert_eq!(fired[0].active.as_ref().unwrap().first_triggered_at_ms, 100 * SECOND);
        a.0.let_go("web", &Server::told(&fired, true), 111 * SECOND);
        assert_eq!(kinds(&a.0.take_changes()), [TransitionKind::HandedOver]);
    }

    #[test]
    fn a_firing_alert_is_notified_again_only_where_nobody_knows_that_it_was() {
        for is_sent in [true, false] {
            let (mut a, mut b) = (Server::new(), Server::new());
            a.report(100, 95.0);
            let fired = a.report(110, 95.0);
            let id = fired[0].active.as_ref().unwrap().id.clone();
            let taken = b.adopt(&Server::told(&fired, is_sent), None, 112);
            let (event, kind) = taken[0].transition.notification.clone().unwrap();
            assert_eq!(event.id, id);
            match kind {
                NotifyKind::TakenOver { notified_ms } => {
                    assert!(is_sent && notified_ms == 110 * SECOND);
                }
                kind => assert!(!is_sent && kind == NotifyKind::Firing),
            }
            assert_eq!(kinds(&b.report(115, 96.0)), []);
            let ended = b.report(120, 10.0);
            assert_eq!(kinds(&ended), [TransitionKind::Resolved]);
            // The first server comes back and lets go of what the second has ended.
            a.0.let_go("web", &Server::told(&ended, true), 130 * SECOND);
            let gone = a.0.take_changes();
            assert_eq!(kinds(&gone), [TransitionKind::HandedOver]);
            assert_eq!(gone[0].transition.events[0].id, id);
            assert!(gone[0].active.is_none());
        }
    }

    #[test]
    fn an_alert_that_nobody_else_knows_ends_when_its_agent_is_elsewhere() {
        let mut a = Server::new();
        a.report(100, 95.0);
        a.report(110, 95.0);
        a.0.let_go("web", &[], 120 * SECOND);
        assert_eq!(kinds(&a.0.take_changes()), [TransitionKind::Ended]);
    }

    #[test]
    fn an_agent_is_missed_by_the_server_that_watches_it_and_by_no_other() {
        let (mut a, mut b) = (Server::new(), Server::new());
        a.report(100, 1.0);
        a.0.let_go("web", &[], 110 * SECOND);
        a.0.tick(at(200));
        assert_eq!(kinds(&a.0.take_changes()), []);
        b.adopt(&[], Some(100), 120);
        b.0.tick(at(129));
        assert_eq!(kinds(&b.0.take_changes()), []);
        b.0.tick(at(131));
        let missed = b.0.take_changes();
        assert_eq!(kinds(&missed), [TransitionKind::Fired]);
        // It comes back to the first server.
        let taken = a.adopt(&Server::told(&missed, true), None, 140);
        assert_eq!(kinds(&taken), [TransitionKind::TakenOver]);
        assert_eq!(kinds(&a.report(140, 1.0)), [TransitionKind::Resolved]);
    }

    #[test]
    fn what_the_engine_has_makes_the_same_alert() {
        let mut a = Server::new();
        let pending = a.report(100, 95.0);
        let fired = a.report(110, 95.0);
        let in_force = rules(&[hot()]);
        for change in pending.iter().chain(&fired) {
            let row = change.row.as_ref().unwrap();
            let known = figures(row, true, 0).unwrap();
            let made = rebuilt(&in_force, &known).unwrap();
            assert_eq!((&made.row, made.is_sent), (row, true));
        }
        let unknown = figures(fired[0].row.as_ref().unwrap(), true, 0).unwrap();
        assert_eq!(rebuilt(&rules(&[absent()]), &unknown), None, "no rule wants it");
    }
}
