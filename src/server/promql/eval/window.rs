//! Which samples a step sees.

use super::{ABSENT, Outcome, Shifted};
use crate::server::promql::Samples;
use crate::server::promql::functions::Window;

/// Pushes, for each step, the newest sample that is less than `lookback_ms` old: its value, or
/// its time in seconds. Gives whether there was any.
pub(super) fn newest(
    samples: Samples<'_>,
    at: &Shifted,
    lookback_ms: i64,
    times: bool,
    out: &mut Vec<f64>,
) -> bool {
    let mut next = 0;
    let mut found = false;
    for index in 0..at.steps.count {
        let time = at.time(index);
        while samples.get(next).is_some_and(|sample| sample.0 <= time) {
            next += 1;
        }
        let sample = next.checked_sub(1).and_then(|last| samples.get(last));
        out.push(match sample {
            Some(&(ms, value)) if ms > time - lookback_ms => {
                found = true;
                if times { ms as f64 / 1_000.0 } else { value }
            }
            _ => ABSENT,
        });
    }
    found
}

/// Samples of windows between two looks at the clock and at the client.
const SAMPLES_A_CHECK: usize = 500_000;

/// Pushes, for each step, what `apply` makes of the samples of its window; nothing where it has
/// none. `args` are further numbers, one a step. Gives whether there was any value. The
/// first error of `check`, which is called now and then, ends it.
pub(super) fn apply(
    samples: Samples<'_>,
    at: &Shifted,
    args: &[Vec<f64>],
    apply: fn(&Window<'_>) -> Option<f64>,
    check: &dyn Fn() -> Outcome,
    out: &mut Vec<f64>,
) -> Outcome<bool> {
    let (mut from, mut to) = (0, 0);
    let mut found = false;
    let mut work = 0;
    // Once for all windows: most counters never start again.
    let is_rising = samples.windows(2).all(|pair| pair[0].1 <= pair[1].1);
    for index in 0..at.steps.count {
        let end_ms = at.time(index);
        let start_ms = end_ms - at.range_ms;
        while samples.get(to).is_some_and(|sample| sample.0 <= end_ms) {
            to += 1;
        }
        while from < to && samples.get(from).is_some_and(|sample| sample.0 <= start_ms) {
            from += 1;
        }
        let number = |place: usize| {
            args.get(place).and_then(|values| values.get(index)).copied().unwrap_or(0.0)
        };
        let value = samples.get(from..to).filter(|inside| !inside.is_empty()).and_then(|inside| {
            apply(&Window {
                samples: inside,
                start_ms,
                end_ms,
                at_ms: at.steps.time(index),
                args: [number(0), number(1)],
                is_rising,
            })
        });
        found |= value.is_some();
        out.push(value.unwrap_or(ABSENT));
        work += to - from;
        if work > SAMPLES_A_CHECK {
            work = 0;
            check()?;
        }
    }
    Ok(found)
}

/// Whether a step's window holds a sample, added to `seen`.
pub(super) fn present(samples: Samples<'_>, at: &Shifted, seen: &mut [bool]) {
    for (index, seen) in seen.iter_mut().enumerate() {
        let end_ms = at.time(index);
        let to = samples.partition_point(|sample| sample.0 <= end_ms);
        let newest = to.checked_sub(1).and_then(|last| samples.get(last));
        *seen |= newest.is_some_and(|sample| sample.0 > end_ms - at.range_ms);
    }
}
