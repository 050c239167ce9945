//! A time limit for work that has none: each read of a mail is limited, so that a mail server
//! which sends a byte now and then, and never the end, would hold a sender for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::rt::thread;

/// Works that are beyond their time, by endpoint.
#[derive(Default)]
pub(crate) struct Timed(Arc<Mutex<HashMap<String, usize>>>);

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// The work went on for longer than it may.
    Over,
    /// An earlier work with the same endpoint still goes on, and this one was not begun.
    Busy,
}

impl Timed {
    /// Does `work` on a thread of its own and waits for it for `limit`. A work that takes longer
    /// goes on, with nobody to hear of its result, and until its end no other is begun with the
    /// same endpoint: one that never lets go holds one thread for each sender at the most.
    ///
    /// # Errors
    ///
    /// When there is no result in time.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        endpoint: &str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        if self.0.lock().contains_key(endpoint) {
            return Err(Late::Busy);
        }
        let (give, given) = bounded(1);
        let (late, name) = (Arc::clone(&self.0), endpoint.to_owned());
        thread::spawn("notify-mail", move || {
            let result = work();
            let mut late = late.lock();
            // The receiver goes under the same lock, so that one of the two sides knows of this.
            if give.send(result).is_err()
                && let Some(count) = late.get_mut(&name)
            {
                *count -= 1;
                if *count == 0 {
                    late.remove(&name);
                }
            }
            Ok(())
        });
        if let Ok(result) = given.recv_timeout(limit) {
            return Ok(result);
        }
        let mut late = self.0.lock();
        match given.try_recv() {
            Ok(result) => Ok(result),
            Err(_) => {
                *late.entry(endpoint.to_owned()).or_default() += 1;
                drop(given);
                Err(Late::Over)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::server::notify::tests::wait_for;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_endpoint_that_does_not_let_go_gets_no_more_work_until_it_does() {
        let timed = Timed::default();
        assert_eq!(timed.run("a", LONG, || 1), Ok(1));
        let (release, held) = bounded::<()>(0);
        let (ended, end) = bounded::<()>(0);
        let work = move || {
            let _ended = ended;
            held.recv().is_err()
        };
        assert_eq!(timed.run("a", SOON, work), Err(Late::Over));
        assert_eq!(timed.run("a", LONG, || true), Err(Late::Busy));
        assert_eq!(timed.run("b", LONG, || true), Ok(true), "others go on");
        drop(release);
        assert!(end.recv_timeout(LONG).is_err());
        wait_for("the mail server to be free", || {
            (timed.run("a", LONG, || 2) == Ok(2)).then_some(())
        });
    }
}
