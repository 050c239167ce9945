//! Log lines on standard error: with a time of their own on a terminal or in a file, and with a
//! priority prefix and no time under systemd, where the journal adds its own (sd-daemon(3)).

use std::cell::RefCell;
use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::base::clock::{Clock as _, SystemClock, rfc3339};

thread_local! {
    static CONTEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Logger {
    journal: bool,
}

/// Starts logging at `level`. Safe to call again: only the level changes then.
pub fn init(level: LevelFilter) {
    // JOURNAL_STREAM is set when standard error goes to the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second call finds a logger in place, which is the one that it would set.
    let _ = log::set_boxed_logger(Box::new(Logger { journal }));
    log::set_max_level(level);
}

/// The level that a configuration names: `error`, `warn`, `info`, `debug` or `trace`.
pub fn parse_level(name: &str) -> Option<LevelFilter> {
    match name {
        "error" | "warn" | "info" | "debug" | "trace" => name.parse().ok(),
        _ => None,
    }
}

/// Runs `body` with `context` (`trace=…`) in every log line that its thread writes meanwhile.
pub fn with_context<T>(context: &str, body: impl FnOnce() -> T) -> T {
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            CONTEXT.with(|cell| cell.replace(std::mem::take(&mut self.0)));
        }
    }
    let _restore = Restore(CONTEXT.with(|cell| cell.replace(context.to_owned())));
    body()
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // gRPC's core logs each attempt to connect, without a target: what matters of it is in the
        // errors of the calls.
        if metadata.target().is_empty() {
            return log::max_level() >= LevelFilter::Debug;
        }
        // Libraries log only when something is wrong with them.
        metadata.target().starts_with("oxmon") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = CONTEXT.with(|cell| {
            let context = cell.borrow();
            let gap = if context.is_empty() { "" } else { " " };
            if self.journal {
                format!("<{}>{context}{gap}{}\n", priority(record.level()), record.args())
            } else {
                let now = rfc3339(SystemClock.now_ms());
                format!("{now} {:5} {context}{gap}{}\n", record.level(), record.args())
            }
        });
        // A log that can't be written must not stop the daemon.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// The syslog priority of a level (RFC 5424, section 6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
