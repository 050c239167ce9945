//! How long to wait after a failure: twice as long each time, with jitter, so that a fleet does
//! not come back in one moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Counts failures in a row.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait after one more failure: between half of the step and all of it.
    pub(super) fn after_failure(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step / 2 + (step / 2).mul_f64(fastrand::f64())
    }

    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_again() {
        let mut backoff = Backoff::new();
        for step_secs in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = backoff.after_failure();
            let step = Duration::from_secs(step_secs);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure() <= FIRST);
    }
}
