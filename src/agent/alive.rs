//! Whether the agent does its work, for whoever watches it: the service manager's watchdog, and a
//! container's health check, which looks at a file that the agent touches.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::agent::reporter::Stats;
use crate::base::exit::{Exit, Fatal};
use crate::rt::service;

/// Names the file that is touched as long as the agent does its work.
const FILE_VARIABLE: &str = "OXMON_HEALTH_FILE";
/// How often it is touched: both loops turn more often than that, whatever the interval is.
const TOUCH_EVERY: Duration = Duration::from_secs(30);
/// A file that is older was left by an agent that does nothing any more.
const OLD_AFTER: Duration = Duration::from_secs(100);

/// Notifies whoever watches the agent, as long as both of its loops turn.
pub(crate) struct Alive {
    stats: Arc<Stats>,
    turned: Turned,
    watchdog: bool,
    file: Option<PathBuf>,
    /// The time between two calls of [`Self::notify`]; `None` when nobody watches.
    pub(crate) pause: Option<Duration>,
}

impl Alive {
    /// Watches where the service manager (`WATCHDOG_USEC`) or the environment asks for it.
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let file = named_file();
        if let Some(file) = &file {
            touch(file);
        }
        let turned = Turned { seen: stats.turns() };
        let touch_every = file.as_ref().map(|_| TOUCH_EVERY);
        let pause = [watchdog, touch_every].into_iter().flatten().min();
        Self { stats, turned, watchdog: watchdog.is_some(), file, pause }
    }

    /// Notifies once more, where both loops have turned since the last time.
    pub(crate) fn notify(&mut self) {
        if !self.turned.both(self.stats.turns()) {
            return;
        }
        if self.watchdog {
            service::alive();
        }
        if let Some(file) = &self.file {
            touch(file);
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
    is_fresh(&file, SystemTime::now()).map_err(|why| Fatal::new(Exit::Failed, why))
}

fn named_file() -> Option<PathBuf> {
    std::env::var_os(FILE_VARIABLE).filter(|name: &OsString| !name.is_empty()).map(PathBuf::from)
}

fn touch(file: &Path) {
    // The file's time is the message; whoever looks finds it old when this fails.
    if let Err(error) = std::fs::write(file, "") {
        log::warn!("cannot write {FILE_VARIABLE} {}: {error}", file.display());
    }
}

fn is_fresh(file: &Path, now: SystemTime) -> Result<(), String> {
    let touched = std::fs::metadata(file).and_then(|meta| meta.modified());
    let touched = touched.map_err(|error| format!("{}: {error}", file.display()))?;
    // A clock that was set back makes it no older.
    let age = now.duration_since(touched).unwrap_or_default();
    if age > OLD_AFTER {
        return Err(format!("the agent did nothing for {} s", age.as_secs()));
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
    fn a_file_that_is_no_longer_touched_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alive");
        assert!(is_fresh(&file, SystemTime::now()).unwrap_err().contains("alive"));
        touch(&file);
        let now = SystemTime::now();
        assert_eq!(is_fresh(&file, now), Ok(()));
        assert_eq!(is_fresh(&file, now - Duration::from_secs(3_600)), Ok(()));
        let late = is_fresh(&file, now + OLD_AFTER + Duration::from_secs(2)).unwrap_err();
        assert!(late.contains("did nothing for 102 s"), "{late}");
    }
}
