//! Hands domains to the checkers: those that people ask for, then those that are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, select};

use crate::base::clock::{Clock, SECOND_MS};
use crate::rt::pool::Pool;
use crate::server::cert::board::Board;
use crate::server::cert::checker::Checker;
use crate::server::control::Control;
use crate::server::control::certs;

/// Decides what is checked next.
pub(super) struct Schedule {
    /// Where the domains are.
    pub control: Control,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is under way.
    pub board: Arc<Board>,
    /// Whether domains are checked by themselves, and not only when they are asked for.
    pub enabled: bool,
    /// Whether this server checks them, and not another one of `[peers]`.
    pub is_active: Arc<AtomicBool>,
    /// Seconds between two checks of a domain that says nothing else.
    pub default_secs: i64,
    /// Checks at the same time.
    pub max_concurrent: usize,
}

impl Schedule {
    /// The domains whose check begins now, as many as there are checkers free.
    pub(super) fn next(&self) -> Vec<String> {
        let mut next = Vec::new();
        while self.board.flying() < self.max_concurrent {
            let Some(id) = self.board.take_asked() else { break };
            next.push(id);
        }
        let free = self.max_concurrent.saturating_sub(self.board.flying());
        // Without a free checker the look waits for one: its end is notified.
        let is_on = self.enabled && self.is_active.load(Ordering::Acquire);
        if !is_on || free == 0 || !self.board.take_look() {
            return next;
        }
        let now_secs = self.clock.now_ms().div_euclid(SECOND_MS);
        let limit = free.saturating_add(self.board.passed_over());
        let found = self.control.read(|db| certs::due(db, now_secs, self.default_secs, limit));
        let due = found.unwrap_or_else(|error| {
            log::error!("domains that are due can't be looked for before the next tick: {error}");
            Vec::new()
        });
        if due.len() >= limit {
            // There may be more than were asked for.
            self.board.look_again();
        }
        for id in due {
            if self.board.flying() < self.max_concurrent && self.board.begin(&id) {
                next.push(id);
            }
        }
        next
    }
}

/// The thread that keeps the checkers busy.
pub(super) struct Scheduler {
    /// What is next.
    pub schedule: Schedule,
    /// Who checks.
    pub checker: Arc<Checker>,
    /// How often due domains are looked for.
    pub tick: Duration,
    /// Says that something is asked for, changed or ended.
    pub woken: Receiver<()>,
    /// For the checkers to say so.
    pub wake: Sender<()>,
}

impl Scheduler {
    /// Works until the stop signal. Checks under way are then cut short, and their domains stay
    /// due.
    pub(super) fn run(self) {
        let stop = self.checker.prober.stop.clone();
        let pool = self.checkers();
        let mut next_tick = Instant::now() + self.tick;
        self.schedule.board.tick();
        loop {
            // There is room: no more are under way than there are checkers.
            self.schedule.next().into_iter().for_each(|id| pool.put(0, id));
            select! {
                recv(stop.receiver()) -> _ => break,
                recv(self.woken) -> _ => {}
                recv(at(next_tick)) -> _ => {
                    next_tick = Instant::now() + self.tick;
                    self.schedule.board.tick();
                }
            }
        }
        self.schedule.board.close();
    }

    fn checkers(&self) -> Pool<String> {
        let workers = self.schedule.max_concurrent;
        Pool::shared("cert-check", workers, workers, |_| {
            let (checker, board) = (Arc::clone(&self.checker), Arc::clone(&self.schedule.board));
            let wake = self.wake.clone();
            move |jobs: Receiver<String>| {
                for id in jobs {
                    match checker.check(&id) {
                        Some(ended) => board.end(&id, &ended),
                        None => board.again(&id),
                    }
                    // Room for one: a second word says nothing new.
                    let _ = wake.try_send(());
                }
                Ok(())
            }
        })
    }
}
