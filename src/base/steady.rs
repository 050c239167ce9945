//! A clock that may be set: what it says is compared with the machine's monotonic time. A jump, by
//! hand or by a bad time server, is believed only once it has stood for an hour; until then both
//! times are possible, and who would lose something by the wrong one asks for both.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::clock::{Clock, HOUR_MS, MINUTE_MS, rfc3339};

/// Steps up to this are a clock being put right, and believed at once.
const STEP_MS_MAX: i64 = 5 * MINUTE_MS;
/// How long a jump must stand.
const BELIEVE_AFTER_MS: i64 = HOUR_MS;

/// A wall clock that is watched.
pub struct SteadyClock<C> {
    clock: C,
    started: Instant,
    watch: Mutex<Watch>,
}

impl<C: Clock> SteadyClock<C> {
    /// Watches a clock from now on.
    pub fn new(clock: C) -> Self {
        let watch = Watch { wall_ms: clock.now_ms(), at_ms: 0, doubted_ms: None };
        Self { clock, started: Instant::now(), watch: Mutex::new(watch) }
    }
}

impl<C: Clock> Clock for SteadyClock<C> {
    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn possible_ms(&self) -> (i64, i64) {
        let mut watch = self.watch.lock();
        watch.look(self.clock.now_ms(), millis(self.started.elapsed()))
    }

    fn steady_ms(&self) -> i64 {
        millis(self.started.elapsed())
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The time that was believed last, and since when there is doubt.
#[derive(Debug)]
struct Watch {
    wall_ms: i64,
    at_ms: i64,
    doubted_ms: Option<i64>,
}

impl Watch {
    /// The earliest and the latest time that it may be, by the wall clock and the monotonic one.
    fn look(&mut self, wall_ms: i64, at_ms: i64) -> (i64, i64) {
        let expected = self.wall_ms.saturating_add(at_ms.saturating_sub(self.at_ms));
        let step = wall_ms.saturating_sub(expected);
        if step.saturating_abs() <= STEP_MS_MAX {
            *self = Self { wall_ms, at_ms, doubted_ms: None };
            return (wall_ms, wall_ms);
        }
        match self.doubted_ms {
            None => {
                log::warn!(
                    "the clock jumped from {} to {}; for an hour both are taken for possible",
                    rfc3339(expected),
                    rfc3339(wall_ms)
                );
                self.doubted_ms = Some(at_ms);
            }
            Some(since) if at_ms.saturating_sub(since) >= BELIEVE_AFTER_MS => {
                *self = Self { wall_ms, at_ms, doubted_ms: None };
                return (wall_ms, wall_ms);
            }
            Some(_) => {}
        }
        (expected.min(wall_ms), expected.max(wall_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{DAY_MS, SECOND_MS};

    const NOW: i64 = 1_770_638_400_000;

    fn watch() -> Watch {
        Watch { wall_ms: NOW, at_ms: 0, doubted_ms: None }
    }

    #[test]
    fn a_clock_that_goes_on_or_is_put_right_is_believed() {
        let mut watch = watch();
        for minute in 1..200 {
            let wall = NOW + minute * 62 * SECOND_MS;
            assert_eq!(watch.look(wall, minute * MINUTE_MS), (wall, wall));
        }
    }

    #[test]
    fn a_jump_is_possible_for_an_hour_and_then_true() {
        for jump in [30 * 365 * DAY_MS, -3 * DAY_MS] {
            let mut watch = watch();
            for minute in 1..=60 {
                let expected = NOW + minute * MINUTE_MS;
                let (earliest, latest) = watch.look(expected + jump, minute * MINUTE_MS);
                assert_eq!(earliest, expected.min(expected + jump));
                assert_eq!(latest, expected.max(expected + jump));
            }
            let wall = NOW + 61 * MINUTE_MS + jump;
            assert_eq!(watch.look(wall, 61 * MINUTE_MS), (wall, wall));
        }
    }

    #[test]
    fn a_jump_that_is_taken_back_leaves_nothing() {
        let mut watch = watch();
        assert_eq!(watch.look(NOW + 9 * DAY_MS, 1_000), (NOW + 1_000, NOW + 9 * DAY_MS));
        assert_eq!(watch.look(NOW + 2_000, 2_000), (NOW + 2_000, NOW + 2_000));
        // A later jump has its own hour.
        watch.look(NOW - DAY_MS, HOUR_MS);
        let late = watch.look(NOW - DAY_MS + HOUR_MS / 2, HOUR_MS + HOUR_MS / 2);
        assert!(late.0 < late.1);
    }
}
