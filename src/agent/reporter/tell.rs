//! What the reporter says in the log: changes, not each tick.

use std::time::{Duration, Instant};

use super::link::{Failure, FailureKind};

/// Drops are told once in so long, with their number; so is why the server refuses batches.
const DROPS_EVERY: Duration = Duration::from_secs(60);
/// What the server remarks on stored batches is told once in so long.
const REMARKS_EVERY: Duration = Duration::from_secs(600);

/// What was said last.
pub(super) struct Teller {
    state: State,
    drops: u64,
    drops_at: Option<Instant>,
    refused_at: Option<Instant>,
    remark_at: Option<Instant>,
    backfilled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Connected,
    Failing(FailureKind),
}

impl Teller {
    pub(super) fn new() -> Self {
        Self {
            state: State::Starting,
            drops: 0,
            drops_at: None,
            refused_at: None,
            remark_at: None,
            backfilled: 0,
        }
    }

    /// Whether the last call worked.
    pub(super) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// A call worked.
    pub(super) fn connected(&mut self, endpoint: &str) {
        if !self.is_connected() {
            self.state = State::Connected;
            log::info!("connected to {endpoint}");
        }
    }

    /// Nothing is known of the link any more.
    pub(super) fn starting(&mut self) {
        self.state = State::Starting;
    }

    /// A call failed.
    pub(super) fn failed(&mut self, endpoint: &str, failure: &Failure) {
        let state = State::Failing(failure.kind);
        if std::mem::replace(&mut self.state, state) == state {
            log::debug!("{endpoint} again: {}", failure.text);
            return;
        }
        let what = match failure.kind {
            FailureKind::Unreachable => "cannot reach",
            FailureKind::Busy => "asked to wait by",
            FailureKind::Denied => "not accepted by",
            FailureKind::Unimplemented => "no oxmon server behind",
            FailureKind::Local => "cannot report to",
        };
        let advice = match failure.kind {
            FailureKind::Denied => {
                "; check auth_token and agent_id against the server's whitelist, or run \
                 `oxmon-agent enroll` with a new code"
            }
            FailureKind::Unimplemented => "; check server_endpoint",
            _ => "",
        };
        log::warn!("{what} {endpoint}: {}{advice}; batches wait in the buffer", failure.text);
    }

    /// The server refused a batch for good.
    pub(super) fn refused(&mut self, message: &str, now: Instant) {
        let due = self.refused_at.is_none_or(|at| now.duration_since(at) >= DROPS_EVERY);
        if due {
            self.refused_at = Some(now);
            log::warn!("the server refused a batch, which is dropped: {message}");
        }
    }

    /// The server stored a batch and had something to say, such as how many points it left out.
    pub(super) fn remark(&mut self, message: &str, now: Instant) {
        let due = self.remark_at.is_none_or(|at| now.duration_since(at) >= REMARKS_EVERY);
        if due {
            self.remark_at = Some(now);
            log::warn!("the server says of a batch that it stored: {message}");
        }
    }

    /// So many batches that waited are stored, and whether none waits now.
    pub(super) fn backfilled(&mut self, batches: usize, is_last: bool) {
        self.backfilled += batches;
        if is_last {
            let count = std::mem::take(&mut self.backfilled);
            if count > 1 {
                log::info!("{count} batches that waited are with the server");
            }
        }
    }

    /// So many batches were dropped since the start, and so many wait.
    pub(super) fn drops(&mut self, dropped: u64, waiting: usize, now: Instant) {
        let due = self.drops_at.is_none_or(|at| now.duration_since(at) >= DROPS_EVERY);
        if dropped > self.drops && due {
            log::warn!("{} batches were dropped; {waiting} wait", dropped - self.drops);
            self.drops = dropped;
            self.drops_at = Some(now);
        }
    }
}
