//! Alerts among old points. An agent that was cut off delivers what it has kept: an alert that
//! began and ended meanwhile belongs to the history, and notifies nobody. So an alert that fires at
//! an old point is notified only once the points have caught up with the present, or no more come.
//! An agent whose clock is behind is never caught up, and waits no longer than that.

use crate::base::clock::{MINUTE_MS, SECOND_MS};
use crate::server::alert::state::Phase;
use crate::server::alert::tracked::{Deferred, Tracked, Transition, TransitionKind};

/// Points older than this are old.
const OLD_MS: i64 = 10 * MINUTE_MS;
/// How long an alert at an old point waits for newer points.
const WAIT_MS: i64 = 5 * SECOND_MS;
/// Points that come this many times faster than time passes are a backlog.
const BACKLOG_SPEED: i64 = 2;

impl Tracked {
    /// Takes the notification out of a transition at an old point, and gives it back when the
    /// points have caught up. `lag_ms` is how old the point is, `now_ms` the steady time.
    pub(crate) fn defer(
        &mut self,
        point_ms: i64,
        lag_ms: i64,
        now_ms: i64,
        notified_ms: Option<i64>,
        transition: Option<Transition>,
    ) -> Option<Transition> {
        if self.state.phase != Phase::Firing {
            self.deferred = None;
            return transition;
        }
        let begins = |transition: &Transition| {
            matches!(transition.kind, TransitionKind::Fired | TransitionKind::Notified)
        };
        if lag_ms > OLD_MS && transition.as_ref().is_some_and(begins) {
            self.state.notified = false;
            self.state.notified_ms = notified_ms;
            let known = self.deferred.as_deref();
            let known = known.map(|deferred| Deferred { newest_ms: now_ms, ..*deferred });
            let new = Deferred { point_ms, since_ms: now_ms, newest_ms: now_ms };
            self.deferred = Some(Box::new(known.unwrap_or(new)));
            return match transition {
                Some(Transition { kind: TransitionKind::Notified, .. }) | None => {
                    self.caught_up(point_ms, lag_ms, now_ms)
                }
                Some(fired) => Some(Transition { notification: None, ..fired }),
            };
        }
        if self.deferred.is_some() && transition.is_none() {
            return self.caught_up(point_ms, lag_ms, now_ms);
        }
        transition
    }

    fn caught_up(&mut self, point_ms: i64, lag_ms: i64, now_ms: i64) -> Option<Transition> {
        let deferred = self.deferred.as_mut()?;
        deferred.newest_ms = now_ms;
        let waited_ms = now_ms.saturating_sub(deferred.since_ms);
        let advanced_ms = point_ms.saturating_sub(deferred.point_ms);
        let backlog = advanced_ms > waited_ms.saturating_mul(BACKLOG_SPEED).max(WAIT_MS);
        if lag_ms > OLD_MS && (backlog || waited_ms < WAIT_MS) {
            return None;
        }
        self.notify_deferred()
    }

    /// Notifies a deferred alert of which no newer point has come for some time.
    pub(crate) fn overdue(&mut self, now_ms: i64) -> Option<Transition> {
        let deferred = self.deferred.as_ref()?;
        let waited_ms = now_ms.saturating_sub(deferred.newest_ms);
        if waited_ms < WAIT_MS { None } else { self.notify_deferred() }
    }
}
