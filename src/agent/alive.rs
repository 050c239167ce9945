//! Whether the agent does its work, for whoever watches it: the service manager's watchdog, which
//! asks for loops that turn, and a container's health check, which also asks for reports that
//! arrive.
//!
//! The health check reads a file that the agent writes: its time is that of the last turn of both
//! loops, and it holds, as TOML, for how long no server had accepted a report by then
//! (`unreported_ms`) and how often one is due (`interval_secs`).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::agent::reporter::Stats;
use crate::base::clock::{modified, system_now};
use crate::base::exit::{Exit, Fatal};
use crate::rt::service;

/// Names the file that is written as long as the agent does its work.
const FILE_VARIABLE: &str = "OXMON_HEALTH_FILE";
/// How often it is written at the least: both loops turn more often, whatever the interval is.
const WRITE_EVERY: Duration = Duration::from_secs(30);
/// A file that is older was left by an agent that does nothing any more.
const OLD_AFTER: Duration = Duration::from_secs(100);
/// So many intervals without a report that a server accepted are a failure.
const INTERVALS: u64 = 3;
/// The least time that counts as one: at an interval of a second a call may just be slow.
const UNREPORTED_MIN: Duration = Duration::from_secs(10);

/// What the file says.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Health {
    unreported_ms: u64,
    interval_secs: u64,
}

/// Notifies whoever watches the agent, as long as both of its loops turn.
pub(crate) struct Alive {
    stats: Arc<Stats>,
    turned: Turned,
    /// The time between two signs of life; `None` without a watchdog.
    watchdog: Option<Duration>,
    file: Option<PathBuf>,
    /// How often a report is due, seconds.
    pub(crate) interval_secs: u64,
}

impl Alive {
    /// Watches where the service manager (`WATCHDOG_USEC`) or the environment asks for it.
    pub(crate) fn new(stats: Arc<Stats>, interval_secs: u64) -> Self {
        let turned = Turned { seen: stats.turns() };
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let alive = Self { stats, turned, watchdog, file: named_file(), interval_secs };
        alive.write();
        alive
    }

    /// The time between two calls of [`Self::notify`]; an hour when nobody watches.
    pub(crate) fn pause(&self) -> Duration {
        // Twice an interval, so that a report that came is seen before the next is due.
        let half = Duration::from_millis(self.interval_secs.saturating_mul(500));
        let write = self.file.as_ref().map(|_| half.clamp(Duration::from_secs(1), WRITE_EVERY));
        let pauses = [self.watchdog, write].into_iter().flatten();
        pauses.min().unwrap_or(Duration::from_secs(3_600))
    }

    /// Notifies once more, where both loops have turned since the last time.
    pub(crate) fn notify(&mut self) {
        if !self.turned.both(self.stats.turns()) {
            return;
        }
        if self.watchdog.is_some() {
            service::alive();
        }
        self.write();
    }

    fn write(&self) {
        if let Some(file) = &self.file {
            let unreported = self.stats.unreported().as_millis();
            let unreported_ms = u64::try_from(unreported).unwrap_or(u64::MAX);
            write(file, Health { unreported_ms, interval_secs: self.interval_secs });
        }
    }
}

/// `oxmon-agent --health`: whether the agent with the same environment does its work.
///
/// # Errors
///
/// When it does not, or when the environment names no file to see it by.
pub(super) fn check() -> Result<(), Fatal> {
    let Some(file) = named_file() else {
        let text = format!("{FILE_VARIABLE} names no file, here and for the agent");
        return Err(Fatal::new(Exit::Usage, text));
    };
    is_healthy(&file, system_now()).map_err(|why| Fatal::new(Exit::Failed, why))
}

fn named_file() -> Option<PathBuf> {
    std::env::var_os(FILE_VARIABLE).filter(|name: &OsString| !name.is_empty()).map(PathBuf::from)
}

fn write(file: &Path, health: Health) {
    let Health { unreported_ms, interval_secs } = health;
    let text = format!("unreported_ms = {unreported_ms}\ninterval_secs = {interval_secs}\n");
    // Whoever looks finds the file old when this fails.
    if let Err(error) = std::fs::write(file, text) {
        log::warn!("cannot write {FILE_VARIABLE} {}: {error}", file.display());
    }
}

/// Whether the agent of a health file works and reports; what is wrong where it does not.
fn is_healthy(file: &Path, now: SystemTime) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut open = File::open(file).map_err(named)?;
    let written = modified(&open).map_err(named)?;
    // A clock that was set back makes it no older.
    let age = now.duration_since(written).unwrap_or_default();
    if age > OLD_AFTER {
        return Err(format!("the agent did nothing for {} s", age.as_secs()));
    }
    // It is empty for a moment while it is written.
    let mut text = String::new();
    open.read_to_string(&mut text).map_err(named)?;
    let Ok(health) = toml::from_str::<Health>(&text) else { return Ok(()) };
    let limit = Duration::from_secs(health.interval_secs.saturating_mul(INTERVALS));
    let limit = limit.max(UNREPORTED_MIN);
    let unreported = Duration::from_millis(health.unreported_ms).saturating_add(age);
    if unreported > limit {
        return Err(format!(
            "the agent has not reported for {} s, {INTERVALS} intervals are {} s",
            unreported.as_secs(),
            limit.as_secs()
        ));
    }
    Ok(())
}

/// How often both loops had turned when they were last looked at.
struct Turned {
    seen: (u64, u64),
}

impl Turned {
    fn both(&mut self, now: (u64, u64)) -> bool {
        let turned = now.0 != self.seen.0 && now.1 != self.seen.1;
        if turned {
            self.seen = now;
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_noticed() {
        let mut turned = Turned { seen: (1, 1) };
        assert!(!turned.both((5, 1)));
        assert!(turned.both((5, 2)));
        assert!(!turned.both((5, 9)));
    }

    #[test]
    fn a_file_that_is_no_longer_written_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alive");
        assert!(is_healthy(&file, SystemTime::now()).unwrap_err().contains("alive"));
        write(&file, Health { unreported_ms: 0, interval_secs: 3_600 });
        let now = SystemTime::now();
        assert_eq!(is_healthy(&file, now), Ok(()));
        assert_eq!(is_healthy(&file, now - Duration::from_secs(3_600)), Ok(()));
        let late = is_healthy(&file, now + OLD_AFTER + Duration::from_secs(2)).unwrap_err();
        assert!(late.contains("did nothing for 102 s"), "{late}");
    }

    #[test]
    fn three_intervals_without_a_report_are_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alive");
        let said = |unreported_ms, interval_secs, later: u64| {
            write(&file, Health { unreported_ms, interval_secs });
            is_healthy(&file, SystemTime::now() + Duration::from_secs(later))
        };
        assert_eq!(said(9_000, 10, 15), Ok(()));
        let late = said(9_000, 10, 25).unwrap_err();
        assert_eq!(late, "the agent has not reported for 34 s, 3 intervals are 30 s");
        // A slow call at the shortest interval is not a failure yet.
        assert_eq!(said(4_000, 1, 4), Ok(()));
        assert!(said(4_000, 1, 8).is_err());
        assert!(said(86_400_000, i64::MAX as u64, 1).is_ok());
        // Half written.
        std::fs::write(&file, "unrep").unwrap();
        assert_eq!(is_healthy(&file, SystemTime::now()), Ok(()));
    }
}
