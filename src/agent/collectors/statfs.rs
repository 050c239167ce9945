//! The sizes of a file system (statvfs(3)), in a way that a dead server of one can't stop the rest.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::agent::collectors::percent;
use crate::model::point::Point;
use crate::rt::thread;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// All blocks.
    pub total: u64,
    /// Blocks that are free, for the superuser too.
    pub free: u64,
    /// Blocks that are free for everyone.
    pub available: u64,
}

/// How a path is asked; another function stands in for a mount that hangs in tests.
pub type Ask = fn(&std::path::Path) -> io::Result<Sizes>;

/// How long a remote file system may take before it is passed over.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer = io::Result<Sizes>;

/// Asks file systems. A local one is asked directly; a remote one on a thread of its own that can
/// be given up on: while it hangs, it is passed over, and no second thread is started for it.
pub struct Asker {
    ask: Ask,
    hanging: HashMap<PathBuf, Receiver<Answer>>,
}

impl Asker {
    /// An asker that asks with `ask`.
    pub fn new(ask: Ask) -> Self {
        Self { ask, hanging: HashMap::new() }
    }

    /// The sizes of a local file system.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local(&self, path: &std::path::Path) -> Answer {
        (self.ask)(path)
    }

    /// The sizes of a remote file system; `TimedOut` while it hangs.
    ///
    /// # Errors
    ///
    /// What the system says, or that it did not answer in time.
    pub fn remote(&mut self, path: &std::path::Path) -> Answer {
        let waited_before = self.hanging.remove(path);
        let patience = if waited_before.is_some() { Duration::ZERO } else { PATIENCE };
        let answer = waited_before.unwrap_or_else(|| self.start(path));
        match answer.recv_timeout(patience) {
            Ok(sizes) => sizes,
            Err(RecvTimeoutError::Timeout) => {
                self.hanging.insert(path.to_owned(), answer);
                Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn start(&self, path: &std::path::Path) -> Receiver<Answer> {
        let (reply, answer) = bounded(1);
        let (ask, path) = (self.ask, path.to_owned());
        thread::spawn("statfs", move || {
            // Nobody waits any more when the mount list has changed meanwhile.
            let _ = reply.send(ask(&path));
            Ok(())
        });
        answer
    }

    /// Forgets file systems that are no longer mounted.
    pub fn keep(&mut self, mounted: impl Fn(&std::path::Path) -> bool) {
        self.hanging.retain(|path, _| mounted(path));
    }
}

/// statvfs(3) of a path.
///
/// # Errors
///
/// What the system says.
pub fn statvfs(path: &std::path::Path) -> io::Result<Sizes> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Sizes {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
    })
}

/// The points of one file system, as `df` counts: blocks for the superuser alone are neither used
/// nor available.
pub fn push(mount: &str, sizes: Sizes, now_ms: i64, out: &mut Vec<Point>) {
    let used = sizes.total.saturating_sub(sizes.free);
    let usable = used.saturating_add(sizes.available);
    let labelled = |metric, value| Point::labelled(metric, "mount", mount, now_ms, value);
    out.push(labelled("disk.total", sizes.total as f64));
    out.push(labelled("disk.used", used as f64));
    out.push(labelled("disk.available", sizes.available as f64));
    out.push(labelled("disk.used_percent", percent(used as f64, usable as f64)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn hang(_: &Path) -> io::Result<Sizes> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn a_mount_that_hangs_is_given_up_on_and_asked_once() {
        let mut asker = Asker::new(hang);
        let path = Path::new("/dead/nfs");
        assert_eq!(asker.remote(path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let started = Instant::now();
        for _ in 0..5 {
            assert_eq!(asker.remote(path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(started.elapsed() < PATIENCE, "later collections do not wait again");
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_live_file_system_answers_both_ways() {
        let mut asker = Asker::new(statvfs);
        let local = asker.local(Path::new("/")).unwrap();
        let remote = asker.remote(Path::new("/")).unwrap();
        assert_eq!(local.total, remote.total);
        assert!(local.total >= local.free && local.free >= local.available);
        assert!(asker.local(Path::new("/no/such/mount")).is_err());
    }
}
