//! How far the audit of one target is: until when all was counted, and what is counted again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::clock::{MINUTE_MS, SECOND_MS};
use crate::server::remote::gaps::Times;

/// Agents whose times wait for being counted again.
const AGAIN_MAX: usize = 100_000;

/// Times of an agent that are counted again once they were sent again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    /// The agent.
    pub(super) agent: Arc<str>,
    /// First and last time, Unix milliseconds.
    pub(super) times: Times,
    /// How often they were sent again already.
    pub(super) round: u32,
    due: Instant,
}

/// How far the audit of one target is.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// How old samples are before they are counted: an engine shows new ones after some seconds,
    /// and a replica that comes back answers short for a while.
    settled_ms: i64,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Everything before was counted, but for what is in `again`. Unix milliseconds.
    to_ms: Option<i64>,
    again: Vec<Again>,
}

impl Progress {
    /// Nothing is counted yet; samples are once they are `settled_secs` old.
    pub(super) fn new(settled_secs: u64) -> Self {
        let settled_ms = i64::try_from(settled_secs).unwrap_or(i64::MAX).saturating_mul(SECOND_MS);
        Self { state: Mutex::default(), settled_ms, since: Instant::now() }
    }

    /// Has times counted again later.
    pub(super) fn again(&self, agent: Arc<str>, times: Times, round: u32) {
        again(&mut self.state.lock(), self.settled_ms, (agent, times, round));
    }

    /// Samples of times that were audited already arrived late: they are counted once more.
    pub(super) fn arrived(&self, agent: &Arc<str>, ms: i64) {
        let mut state = self.state.lock();
        if state.to_ms.is_none_or(|to| ms >= to) {
            return;
        }
        let known = state.again.last_mut().filter(|last| last.agent == *agent && last.round == 0);
        if let Some(last) = known
            && ms >= last.times.0 - MINUTE_MS
            && ms <= last.times.1 + MINUTE_MS
        {
            last.times = (last.times.0.min(ms), last.times.1.max(ms));
            return;
        }
        again(&mut state, self.settled_ms, (Arc::clone(agent), (ms, ms), 0));
    }

    /// The time before which all is audited, Unix milliseconds.
    pub(super) fn done_ms(&self) -> Option<i64> {
        let state = self.state.lock();
        let open = state.again.iter().map(|again| again.times.0).min();
        Some(state.to_ms?.min(open.unwrap_or(i64::MAX)))
    }

    /// Whether the first audit may begin: what has just arrived, however old, is counted by it.
    pub(super) fn may_begin(&self) -> bool {
        let settled = Duration::from_millis(self.settled_ms.unsigned_abs());
        self.to_ms().is_some() || self.since.elapsed() >= settled
    }

    /// How old samples are before they are counted, milliseconds.
    pub(super) fn settled_ms(&self) -> i64 {
        self.settled_ms
    }

    /// Until when all was counted, but for what is counted again; `None` before the first audit.
    pub(super) fn to_ms(&self) -> Option<i64> {
        self.state.lock().to_ms
    }

    /// All before was counted, Unix milliseconds.
    pub(super) fn set_to_ms(&self, to_ms: i64) {
        self.state.lock().to_ms = Some(to_ms);
    }

    /// Takes what is to be counted again now.
    pub(super) fn due(&self) -> Vec<Again> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let all = std::mem::take(&mut state.again);
        let (due, rest) = all.into_iter().partition(|again| again.due <= now);
        state.again = rest;
        due
    }
}

fn again(state: &mut State, settled_ms: i64, (agent, times, round): (Arc<str>, Times, u32)) {
    if state.again.len() >= AGAIN_MAX {
        // Everything since the earliest of them is counted again instead.
        let first = state.again.iter().map(|again| again.times.0).min().unwrap_or(times.0);
        state.to_ms = state.to_ms.map(|to| to.min(first).min(times.0));
        state.again.clear();
        return;
    }
    let due = Instant::now() + Duration::from_millis(settled_ms.unsigned_abs());
    state.again.push(Again { agent, times, round, due });
}
