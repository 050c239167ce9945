//! Hosts with an alert that is pending or firing, of whose processes the server wants a snapshot:
//! once for each alert, and no more often than every [`SNAPSHOT_SECS_MIN`] a host.

use std::collections::{HashMap, HashSet};

use crate::base::clock::SECOND_MS;
use crate::base::limits::SNAPSHOT_SECS_MIN;

type Key = [String; 4];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Alerts that are pending or firing.
    alerts: HashSet<Key>,
    hosts: HashMap<String, Host>,
}

#[derive(Debug, Default)]
struct Host {
    /// Its alerts that are pending or firing.
    alerts: usize,
    /// One of them is new since the last snapshot.
    due: bool,
    /// When it was last asked, steady milliseconds.
    asked_ms: Option<i64>,
}

impl Suspects {
    /// Notes that an alert is pending or firing (`is_open`), or no longer is. One that was open
    /// before is not asked for again.
    pub(crate) fn note(&mut self, key: &Key, is_open: bool) {
        let [_, agent, ..] = key;
        if is_open {
            if self.alerts.insert(key.clone()) {
                let host = self.hosts.entry(agent.clone()).or_default();
                host.alerts += 1;
                host.due = true;
            }
        } else if self.alerts.remove(key)
            && let Some(host) = self.hosts.get_mut(agent)
        {
            host.alerts = host.alerts.saturating_sub(1);
            host.due &= host.alerts > 0;
        }
    }

    /// Notes an alert that is open since before this process: nothing is asked for it.
    pub(crate) fn know(&mut self, key: &Key) {
        let [_, agent, ..] = key;
        if self.alerts.insert(key.clone()) {
            self.hosts.entry(agent.clone()).or_default().alerts += 1;
        }
    }

    /// Whether to ask a host now, at a steady time in milliseconds. Saying so counts as asking.
    pub(crate) fn ask(&mut self, agent: &str, now_ms: i64) -> bool {
        let Some(host) = self.hosts.get_mut(agent) else { return false };
        let gap_ms = i64::try_from(SNAPSHOT_SECS_MIN).unwrap_or(i64::MAX) * SECOND_MS;
        let rests = host.asked_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < gap_ms);
        if host.alerts == 0 && !rests {
            self.hosts.remove(agent);
            return false;
        }
        if rests || !host.due {
            return false;
        }
        host.due = false;
        host.asked_ms = Some(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rule: &str, agent: &str) -> Key {
        [rule, agent, "cpu.usage", "{}"].map(str::to_owned)
    }

    #[test]
    fn a_host_is_asked_once_for_an_alert_and_not_too_often() {
        let mut suspects = Suspects::default();
        assert!(!suspects.ask("web-1", 0), "nothing is wrong");
        suspects.note(&key("a", "web-1"), true);
        assert!(suspects.ask("web-1", 1_000) && !suspects.ask("web-1", 200_000));
        suspects.note(&key("a", "web-1"), true);
        assert!(!suspects.ask("web-1", 300_000), "pending became firing");
        assert!(!suspects.ask("web-2", 300_000));
        suspects.note(&key("b", "web-1"), true);
        assert!(suspects.ask("web-1", 300_000), "a second alert");
        suspects.note(&key("a", "web-1"), false);
        suspects.note(&key("a", "web-1"), true);
        assert!(!suspects.ask("web-1", 310_000), "it flaps");
        assert!(suspects.ask("web-1", 360_000));
    }

    #[test]
    fn nothing_is_asked_for_what_is_over_or_was_there_before() {
        let mut suspects = Suspects::default();
        suspects.note(&key("a", "web-1"), true);
        suspects.note(&key("a", "web-1"), false);
        assert!(!suspects.ask("web-1", 0) && suspects.hosts.is_empty());
        suspects.know(&key("a", "web-1"));
        suspects.note(&key("a", "web-1"), true);
        assert!(!suspects.ask("web-1", 0));
    }
}
