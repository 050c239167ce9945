//! What another server has said of its agents and their alerts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::server::alert::moved::Taken;
use crate::server::handover::news::{News, Place};
use crate::server::peers::Sister;

/// How long a server that does not answer counts as one that is about to.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// How old an answer may be of a server that counts as alive.
const ALIVE_FOR: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    boot: String,
    version: u64,
    agents: HashMap<Box<str>, Place>,
    /// By agent.
    alerts: HashMap<Box<str>, Vec<Taken>>,
    /// When it last answered.
    answered: Option<Instant>,
    /// When it first did not, since then.
    away_since: Option<Instant>,
    fault: String,
    /// What it said of itself then, by the clock of this server: the time of its answer, and until
    /// when its samples are at the engine. Unix milliseconds.
    answered_ms: i64,
    settled_ms: i64,
}

/// See the module.
pub(super) struct Mirror {
    /// The server.
    pub(super) sister: Arc<Sister>,
    state: Mutex<State>,
    /// Held while it is asked.
    pub(super) asking: Mutex<()>,
}

/// Times of which a server that does not answer may have samples that nobody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsure {
    /// Unix milliseconds.
    pub(super) from_ms: i64,
    /// Unix milliseconds.
    pub(super) to_ms: i64,
    /// Why it does not answer.
    pub(super) why: String,
}

impl Mirror {
    /// Nothing is known of a server yet.
    pub(super) fn new(sister: Arc<Sister>) -> Self {
        let state = State { away_since: Some(Instant::now()), ..State::default() };
        Self { sister, state: Mutex::new(state), asking: Mutex::new(()) }
    }

    /// What to ask for: the table and the version that are known.
    pub(super) fn since(&self) -> (String, u64) {
        let state = self.state.lock();
        (state.boot.clone(), state.version)
    }

    /// Whether it answered after `time`.
    pub(super) fn answered_after(&self, time: Instant) -> bool {
        self.state.lock().answered.is_some_and(|answered| answered >= time)
    }

    /// Whether it has neither answered nor failed to.
    pub(super) fn is_new(&self) -> bool {
        let state = self.state.lock();
        state.answered.is_none() && state.fault.is_empty()
    }

    /// Whether it has ever answered.
    pub(super) fn is_known(&self) -> bool {
        self.state.lock().answered.is_some()
    }

    /// Whether it answers.
    pub(super) fn is_alive(&self) -> bool {
        let state = self.state.lock();
        state.away_since.is_none()
            && state.answered.is_some_and(|answered| answered.elapsed() <= ALIVE_FOR)
    }

    /// Whether it has not answered for so long that its agents are looked after.
    pub(super) fn is_dead(&self) -> bool {
        let state = self.state.lock();
        state.away_since.is_some_and(|since| since.elapsed() >= DEAD_AFTER)
    }

    /// Takes an answer at `now_ms`. Gives the agents whose place has changed.
    pub(super) fn take(&self, news: News, now_ms: i64) -> Vec<(String, Place)> {
        let ahead_ms = news.now_ms - now_ms;
        let mut state = self.state.lock();
        if news.reset {
            state.agents.clear();
            state.alerts.clear();
        }
        (state.boot, state.version) = (news.boot, news.version);
        (state.answered, state.away_since) = (Some(Instant::now()), None);
        (state.answered_ms, state.settled_ms) = (now_ms, news.settled_ms - ahead_ms);
        for alert in news.alerts {
            let [_, agent, ..] = &alert.key;
            let known = state.alerts.entry(agent.as_str().into()).or_default();
            known.retain(|taken| taken.row.key != alert.key);
            let is_sent = alert.is_sent;
            known.extend(alert.row.map(|row| Taken { row, is_sent }));
        }
        state.alerts.retain(|_, known| !known.is_empty());
        let mut changed = Vec::with_capacity(news.agents.len());
        for agent in news.agents {
            // Its clock may differ; claims are compared as they are.
            let place = Place { seen_ms: agent.place.seen_ms - ahead_ms, ..agent.place };
            state.agents.insert(agent.agent.as_str().into(), place);
            changed.push((agent.agent, place));
        }
        changed
    }

    /// It did not answer. True when it did before.
    pub(super) fn failed(&self, why: &str) -> bool {
        let mut state = self.state.lock();
        why.clone_into(&mut state.fault);
        let was_alive = state.away_since.is_none();
        state.away_since.get_or_insert_with(Instant::now);
        was_alive
    }

    /// Where it has an agent.
    pub(super) fn place(&self, agent: &str) -> Option<Place> {
        self.state.lock().agents.get(agent).copied()
    }

    /// Every agent that it has or had.
    pub(super) fn places(&self) -> Vec<(String, Place)> {
        let state = self.state.lock();
        state.agents.iter().map(|(agent, place)| (agent.to_string(), *place)).collect()
    }

    /// The state of an agent's alerts there.
    pub(super) fn alerts(&self, agent: &str) -> Vec<Taken> {
        self.state.lock().alerts.get(agent).cloned().unwrap_or_default()
    }

    /// The state of all alerts there.
    pub(super) fn all_alerts(&self) -> Vec<Taken> {
        self.state.lock().alerts.values().flatten().cloned().collect()
    }

    /// Until when its samples are at the engine; `None` when it never said so.
    pub(super) fn settled_ms(&self) -> Option<i64> {
        let state = self.state.lock();
        state.answered.map(|_| state.settled_ms)
    }

    /// The times of which it alone may have samples, while it does not answer.
    pub(super) fn unsure(&self) -> Option<Unsure> {
        let state = self.state.lock();
        state.away_since?;
        state.answered?;
        let (from_ms, to_ms) = (state.settled_ms, state.answered_ms);
        Some(Unsure { from_ms, to_ms, why: state.fault.clone() })
    }

    /// Why it does not answer; `None` while it does.
    pub(super) fn fault(&self) -> Option<String> {
        let state = self.state.lock();
        state.away_since.map(|_| state.fault.clone())
    }
}
