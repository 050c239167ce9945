//! How far an import is: one line that is written again where a person watches.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::base::cli::say;

/// Time between two lines.
const EVERY: Duration = Duration::from_millis(200);

/// Progress over all points.
pub(super) struct Progress {
    shown: bool,
    started: Instant,
    last: Instant,
    total: u64,
    done: u64,
    begun_with: u64,
}

impl Progress {
    /// `total` points in all.
    pub(super) fn new(total: u64) -> Self {
        let now = Instant::now();
        let shown = std::io::stderr().is_terminal();
        Self { shown, started: now, last: now, total, done: 0, begun_with: 0 }
    }

    /// Notes points that an earlier run brought over.
    pub(super) fn skip(&mut self, points: u64) {
        self.done += points;
        self.begun_with += points;
    }

    /// Notes `points` that were read of the file `name`.
    pub(super) fn add(&mut self, name: &str, points: u64) {
        self.done += points;
        if self.shown && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            say(&format!("\r\x1b[K{}", self.line(name)));
        }
    }

    fn line(&self, name: &str) -> String {
        let percent = self.done * 100 / self.total.max(1);
        let rate = self.rate();
        let left = self.total.saturating_sub(self.done) / rate.max(1);
        let (done, total) = (self.done, self.total);
        format!("{name}: {done} of {total} points, {percent} %, {rate} points/s, {left} s left")
    }

    /// Points a second since the start.
    pub(super) fn rate(&self) -> u64 {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        ((self.done - self.begun_with) as f64 / seconds) as u64
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.shown {
            say("\r\x1b[K");
        }
    }
}
