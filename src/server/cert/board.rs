//! Which checks are under way, which are asked for, and who waits for them. A domain is checked
//! once at a time: whoever asks meanwhile is notified of the check that goes on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard};

use crate::server::control::certs::checks::CheckRow;

/// How a check ended.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// With a result that is stored.
    Done(Arc<CheckRow>),
    /// The domain is no more.
    Gone,
    /// The result could not be stored; the server's log says why.
    NotStored,
}

/// The board. What is on it is bounded by the number of domains.
#[derive(Default)]
pub(super) struct Board(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    flights: HashMap<String, Flight>,
    /// Flights that wait for a checker, in their order.
    order: VecDeque<String>,
    flying: usize,
    /// Domains whose result could not be stored: they wait for the next tick.
    held: HashSet<String>,
    /// Whether there may be domains that are due.
    look: bool,
    closed: bool,
}

#[derive(Default)]
struct Flight {
    flying: bool,
    waiters: Vec<Sender<Ended>>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    /// Asks for a check of a domain, before the others that are asked for or behind them. `waiter`
    /// is notified how it ended, or dropped when the server stops first; it must have room.
    pub(super) fn ask(&self, id: &str, first: bool, waiter: Sender<Ended>) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        let known = inner.flights.contains_key(id);
        inner.flights.entry(id.to_owned()).or_default().waiters.push(waiter);
        if known && first && inner.order.iter().any(|waiting| waiting == id) {
            inner.order.retain(|waiting| waiting != id);
            inner.order.push_front(id.to_owned());
        } else if !known && first {
            inner.order.push_front(id.to_owned());
        } else if !known {
            inner.order.push_back(id.to_owned());
        }
    }

    /// The next domain that is asked for: its check is now under way.
    pub(super) fn take_asked(&self) -> Option<String> {
        let mut inner = self.lock();
        let id = inner.order.pop_front()?;
        inner.flights.entry(id.clone()).or_default().flying = true;
        inner.flying += 1;
        Some(id)
    }

    /// Begins a check that is due; false when there is one already, or the domain is held.
    pub(super) fn begin(&self, id: &str) -> bool {
        let mut inner = self.lock();
        if inner.closed || inner.flights.contains_key(id) || inner.held.contains(id) {
            return false;
        }
        inner.flights.insert(id.to_owned(), Flight { flying: true, waiters: Vec::new() });
        inner.flying += 1;
        true
    }

    /// Ends a check and notifies those who wait. One that was not stored is held.
    pub(super) fn end(&self, id: &str, ended: &Ended) {
        let flight = {
            let mut inner = self.lock();
            if matches!(ended, Ended::NotStored) {
                inner.held.insert(id.to_owned());
            }
            inner.take(id)
        };
        for waiter in flight.into_iter().flat_map(|flight| flight.waiters) {
            // Who waits no longer needs to know nothing.
            let _ = waiter.try_send(ended.clone());
        }
    }

    /// Ends a check of what the domain no longer is. Who waits, waits for the next.
    pub(super) fn again(&self, id: &str) {
        let mut inner = self.lock();
        inner.look = true;
        let Some(flight) = inner.take(id).filter(|flight| !flight.waiters.is_empty()) else {
            return;
        };
        if !inner.closed {
            let waiting = Flight { flying: false, waiters: flight.waiters };
            inner.flights.insert(id.to_owned(), waiting);
            inner.order.push_front(id.to_owned());
        }
    }

    /// Checks under way.
    pub(super) fn flying(&self) -> usize {
        self.lock().flying
    }

    /// Domains that a look for due ones finds in vain.
    pub(super) fn passed_over(&self) -> usize {
        let inner = self.lock();
        inner.flights.len() + inner.held.len()
    }

    /// Says that there may be domains that are due.
    pub(super) fn look_again(&self) {
        self.lock().look = true;
    }

    /// Whether there may be domains that are due, which is then no news any more.
    pub(super) fn take_look(&self) -> bool {
        std::mem::take(&mut self.lock().look)
    }

    /// A tick: looks again, and lets go of what was held.
    pub(super) fn tick(&self) {
        let mut inner = self.lock();
        inner.look = true;
        inner.held.clear();
    }

    /// Lets go of everyone who waits, now and later: the server stops.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        *inner = Inner { closed: true, ..Inner::default() };
    }
}

impl Inner {
    fn take(&mut self, id: &str) -> Option<Flight> {
        let flight = self.flights.remove(id)?;
        if flight.flying {
            self.flying = self.flying.saturating_sub(1);
        }
        Some(flight)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn a_domain_is_checked_once_at_a_time_and_all_who_wait_are_told() {
        let board = Board::default();
        assert!(board.begin("a"));
        assert!(!board.begin("a"));
        let (first, told_first) = bounded(1);
        let (second, told_second) = bounded(1);
        board.ask("a", true, first);
        board.ask("a", false, second);
        assert_eq!((board.take_asked(), board.flying()), (None, 1));
        board.end("a", &Ended::Gone);
        assert!(matches!(told_first.try_recv(), Ok(Ended::Gone)));
        assert!(matches!(told_second.try_recv(), Ok(Ended::Gone)));
        assert_eq!(board.flying(), 0);
        assert!(board.begin("a"));
    }

    #[test]
    fn a_person_who_asks_for_one_goes_before_those_who_ask_for_all() {
        let board = Board::default();
        let (waiter, _told) = bounded(9);
        for id in ["a", "b", "c"] {
            board.ask(id, false, waiter.clone());
        }
        board.ask("c", true, waiter.clone());
        board.ask("d", true, waiter);
        let order: Vec<String> = std::iter::from_fn(|| board.take_asked()).collect();
        assert_eq!(order, ["d", "c", "a", "b"]);
        assert_eq!(board.flying(), 4);
    }

    #[test]
    fn what_was_not_stored_waits_for_the_tick() {
        let board = Board::default();
        assert!(board.begin("a"));
        board.end("a", &Ended::NotStored);
        assert!(!board.begin("a"));
        assert_eq!(board.passed_over(), 1);
        board.tick();
        assert!(board.take_look() && board.begin("a"));
    }

    #[test]
    fn a_change_during_a_check_makes_those_who_wait_get_the_next() {
        let board = Board::default();
        let (waiter, ended) = bounded(1);
        board.ask("a", true, waiter);
        assert_eq!(board.take_asked().as_deref(), Some("a"));
        board.again("a");
        assert!(ended.try_recv().is_err() && board.flying() == 0);
        assert_eq!(board.take_asked().as_deref(), Some("a"));
        board.close();
        assert!(ended.recv().is_err(), "who waits is let go when the server stops");
    }
}
