//! Time as data. The core takes `now` as Unix milliseconds; only the edges hold a [`Clock`].

use std::fs::File;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds in a second, minute, hour and day.
pub const SECOND_MS: i64 = 1_000;
/// Milliseconds in a minute.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// A source of wall-clock time.
pub trait Clock: Send + Sync {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> i64;

    /// The earliest and the latest Unix time in milliseconds that it may be now. They differ only
    /// while a watched clock has just jumped.
    fn possible_ms(&self) -> (i64, i64) {
        let now = self.now_ms();
        (now, now)
    }

    /// Milliseconds of a clock that nobody sets, from a beginning that is the same for the life of
    /// the process: what a time span is measured with.
    fn steady_ms(&self) -> i64 {
        self.now_ms()
    }

    /// Both times at once.
    fn now(&self) -> Now {
        Now { wall_ms: self.now_ms(), steady_ms: self.steady_ms() }
    }
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// Milliseconds as [`Clock::steady_ms`] gives them.
    pub steady_ms: i64,
}

impl From<i64> for Now {
    /// A moment of a clock that was never set.
    fn from(ms: i64) -> Self {
        Self { wall_ms: ms, steady_ms: ms }
    }
}

/// What the machine's clock shows. `SystemTime::now` asks musl with seconds of 32 bits on 32-bit
/// processors, whatever its version, and fails there from 2038 on.
pub fn system_now() -> SystemTime {
    let now = clock_gettime(ClockId::Realtime);
    system_time(now.tv_sec, now.tv_nsec as u64)
}

/// When a file was last written; `Metadata::modified` has the same limit as `SystemTime::now`.
///
/// # Errors
///
/// When the system does not say it.
pub fn modified(file: &File) -> std::io::Result<SystemTime> {
    let stat = rustix::fs::fstat(file)?;
    Ok(system_time(stat.st_mtime as i64, stat.st_mtime_nsec as u64))
}

fn system_time(secs: i64, nanos: u64) -> SystemTime {
    let whole = Duration::from_secs(secs.unsigned_abs());
    let at = if secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(nanos))).unwrap_or(UNIX_EPOCH)
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let now = clock_gettime(ClockId::Realtime);
        now.tv_sec.saturating_mul(SECOND_MS).saturating_add(now.tv_nsec / 1_000_000)
    }

    fn steady_ms(&self) -> i64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let since = START.get_or_init(Instant::now).elapsed();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A clock that stands still until it is moved: for tests of whatever depends on time.
pub struct ManualClock {
    wall_ms: AtomicI64,
    steady_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicI64::new(now_ms), steady_ms: AtomicI64::new(now_ms) })
    }

    /// Lets the time pass until it is `now_ms`; may be before what it shows.
    pub fn set(&self, now_ms: i64) {
        let before_ms = self.wall_ms.swap(now_ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(now_ms.saturating_sub(before_ms), Ordering::SeqCst);
    }

    /// Lets some time pass.
    pub fn advance(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Puts the clock ahead or back, as a person or a time server does: no time passes.
    pub fn jump(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.load(Ordering::SeqCst)
    }
}

/// RFC 3339 in UTC, with milliseconds only where there are any: `2026-02-09T08:30:00Z`.
///
/// A time outside of jiff's years -9999 to 9999 is shown as its nearest bound.
pub fn rfc3339(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_string(),
        Err(_) if ms < 0 => Timestamp::MIN.to_string(),
        // The last hours of the year 9999, the end of certificates without one (RFC 5280), are
        // beyond what a time stamp takes.
        Err(_) => LAST.to_owned(),
    }
}

/// The last second of the year 9999, and its Unix milliseconds.
const LAST: &str = "9999-12-31T23:59:59Z";
const LAST_MS: i64 = 253_402_300_799_000;

/// Unix milliseconds of an RFC 3339 time with any offset; `None` for anything else.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let text = text.trim();
    if text == LAST {
        return Some(LAST_MS);
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The UTC day of a time, as in the names of the day files: `2026-02-09`.
pub fn utc_day(ms: i64) -> String {
    let mut text = rfc3339(ms);
    let end = text.find('T').unwrap_or(text.len());
    text.truncate(end);
    text
}

/// The first millisecond of a UTC day named `YYYY-MM-DD`; `None` for any other text.
pub fn parse_utc_day(day: &str) -> Option<i64> {
    if day.len() != 10 {
        return None;
    }
    parse_rfc3339(&format!("{day}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_year_9999_reads_as_it_is() {
        assert_eq!(rfc3339(253_402_300_799_000), "9999-12-31T23:59:59Z");
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59Z"), Some(253_402_300_799_000));
    }

    #[test]
    fn times_go_out_and_come_back() {
        let ms = 1_770_625_800_123;
        assert_eq!(rfc3339(ms), "2026-02-09T08:30:00.123Z");
        assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        assert_eq!(parse_rfc3339("2026-02-09T16:30:00.123+08:00"), Some(ms));
        assert_eq!(rfc3339(1_770_625_800_000), "2026-02-09T08:30:00Z");
    }

    #[test]
    fn days_are_utc_days() {
        assert_eq!(utc_day(1_770_681_599_999), "2026-02-09");
        assert_eq!(utc_day(1_770_681_600_000), "2026-02-10");
        assert_eq!(parse_utc_day("2026-02-10"), Some(1_770_681_600_000));
        assert_eq!(parse_utc_day("2026-2-10"), None);
        assert_eq!(parse_utc_day("cert"), None);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        for ms in [i64::MIN, i64::MAX, 0, -1] {
            assert!(!rfc3339(ms).is_empty());
        }
    }
}
