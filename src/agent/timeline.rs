//! The agent's own time: the wall clock's, but never backwards.
//!
//! A sample at a time that was used before would count as a duplicate of the older one, and be
//! dropped. So when the wall clock steps back, timestamps go on from where they were, at nine
//! tenths of their pace, until the clock has caught up. A step that is too large for the server to
//! take such times is followed at once.

use crate::base::clock::{MINUTE_MS, Now, SECOND_MS};

/// How far ahead of the wall clock timestamps may run. The server refuses more than an hour.
const AHEAD_MS_MAX: i64 = 58 * MINUTE_MS;
/// Smaller steps are a clock being put right, and not worth a line in the log.
const STEP_MS_MIN: i64 = 2 * SECOND_MS;

/// See the module.
pub(crate) struct Timeline {
    /// The last time that was given.
    at_ms: i64,
    before: Now,
}

impl Timeline {
    /// A time line that begins now.
    pub(crate) fn new(now: Now) -> Self {
        Self { at_ms: now.wall_ms, before: now }
    }

    /// The time of a sample that is taken now, Unix milliseconds; never less than before, unless
    /// the wall clock went back by more than [`AHEAD_MS_MAX`].
    pub(crate) fn now_ms(&mut self, now: Now) -> i64 {
        let passed = now.steady_ms.saturating_sub(self.before.steady_ms).max(0);
        let step = now.wall_ms.saturating_sub(self.before.wall_ms.saturating_add(passed));
        let slowed = self.at_ms.saturating_add(passed - passed / 10);
        let ahead = slowed.saturating_sub(now.wall_ms);
        let follows = ahead > AHEAD_MS_MAX;
        if step < -STEP_MS_MIN {
            let what = if follows {
                "timestamps follow it, and samples of times that were reported before are dropped \
                 by the server"
            } else {
                "timestamps go on from where they were until it has caught up"
            };
            log::warn!("the clock stepped back by {} s; {what}", -step / SECOND_MS);
        }
        self.at_ms = if follows { now.wall_ms } else { slowed.max(now.wall_ms) };
        self.before = now;
        self.at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_770_638_400_000;

    fn at(wall_ms: i64, steady_ms: i64) -> Now {
        Now { wall_ms, steady_ms }
    }

    #[test]
    fn a_clock_that_goes_on_or_steps_ahead_is_followed() {
        let mut line = Timeline::new(at(START, 0));
        assert_eq!(line.now_ms(at(START + 1_000, 1_000)), START + 1_000);
        // Slower and faster than the monotonic clock, as time servers steer it.
        assert_eq!(line.now_ms(at(START + 1_990, 2_000)), START + 1_990);
        assert_eq!(line.now_ms(at(START + 3_010, 3_000)), START + 3_010);
        assert_eq!(line.now_ms(at(START + 3_600_000, 4_000)), START + 3_600_000);
    }

    #[test]
    fn after_a_step_back_times_stay_new_and_meet_the_clock_again() {
        for step in [30_000, 55 * MINUTE_MS] {
            let mut line = Timeline::new(at(START, 0));
            let mut last = START;
            let mut met = None;
            for second in 1..60_000 {
                let wall = START - step + second * 1_000;
                let time = line.now_ms(at(wall, second * 1_000));
                assert!(time > last, "second {second} of a step of {step} ms");
                last = time;
                if time == wall && met.is_none() {
                    met = Some(second);
                }
            }
            assert_eq!(met, Some(step / 100), "a tenth of a second is gained each second");
        }
    }

    #[test]
    fn a_step_back_that_the_server_would_not_take_is_followed() {
        let mut line = Timeline::new(at(START, 0));
        let wall = START - 3 * 3_600_000;
        assert_eq!(line.now_ms(at(wall, 1_000)), wall);
        assert_eq!(line.now_ms(at(wall + 1_000, 2_000)), wall + 1_000);
    }
}
