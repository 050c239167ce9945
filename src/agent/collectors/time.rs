//! What the kernel knows of the clock's discipline (adjtimex(2)): whether it is synchronised, and
//! how far off it may be.
#![allow(unsafe_code, reason = "adjtimex has no safe binding")]

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use crate::agent::collectors::{CollectError, Collector, Pace, Samples, Setup, Spec, plain, round};

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "time",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        plain(
            "time.synchronised",
            "0 or 1",
            "Whether a time service keeps the clock, as the kernel has it (adjtimex; STA_UNSYNC).",
        ),
        plain(
            "time.offset",
            "s",
            "What the kernel has still to correct: positive where the clock is behind. chrony corrects by itself and leaves it near 0.",
        ),
        plain(
            "time.error_estimated",
            "s",
            "How far off the clock is, as its time service estimates; none while it is not synchronised.",
        ),
        plain(
            "time.error_max",
            "s",
            "How far off the clock may be at the most; it grows without a time service, to 16 s.",
        ),
    ],
    make: |_: &Setup<'_>| Box::new(Time { read: adjtimex }),
};

/// What adjtimex(2) gives.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The call's value: `TIME_OK` and others, `TIME_ERROR` where the clock is not synchronised.
    value: i32,
    status: i32,
    offset: i64,
    /// Microseconds.
    error_max: i64,
    /// Microseconds.
    error_estimated: i64,
}

/// A value of the call: the clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// A bit of the status: the clock is not synchronised.
const STA_UNSYNC: i32 = 0x40;
/// A bit of the status: `offset` is in nanoseconds, not microseconds.
const STA_NANO: i32 = 0x2000;

struct Time {
    /// Another function takes its place in tests.
    read: fn() -> Result<State, Error>,
}

impl Collector for Time {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let state = match (self.read)() {
            Ok(state) => state,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let unit = "the unit's ProtectClock= refuses it too; see docs/operations.md";
                out.note("adjtimex", format!("not allowed: {unit}"));
                return Ok(());
            }
            Err(error) => {
                let path = PathBuf::from("the clock's state (adjtimex)");
                return Err(CollectError::Read { path, error });
            }
        };
        let is_kept = state.value != TIME_ERROR && state.status & STA_UNSYNC == 0;
        let per_second = if state.status & STA_NANO == 0 { 1e6 } else { 1e9 };
        out.plain("time.synchronised", f64::from(u8::from(is_kept)));
        out.plain("time.offset", round(state.offset as f64 / per_second, 1e6));
        if is_kept {
            out.plain("time.error_estimated", state.error_estimated as f64 / 1e6);
        }
        out.plain("time.error_max", state.error_max as f64 / 1e6);
        Ok(())
    }
}

/// Reads the state; with `modes` 0 nothing is set, which everybody may do.
#[allow(clippy::useless_conversion, reason = "a C long has 32 bits on other machines")]
fn adjtimex() -> Result<State, Error> {
    // SAFETY: `timex` is plain numbers, for which all zeros are a value, and the call writes into
    // the struct that it is given and keeps no pointer to it.
    let (value, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut timex), timex)
    };
    if value < 0 {
        return Err(Error::last_os_error());
    }
    Ok(State {
        value,
        status: timex.status,
        offset: i64::from(timex.offset),
        error_max: i64::from(timex.maxerror),
        error_estimated: i64::from(timex.esterror),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;
    use std::time::Instant;

    use crate::agent::collectors::Moment;

    fn seen(read: fn() -> Result<State, Error>) -> Result<HashMap<String, f64>, String> {
        let moment = Moment { timestamp_ms: 1, at: Instant::now(), slow: true };
        let mut out = Samples::new(moment);
        Time { read }.collect(&mut out).map_err(|error| error.to_string())?;
        let (points, _) = out.into_parts();
        Ok(points.into_iter().map(|point| (point.metric.to_string(), point.value)).collect())
    }

    #[test]
    fn a_clock_that_is_kept_has_its_errors_in_seconds() {
        let kept = || {
            Ok(State {
                value: 0,
                status: 0x2001,
                offset: -1_500_000,
                error_max: 31_250,
                error_estimated: 42,
            })
        };
        let rows = seen(kept).unwrap();
        assert_eq!((rows["time.synchronised"], rows["time.offset"]), (1.0, -0.0015));
        assert_eq!((rows["time.error_max"], rows["time.error_estimated"]), (0.03125, 0.000_042));
        let micros = || Ok(State { status: 1, offset: 2_000, ..State::default() });
        assert_eq!(seen(micros).unwrap()["time.offset"], 0.002);
    }

    #[test]
    fn a_clock_that_nobody_keeps_says_so_and_a_refusal_is_noted() {
        let free =
            || Ok(State { value: 5, status: 0x40, error_max: 16_000_000, ..State::default() });
        let rows = seen(free).unwrap();
        assert_eq!((rows["time.synchronised"], rows["time.error_max"]), (0.0, 16.0));
        assert!(!rows.contains_key("time.error_estimated"));
        let flagged = || Ok(State { value: 0, status: 0x40, ..State::default() });
        assert_eq!(seen(flagged).unwrap()["time.synchronised"], 0.0);
        let refused = || Err(Error::from_raw_os_error(1));
        assert!(seen(refused).unwrap().is_empty(), "a sandbox may refuse it");
        let broken = || Err(Error::from_raw_os_error(14));
        assert!(seen(broken).unwrap_err().contains("adjtimex): Bad address"));
    }
}
