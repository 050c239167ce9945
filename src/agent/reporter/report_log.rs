//! What the reporter logs: changes of state, not each call.

use std::time::{Duration, Instant};

use super::link::{Failure, FailureKind};

/// Least time between two lines about dropped or refused batches.
const DROPS_EVERY: Duration = Duration::from_secs(60);
/// Least time between two lines about what the server remarks on stored batches.
const REMARKS_EVERY: Duration = Duration::from_secs(600);

/// A difference of the clocks from which on it is logged.
const SKEW_MS: i64 = 30_000;

/// What was logged last.
pub(super) struct ReportLog {
    state: State,
    drops: u64,
    drops_at: Option<Instant>,
    refused_at: Option<Instant>,
    remark_at: Option<Instant>,
    backfilled: usize,
    /// Whether the clocks differ, as was logged.
    skewed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Connected,
    Failing(FailureKind),
}

impl ReportLog {
    pub(super) fn new() -> Self {
        Self {
            state: State::Starting,
            drops: 0,
            drops_at: None,
            refused_at: None,
            remark_at: None,
            backfilled: 0,
            skewed: false,
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

    /// The state of the link is unknown.
    pub(super) fn starting(&mut self) {
        self.state = State::Starting;
    }

    /// A call failed.
    pub(super) fn failed(&mut self, endpoint: &str, failure: &Failure) {
        let state = State::Failing(failure.kind);
        if std::mem::replace(&mut self.state, state) == state {
            log::debug!("{endpoint} failed again: {}", failure.text);
            return;
        }
        let what = match failure.kind {
            FailureKind::Unreachable => "cannot reach",
            FailureKind::Busy => "server busy:",
            FailureKind::Denied => "rejected by",
            FailureKind::Unimplemented => "not an oxmon server:",
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
        log::warn!("{what} {endpoint}: {}{advice}; batches are buffered", failure.text);
    }

    /// The server's clock is `skew_ms` ahead of this host's, give or take `slack_ms`.
    pub(super) fn skew(&mut self, skew_ms: i64, slack_ms: i64) {
        let least = skew_ms.saturating_abs().saturating_sub(slack_ms);
        if !self.skewed && least > SKEW_MS {
            self.skewed = true;
            let (secs, way) =
                (skew_ms.abs() / 1_000, if skew_ms > 0 { "behind" } else { "ahead of" });
            log::warn!("this host's clock is {secs} s {way} the server's; check NTP on both");
        } else if self.skewed && skew_ms.saturating_abs() < SKEW_MS / 2 {
            self.skewed = false;
            log::info!("this host's clock agrees with the server's again");
        }
    }

    /// The server rejected a batch for good.
    pub(super) fn refused(&mut self, message: &str, now: Instant) {
        let due = self.refused_at.is_none_or(|at| now.duration_since(at) >= DROPS_EVERY);
        if due {
            self.refused_at = Some(now);
            log::warn!("the server rejected a batch, which is dropped: {message}");
        }
    }

    /// The server stored a batch with a remark, such as how many points it rejected.
    pub(super) fn remark(&mut self, message: &str, now: Instant) {
        let due = self.remark_at.is_none_or(|at| now.duration_since(at) >= REMARKS_EVERY);
        if due {
            self.remark_at = Some(now);
            log::warn!("the server stored a batch with a remark: {message}");
        }
    }

    /// `batches` buffered batches were stored; `is_last` when none is left.
    pub(super) fn backfilled(&mut self, batches: usize, is_last: bool) {
        self.backfilled += batches;
        if is_last {
            let count = std::mem::take(&mut self.backfilled);
            if count > 1 {
                log::info!("delivered {count} buffered batches");
            }
        }
    }

    /// Counts since the start of dropped batches, and of those in the buffer now.
    pub(super) fn drops(&mut self, dropped: u64, waiting: usize, now: Instant) {
        let due = self.drops_at.is_none_or(|at| now.duration_since(at) >= DROPS_EVERY);
        if dropped > self.drops && due {
            log::warn!("dropped {} batches; {waiting} are buffered", dropped - self.drops);
            self.drops = dropped;
            self.drops_at = Some(now);
        }
    }
}
