//! The stop signal, which is also the timer of every periodic loop: a loop waits on it with a
//! time-out, so that stopping is instant and nothing sleeps.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, never};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::rt::thread;

/// Held by whoever decides; dropping it stops everyone who holds a [`Stop`] of it.
pub struct StopSource {
    _open: Sender<Infallible>,
    stop: Stop,
}

/// A view of the stop signal. Nothing is ever sent: the channel's end is the signal.
#[derive(Clone)]
pub struct Stop(Receiver<Infallible>);

impl StopSource {
    /// A new signal that has not been given.
    #[allow(clippy::new_without_default, reason = "a stop source is made on purpose")]
    pub fn new() -> Self {
        let (open, receiver) = bounded(0);
        Self { _open: open, stop: Stop(receiver) }
    }

    /// A view to hand to a loop.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

impl Stop {
    /// A signal that never comes.
    pub fn never() -> Self {
        Self(never())
    }

    /// Waits for `timeout` or for the signal; true when it is time to stop.
    pub fn wait(&self, timeout: Duration) -> bool {
        matches!(self.0.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
    }

    /// Waits until `deadline` or for the signal; true when it is time to stop.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        matches!(self.0.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
    }

    /// Whether the signal has been given.
    pub fn is_stopped(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// The channel itself, for `select!`: it is ready once the signal has been given.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.0
    }
}

/// What the system asks of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Listens for SIGTERM, SIGINT and SIGHUP, and ignores SIGUSR1 and SIGUSR2, which would end the
/// process. A second SIGTERM or SIGINT ends it at once.
///
/// # Errors
///
/// When the handlers can't be set.
pub fn signals() -> io::Result<Receiver<Ask>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
    // Small: a person or a service manager sends them; what does not fit is a repeat.
    let (sender, receiver) = bounded(4);
    thread::spawn("signals", move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if matches!(signal, SIGUSR1 | SIGUSR2) {
                log::debug!("ignored signal {signal}");
            } else if signal == SIGHUP {
                let _ = sender.try_send(Ask::Reload);
            } else if stopping {
                log::warn!("stopped at once by a second signal");
                signal_hook::low_level::exit(128 + signal);
            } else {
                stopping = true;
                let _ = sender.try_send(Ask::Stop);
            }
        }
        Ok(())
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_source_ends_every_wait_at_once() {
        let source = StopSource::new();
        let stop = source.stop();
        assert!(!stop.is_stopped());
        assert!(!stop.wait(Duration::from_millis(1)));
        let waiter = std::thread::spawn(move || stop.wait(Duration::from_secs(60)));
        drop(source);
        assert!(waiter.join().is_ok_and(|stopped| stopped));
    }
}
