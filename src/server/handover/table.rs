//! What this server tells the others: which agents report here, and the state of their alerts.
//! Each change gets the next version, so that whoever asks gets what is new to it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::clock::SECOND_MS;
use crate::base::ids::random_hex;
use crate::server::control::alerts::StateRow;
use crate::server::handover::news::{AgentNews, AlertNews, News, Place};

/// How old the time of an agent's last report may become at the others, milliseconds.
const SEEN_EVERY_MS: i64 = 15 * SECOND_MS;
/// Changes in one answer.
const CHANGES_MAX: usize = 5_000;
/// How long it is remembered that an alert has ended.
const ENDED_FOR: Duration = Duration::from_secs(600);
/// How long after its last question another server counts as one that listens.
const LISTENS_FOR: Duration = Duration::from_secs(4);
/// How long a notification waits for the others to know of it, milliseconds.
const UNKNOWN_MS_MAX: i64 = 3 * SECOND_MS;
/// A row may be made this much before its change is noted here, milliseconds.
const MARGIN_MS: i64 = 50;

struct Entry {
    version: u64,
    shown_ms: i64,
    place: Place,
}

struct Alert {
    version: u64,
    row: Option<StateRow>,
    is_sent: bool,
    changed: Instant,
}

/// How far another server has what is here.
struct Listener {
    /// What the last answer held, and when it was made (Unix milliseconds).
    answered: (u64, i64),
    /// It has everything up to this time, Unix milliseconds.
    knows_ms: i64,
    asked: Instant,
}

#[derive(Default)]
struct State {
    version: u64,
    /// What was forgotten is older.
    floor: u64,
    agents: HashMap<Box<str>, Entry>,
    alerts: HashMap<[String; 4], Alert>,
    listeners: HashMap<String, Listener>,
}

impl State {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}

/// See the module.
pub(crate) struct Table {
    boot: String,
    state: Mutex<State>,
}

impl Table {
    /// A table with the agents that reported before, each with when it was last seen and the newest
    /// time of its samples, and the alerts of before.
    pub(crate) fn new(
        agents: impl Iterator<Item = (String, i64, i64)>,
        alerts: Vec<(StateRow, bool)>,
    ) -> Self {
        let mut state = State { version: 1, ..State::default() };
        for (agent, seen_ms, newest_ms) in agents {
            // Whoever had it later has seen it later.
            let place = Place { claim: seen_ms, is_here: true, seen_ms, newest_ms };
            state.agents.insert(agent.into(), Entry { version: 1, shown_ms: seen_ms, place });
        }
        for (row, is_sent) in alerts {
            let (key, changed) = (row.key.clone(), Instant::now());
            state.alerts.insert(key, Alert { version: 1, row: Some(row), is_sent, changed });
        }
        Self { boot: random_hex(8), state: Mutex::new(state) }
    }

    /// Where an agent is, as far as this server is concerned.
    pub(crate) fn place(&self, agent: &str) -> Option<Place> {
        self.state.lock().agents.get(agent).map(|entry| entry.place)
    }

    /// How many agents are evaluated here.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().agents.values().filter(|entry| entry.place.is_here).count()
    }

    /// A report of an agent that is evaluated here.
    pub(crate) fn reported(&self, agent: &str, newest_ms: i64, now_ms: i64) {
        let mut state = self.state.lock();
        let next = state.version + 1;
        let Some(entry) = state.agents.get_mut(agent) else { return };
        entry.place.seen_ms = now_ms;
        entry.place.newest_ms = entry.place.newest_ms.max(newest_ms);
        if now_ms - entry.shown_ms >= SEEN_EVERY_MS {
            (entry.shown_ms, entry.version) = (now_ms, next);
            state.version = next;
        }
    }

    /// An agent is evaluated here from now on; `claim` is greater than all others.
    pub(crate) fn claim(&self, agent: &str, claim: i64, (seen_ms, newest_ms): (i64, i64)) {
        let mut state = self.state.lock();
        let version = state.next();
        let place = Place { claim, is_here: true, seen_ms, newest_ms };
        state.agents.insert(agent.into(), Entry { version, shown_ms: seen_ms, place });
    }

    /// An agent reports elsewhere. True when it was here.
    pub(crate) fn release(&self, agent: &str) -> bool {
        let mut state = self.state.lock();
        let version = state.next();
        let Some(entry) = state.agents.get_mut(agent) else { return false };
        entry.version = version;
        std::mem::take(&mut entry.place.is_here)
    }

    /// The state of an alert; `None` when it is simply ok, or no longer this server's.
    pub(crate) fn alert(&self, key: &[String; 4], row: Option<StateRow>, is_sent: bool) {
        let mut state = self.state.lock();
        let version = state.next();
        let alert = Alert { version, row, is_sent, changed: Instant::now() };
        state.alerts.insert(key.clone(), alert);
    }

    /// The alerts that are pending or firing, each with whether everybody was notified of it.
    pub(crate) fn open(&self) -> Vec<(StateRow, bool)> {
        let state = self.state.lock();
        let rows = state.alerts.values().filter_map(|it| Some((it.row.as_ref()?, it.is_sent)));
        let open = rows.filter(|(row, _)| row.state == "pending" || row.state == "firing");
        open.map(|(row, is_sent)| (row.clone(), is_sent)).collect()
    }

    /// Everybody was notified of the event with this id; gives its row.
    pub(crate) fn sent(&self, event_id: &str) -> Option<StateRow> {
        let mut state = self.state.lock();
        let version = state.next();
        let is_it = |alert: &&mut Alert| {
            let id = alert.row.as_ref().and_then(|row| row.event_id.as_deref());
            id == Some(event_id)
        };
        let alert = state.alerts.values_mut().find(is_it)?;
        (alert.version, alert.is_sent) = (version, true);
        alert.row.clone()
    }

    /// What is new since `since` of the table `boot`, for the server `who`, at `now_ms`.
    pub(crate) fn news(&self, who: &str, (boot, since): (&str, u64), now_ms: i64) -> News {
        let mut state = self.state.lock();
        state.forget();
        let reset = boot != self.boot || since < state.floor;
        let since = if reset { 0 } else { since };
        let mut changes: Vec<u64> = state.agents.values().map(|entry| entry.version).collect();
        changes.extend(state.alerts.values().map(|alert| alert.version));
        changes.retain(|version| *version > since);
        changes.sort_unstable();
        // All changes of one version go together.
        let last = changes.get(CHANGES_MAX).copied();
        let version = last.filter(|_| since > 0 || last > changes.first().copied());
        let version = version.unwrap_or(state.version);
        let is_new = |at: u64| at > since && at <= version;
        let agents = state.agents.iter().filter(|(_, entry)| is_new(entry.version));
        let agents =
            agents.map(|(agent, entry)| AgentNews { agent: agent.to_string(), place: entry.place });
        let agents = agents.collect();
        let alerts = state.alerts.iter().filter(|(_, alert)| is_new(alert.version));
        let alerts = alerts.map(|(key, alert)| AlertNews {
            key: key.clone(),
            row: alert.row.clone(),
            is_sent: alert.is_sent,
        });
        let alerts = alerts.collect();
        state.listen(who, (!reset).then_some(since), version, now_ms);
        let more = version < state.version;
        let boot = self.boot.clone();
        News { boot, version, reset, more, now_ms, settled_ms: now_ms, agents, alerts }
    }

    /// Unix milliseconds: all servers that listen have what was noted before.
    pub(crate) fn known_ms(&self, now_ms: i64) -> i64 {
        let state = self.state.lock();
        let listening = state.listeners.values().filter(|it| it.asked.elapsed() <= LISTENS_FOR);
        let known_ms = listening.map(|it| it.knows_ms.saturating_sub(MARGIN_MS)).min();
        known_ms.map_or(i64::MAX, |known_ms| known_ms.max(now_ms.saturating_sub(UNKNOWN_MS_MAX)))
    }
}

impl State {
    fn listen(&mut self, who: &str, since: Option<u64>, version: u64, now_ms: i64) {
        let new = || Listener { answered: (0, 0), knows_ms: i64::MIN, asked: Instant::now() };
        let listener = self.listeners.entry(who.to_owned()).or_insert_with(new);
        let (answered, answered_ms) = listener.answered;
        if since.is_some_and(|since| answered > 0 && since >= answered) {
            listener.knows_ms = answered_ms;
        }
        let is_whole = version >= self.version;
        listener.asked = Instant::now();
        if is_whole {
            listener.answered = (version, now_ms);
        }
    }

    fn forget(&mut self) {
        let old = |alert: &Alert| alert.row.is_none() && alert.changed.elapsed() > ENDED_FOR;
        let newest = self.alerts.values().filter(|a| old(a)).map(|a| a.version).max();
        if let Some(newest) = newest {
            self.floor = self.floor.max(newest);
            self.alerts.retain(|_, alert| !old(alert));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(agent: &str) -> StateRow {
        StateRow {
            key: ["r", agent, "cpu.usage", "{}"].map(str::to_owned),
            state: "firing".to_owned(),
            since_ms: 1_000,
            event_id: Some(format!("event of {agent}")),
            last_notified_ms: Some(2_000),
            acknowledged: false,
            detail: None,
            updated_ms: 2_000,
        }
    }

    #[test]
    fn others_get_what_is_new_to_them_and_everything_after_a_restart() {
        let agents = [("a".to_owned(), 1_000, 900)];
        let table = Table::new(agents.into_iter(), vec![(row("a"), true)]);
        let all = table.news("b", ("", 0), 5_000);
        assert!(all.reset && !all.more);
        assert_eq!((all.agents.len(), all.alerts.len()), (1, 1));
        assert!(all.agents[0].place.is_here && all.alerts[0].is_sent);
        let since = (all.boot.as_str(), all.version);
        assert_eq!(table.known_ms(5_100), 2_100, "its answer may not have arrived");
        let nothing = table.news("b", since, 6_000);
        assert!(!nothing.reset && nothing.agents.is_empty() && nothing.alerts.is_empty());
        assert_eq!(table.known_ms(6_000), 5_000 - MARGIN_MS);
        table.claim("b-1", 7_000, (7_000, 7_000));
        table.alert(&row("a").key, None, false);
        assert!(table.release("a") && !table.release("a"));
        let some = table.news("b", since, 7_500);
        assert_eq!((some.agents.len(), some.alerts.len()), (2, 1));
        assert!(some.alerts[0].row.is_none());
        assert!(table.news("b", ("another", 99), 8_000).reset);
    }

    #[test]
    fn a_report_is_news_now_and_then() {
        let table = Table::new([("a".to_owned(), 0, 0)].into_iter(), Vec::new());
        let all = table.news("b", ("", 0), 0);
        table.reported("a", 500, SEEN_EVERY_MS - 1);
        assert!(table.news("b", (&all.boot, all.version), 1).agents.is_empty());
        table.reported("a", 400, SEEN_EVERY_MS);
        let news = table.news("b", (&all.boot, all.version), 2);
        assert_eq!(news.agents[0].place.newest_ms, 500);
        assert_eq!(news.agents[0].place.seen_ms, SEEN_EVERY_MS);
    }

    #[test]
    fn nobody_waits_for_servers_that_do_not_listen() {
        let table = Table::new(std::iter::empty(), Vec::new());
        assert_eq!(table.known_ms(9_000), i64::MAX);
        table.alert(&row("a").key, Some(row("a")), false);
        assert_eq!(table.sent("event of a"), Some(row("a")));
        assert_eq!(table.sent("another"), None);
        assert!(table.news("b", ("", 0), 9_000).alerts[0].is_sent);
    }
}
