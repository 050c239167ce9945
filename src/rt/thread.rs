//! The one place where a thread starts.

use std::error::Error;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
#[cfg(feature = "server")]
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

#[cfg(feature = "server")]
use crossbeam_channel::bounded;
#[cfg(feature = "server")]
use parking_lot::Mutex;

use crate::base::exit::Exit;

/// What a thread's body gives back: an error ends the process.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Starts a named thread. A body that fails or panics ends the whole process with a message: half
/// a daemon that looks alive is worse than one that its service manager restarts.
///
/// # Panics
///
/// When the system refuses a thread, which at start-up leaves nothing to run.
pub fn spawn(name: &str, body: impl FnOnce() -> Outcome + Send + 'static) -> JoinHandle<()> {
    #[allow(clippy::expect_used, reason = "a daemon without its threads can't do its work")]
    try_spawn(name, body).expect("the system gives a thread")
}

/// As [`spawn`], for a thread that the daemon can go on without.
///
/// # Errors
///
/// When the system refuses a thread, as a limit on tasks makes it do.
pub fn try_spawn(
    name: &str,
    body: impl FnOnce() -> Outcome + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let label = name.to_owned();
    // Linux shows at most 15 bytes of a thread's name.
    let short: String = name.chars().take(15).collect();
    Builder::new().name(short).stack_size(STACK_BYTES).spawn(move || {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => die(&label, &chain(error.as_ref())),
            Err(panic) => die(&label, &panic_text(panic.as_ref())),
        }
    })
}

/// Runs `body` on a thread of lower priority and waits for it, so that long work leaves the
/// processors to what must be quick. Where there is no thread to be had, it runs here.
#[cfg(feature = "server")]
pub(crate) fn in_background<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    let body = Mutex::new(Some(body));
    let run = || body.lock().take().map(|body| body());
    let lowered = || {
        // Of one thread alone only on Linux; a refusal leaves the usual priority.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
        run()
    };
    let done = std::thread::scope(|scope| {
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let started = builder.spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(lowered)));
        started.ok().and_then(|thread| thread.join().ok())
    });
    match done {
        Some(Ok(Some(value))) => value,
        Some(Err(panic)) => die(name, &panic_text(panic.as_ref())),
        _ => match run() {
            Some(value) => value,
            None => die(name, "its thread ended without a result"),
        },
    }
}

/// Hands the results of jobs to `take`, in the order of the jobs, until that breaks. Up to
/// `workers` threads, of the priority of this one, work on the next ones meanwhile, where there is
/// more than one job and threads are to be had.
#[cfg(feature = "server")]
pub(crate) fn ahead<J: Send, R: Send>(
    name: &str,
    workers: usize,
    mut next: impl FnMut() -> Option<J>,
    work: impl Fn(J) -> R + Sync,
    mut take: impl FnMut(R) -> ControlFlow<()>,
) {
    let Some(first) = next() else { return };
    let Some(second) = next() else {
        let _ = take(work(first));
        return;
    };
    let work = &work;
    std::thread::scope(|scope| {
        let start = |_| {
            let (jobs, queue) = bounded::<J>(2);
            let (done, results) = bounded::<R>(2);
            let run = move || {
                // Ends when there are no more jobs, or nobody takes the results.
                let _ = queue.iter().map(work).try_for_each(|result| done.send(result));
            };
            let guarded = move || match catch_unwind(AssertUnwindSafe(run)) {
                Ok(()) => {}
                Err(panic) => die("ahead", &panic_text(panic.as_ref())),
            };
            let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, guarded).ok().map(|_| (jobs, results))
        };
        let lanes: Vec<_> = (0..workers).map_while(start).collect();
        let mut jobs = [first, second].into_iter().chain(std::iter::from_fn(next)).fuse();
        if lanes.is_empty() {
            let _ = jobs.try_for_each(|job| take(work(job)));
            return;
        }
        // One job more than there are threads is under way: each lane has room for two.
        let mut sent = 0;
        let mut taken = 0;
        loop {
            while sent <= taken + lanes.len()
                && let Some(job) = jobs.next()
            {
                let _ = lanes[sent % lanes.len()].0.send(job);
                sent += 1;
            }
            if taken == sent {
                return;
            }
            let Ok(result) = lanes[taken % lanes.len()].1.recv() else { return };
            taken += 1;
            if take(result).is_break() {
                return;
            }
        }
    });
}

/// The priority of work in the background, as nice(1) counts it.
#[cfg(all(feature = "server", target_os = "linux"))]
const BACKGROUND_NICE: i32 = 10;

/// Enough for SQLite's and OpenSSL's deepest calls; untouched pages cost nothing.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Runs `body` with a larger timer slack, which the threads that it starts inherit: their timers
/// may fire up to `slack` late, together with others (PR_SET_TIMERSLACK of prctl(2), Linux only). A
/// thread among them that must be on time restores the [`TimerSlack`] that `body` is given.
pub fn with_timer_slack<T>(slack: Duration, body: impl FnOnce(TimerSlack) -> T) -> T {
    #[cfg(target_os = "linux")]
    let usual = {
        let usual = rustix::thread::current_timer_slack().ok().and_then(NonZeroU64::new);
        let wanted = u64::try_from(slack.as_nanos()).ok().and_then(NonZeroU64::new);
        // A refusal only costs some more wake-ups.
        let _ = rustix::thread::set_current_timer_slack(wanted);
        TimerSlack(usual)
    };
    #[cfg(not(target_os = "linux"))]
    let usual = {
        let _ = slack;
        TimerSlack()
    };
    let _restore = RestoreOnDrop(usual);
    body(usual)
}

/// The timer slack that a thread had before [`with_timer_slack`].
#[derive(Clone, Copy)]
pub struct TimerSlack(#[cfg(target_os = "linux")] Option<NonZeroU64>);

impl TimerSlack {
    /// Sets this slack for the calling thread.
    pub fn restore(self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(self.0);
    }
}

/// Restores the slack when it is dropped.
struct RestoreOnDrop(TimerSlack);

impl Drop for RestoreOnDrop {
    fn drop(&mut self) {
        self.0.restore();
    }
}

/// An error with all of its causes on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

fn die(thread: &str, reason: &str) -> ! {
    log::error!("thread `{thread}` failed: {reason}; exiting so that the process is restarted");
    std::process::exit(Exit::WorkerDied as i32);
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_until_one_breaks() {
        let cases = [(0, 9), (1, 9), (2, 9), (50, 99), (50, 7), (1_000, 1)];
        for (workers, (count, most)) in (0..4).flat_map(|workers| cases.map(|it| (workers, it))) {
            let mut jobs = 0..count;
            let mut seen = Vec::new();
            let take = |result: u32| {
                seen.push(result);
                if seen.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            ahead("test", workers, || jobs.next(), |job: u32| job * 2, take);
            let wanted: Vec<u32> = (0..count).map(|job| job * 2).take(most).collect();
            assert_eq!(seen, wanted);
        }
    }
}
