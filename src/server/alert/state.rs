//! The state machine of one alert, the same for every rule type. Pure: it knows no clock, no
//! database and no rule, only verdicts and their times.
//!
//! ```text
//!          breach                held for so long
//!    ok ───────────▶ pending ───────────────────────▶ firing ──▶ notified, unless silenced
//!    ▲                  │ not a breach                   │ clear
//!    └──────────────────┴────────────────────────────────┤
//!    ▲ clear                                             │ resolved by hand
//!    └───────────────── closed ◀─────────────────────────┘
//!                         └─ still a breach when the interval ends ──▶ firing
//! ```

use crate::base::clock::MINUTE_MS;
use crate::model::severity::Severity;
use crate::server::alert::evaluate::Condition;

/// How far ahead of another a clock may be before it counts as wrong.
pub(crate) const CLOCK_AHEAD_MS_MAX: i64 = 5 * MINUTE_MS;

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// All is well.
    Ok,
    /// It breaches, but not yet for long enough.
    Pending,
    /// It is an alert.
    Firing,
    /// It is one, but somebody has resolved it by hand.
    Closed,
}

impl Phase {
    /// The name in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Closed => "closed",
        }
    }

    /// The phase with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Ok, Self::Pending, Self::Firing, Self::Closed]
            .into_iter()
            .find(|phase| phase.name() == name)
    }
}

/// What a rule asks of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long every point must breach before it fires, milliseconds.
    pub hold_ms: i64,
    /// For how long after a notification the same alert does not notify again, milliseconds.
    pub repeat_ms: i64,
    /// The most that is left of `repeat_ms` after a recovery was notified, milliseconds.
    pub refire_ms: i64,
    /// How long the condition must be gone before a firing alert ends, milliseconds.
    pub keep_firing_ms: i64,
}

/// Points of a series that may be missing before its duration starts again.
const GAP_INTERVALS: i64 = 3;
/// A gap of less than this never starts a duration again, milliseconds.
const GAP_MS_MIN: i64 = 5_000;

/// A condition at a time. Times may not go back: whoever calls sorts out late points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The condition.
    pub condition: Condition,
    /// How bad it would be.
    pub severity: Severity,
    /// Since when it breaches, where that is not `at_ms`.
    pub since_ms: Option<i64>,
}

/// What a step means for the world outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to write.
    Nothing,
    /// The state has changed and must be kept, but it is not an event.
    Keep,
    /// An alert begins.
    Fire {
        /// Whether it is notified; not within the silence after the last time.
        notify: bool,
    },
    /// The alert has become graver, which is notified in any case.
    Escalate,
    /// The alert goes on, and the silence that held its notification back has ended.
    Notify,
    /// The alert has ended.
    Resolve {
        /// Whether it is notified: when the firing was.
        notify: bool,
    },
}

/// The state of one alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct State {
    /// Its state.
    pub phase: Phase,
    /// Since when it breaches; of no meaning when ok. Unix milliseconds.
    pub since_ms: i64,
    /// The newest time that was evaluated, Unix milliseconds.
    pub last_ms: i64,
    /// The gravest severity since it fired.
    pub severity: Severity,
    /// When it was last notified, or closed by hand. Unix milliseconds.
    pub notified_ms: Option<i64>,
    /// Whether this firing was notified.
    pub notified: bool,
    /// Since when a firing alert no longer breaches, while `keep_firing_ms` lasts. Unix
    /// milliseconds.
    pub clear_ms: Option<i64>,
    /// The usual time between two points, milliseconds; 0 before the second.
    pub interval_ms: i64,
}

impl State {
    /// An alert that nobody has seen.
    pub(crate) const NEW: Self = Self {
        phase: Phase::Ok,
        since_ms: 0,
        last_ms: i64::MIN,
        severity: Severity::Info,
        notified_ms: None,
        notified: false,
        clear_ms: None,
        interval_ms: 0,
    };

    /// Takes a condition.
    pub(crate) fn step(&mut self, policy: Policy, input: Input) -> Action {
        let gap = self.take_gap(policy, input.at_ms);
        if self.phase != Phase::Firing || input.condition != Condition::Clear {
            self.clear_ms = None;
        }
        match (self.phase, input.condition) {
            (_, Condition::Unknown) | (Phase::Ok | Phase::Closed, Condition::Between) => {
                Action::Nothing
            }
            (Phase::Ok, Condition::Clear) | (Phase::Firing, Condition::Between) => Action::Nothing,
            (Phase::Ok, Condition::Breach) => {
                self.since_ms = input.since_ms.unwrap_or(input.at_ms);
                if self.held(policy, input.at_ms) {
                    return self.fire(policy, input);
                }
                self.phase = Phase::Pending;
                Action::Keep
            }
            (Phase::Pending, Condition::Breach) if gap => {
                // Nothing says that it held all the time.
                self.since_ms = input.since_ms.unwrap_or(input.at_ms);
                Action::Keep
            }
            (Phase::Pending, Condition::Breach) if self.held(policy, input.at_ms) => {
                self.fire(policy, input)
            }
            (Phase::Pending, Condition::Breach) => Action::Nothing,
            (Phase::Pending | Phase::Closed, Condition::Clear)
            | (Phase::Pending, Condition::Between) => {
                self.phase = Phase::Ok;
                Action::Keep
            }
            (Phase::Firing, Condition::Breach) => self.go_on(policy, input),
            (Phase::Firing, Condition::Clear) if self.keeps_firing(policy, input.at_ms) => {
                Action::Nothing
            }
            (Phase::Firing, Condition::Clear) => {
                (self.phase, self.clear_ms) = (Phase::Ok, None);
                let notify = std::mem::take(&mut self.notified);
                if notify {
                    let left_ms = policy.refire_ms.saturating_sub(policy.repeat_ms);
                    let since_ms = input.at_ms.saturating_add(left_ms);
                    self.notified_ms = self.notified_ms.map(|at_ms| at_ms.min(since_ms));
                }
                Action::Resolve { notify }
            }
            (Phase::Closed, Condition::Breach) if self.repeat_due(policy, input.at_ms) => {
                self.since_ms = input.at_ms;
                self.fire(policy, input)
            }
            (Phase::Closed, Condition::Breach) => Action::Nothing,
        }
    }

    /// Somebody has resolved a firing alert: it stays quiet until it is clear, or until the
    /// silence after now has ended. True when that notifies whoever was notified of the firing.
    pub(crate) fn close(&mut self, now_ms: i64) -> bool {
        self.phase = Phase::Closed;
        self.notified_ms = Some(now_ms);
        std::mem::take(&mut self.notified)
    }

    /// A late point inside of the time that a pending alert counts on did not breach. True when
    /// that changes something: the alert then counts from the newest point on.
    pub(crate) fn interrupt(&mut self, at_ms: i64) -> bool {
        let inside = self.phase == Phase::Pending && at_ms >= self.since_ms;
        let changes = inside && self.since_ms < self.last_ms;
        if changes {
            self.since_ms = self.last_ms;
        }
        changes
    }

    /// The clock of the points was set back: what was evaluated in a time that is still to come
    /// counts as evaluated just before `at_ms`.
    pub(crate) fn put_back(&mut self, at_ms: i64) {
        self.last_ms = self.last_ms.min(at_ms.saturating_sub(1));
        self.since_ms = self.since_ms.min(at_ms);
    }

    /// Notes the time of a new point. True when it comes after a gap of several intervals.
    fn take_gap(&mut self, policy: Policy, at_ms: i64) -> bool {
        let last_ms = self.last_ms;
        self.last_ms = last_ms.max(at_ms);
        if last_ms == i64::MIN || at_ms <= last_ms {
            return false;
        }
        let gap_ms = at_ms.saturating_sub(last_ms);
        let usual_ms = self.interval_ms;
        let most_ms =
            if usual_ms > 0 { usual_ms.saturating_mul(GAP_INTERVALS) } else { policy.hold_ms };
        let gap = gap_ms > most_ms.max(GAP_MS_MIN);
        // One odd point changes little: a series that has become slower is believed after some
        // points, and an outage is not one.
        self.interval_ms = match usual_ms {
            0 => gap_ms,
            _ => {
                (usual_ms.saturating_mul(3).saturating_add(gap_ms.min(usual_ms.saturating_mul(3))))
                    / 4
            }
        };
        gap
    }

    fn keeps_firing(&mut self, policy: Policy, at_ms: i64) -> bool {
        let since_ms = *self.clear_ms.get_or_insert(at_ms);
        at_ms.saturating_sub(since_ms) < policy.keep_firing_ms
    }

    fn held(&self, policy: Policy, at_ms: i64) -> bool {
        at_ms.saturating_sub(self.since_ms) >= policy.hold_ms
    }

    /// Whether the repeat interval since the last notification has passed.
    pub(crate) fn repeat_due(&self, policy: Policy, at_ms: i64) -> bool {
        let over = |notified_ms: i64| {
            let since_ms = at_ms.saturating_sub(notified_ms);
            // What was notified long after now was notified by a clock that has been put back.
            since_ms >= policy.repeat_ms || since_ms < -CLOCK_AHEAD_MS_MAX
        };
        self.notified_ms.is_none_or(over)
    }

    fn fire(&mut self, policy: Policy, input: Input) -> Action {
        self.phase = Phase::Firing;
        self.severity = input.severity;
        self.notified = self.repeat_due(policy, input.at_ms);
        if self.notified {
            self.notified_ms = Some(input.at_ms);
        }
        Action::Fire { notify: self.notified }
    }

    fn go_on(&mut self, policy: Policy, input: Input) -> Action {
        let graver = input.severity > self.severity;
        if !graver && (self.notified || !self.repeat_due(policy, input.at_ms)) {
            return Action::Nothing;
        }
        self.severity = self.severity.max(input.severity);
        self.notified = true;
        self.notified_ms = Some(input.at_ms);
        if graver { Action::Escalate } else { Action::Notify }
    }
}

#[cfg(test)]
mod tests;
