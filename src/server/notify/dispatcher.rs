//! The dispatcher: routes what is due, and gives the senders one row for each channel at a time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;

use crate::base::clock::SECOND_MS;
use crate::base::limits::RULE_SECS_MAX;
use crate::rt::pool::Pool;
use crate::server::control::notify::{logs, outbox, pending, sent};
use crate::server::notify::deliver::Deliverer;
use crate::server::notify::router::Routing;
use crate::server::notify::{Gate, NotifyError};

/// The dispatcher's parts.
pub(super) struct Dispatcher {
    /// What the senders share.
    pub deliverer: Arc<Deliverer>,
    /// How notices become notifications.
    pub routing: Routing,
    /// Sender threads.
    pub workers: usize,
    /// How long the delivery log is kept, in milliseconds.
    pub keep_ms: i64,
    /// Says that a notice was written.
    pub woken: Receiver<()>,
    /// Says what may be sent.
    pub gate: Arc<OnceLock<Arc<dyn Gate>>>,
    /// Whether there is a gate: nothing is sent before it is there.
    pub is_gated: bool,
}

/// Looks for what is due at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Removes old rows of the delivery log this often.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// A row of the outbox for a sender.
struct Job {
    channel_id: String,
    row: i64,
}

/// Which channels are being served, and which were slow to answer the last time.
#[derive(Default)]
struct Flights {
    /// By channel, whether it counts as slow.
    in_flight: HashMap<String, bool>,
    slow: HashSet<String>,
    /// When each had its last turn, counted in turns.
    turns: HashMap<String, u64>,
    turn: u64,
}

impl Flights {
    /// Whether a channel may have a sender: it has none, and slow ones leave one to the others.
    fn begin(&mut self, channel: &str, workers: usize) -> bool {
        let slow = self.slow.contains(channel);
        let slow_now = self.in_flight.values().filter(|slow| **slow).count();
        let full = slow && slow_now >= workers.saturating_sub(1).max(1);
        if full || self.in_flight.contains_key(channel) {
            return false;
        }
        self.in_flight.insert(channel.to_owned(), slow);
        true
    }

    /// Puts the channels that had no turn for the longest time first: a long queue of one keeps
    /// nobody else waiting.
    fn order(&self, due: &mut [(String, i64)]) {
        due.sort_by_key(|(channel, _)| self.turns.get(channel).copied().unwrap_or(0));
    }

    fn end(&mut self, channel: &str, slow: bool) {
        self.turn += 1;
        self.turns.insert(channel.to_owned(), self.turn);
        self.in_flight.remove(channel);
        if slow {
            self.slow.insert(channel.to_owned());
        } else {
            self.slow.remove(channel);
        }
    }
}

impl Dispatcher {
    /// Works until the stop signal, then lets the senders finish the message they are at.
    pub(super) fn run(self) {
        let stop = self.deliverer.stop.clone();
        let flights = Arc::new(Mutex::new(Flights::default()));
        // Room for one, as for a waking: it only says "look again".
        let (done, finished) = bounded(1);
        let pool = self.senders(&flights, &done);
        let mut purged: Option<Instant> = None;
        let mut route_first = true;
        // What was planned before the start may have been planned by a clock that was ahead.
        let mut looked_ms = i64::MAX;
        loop {
            let now_ms = self.deliverer.clock.now_ms();
            if now_ms < looked_ms {
                self.put_back(now_ms);
            }
            looked_ms = now_ms;
            let wait = match self.pass(&pool, &flights, route_first) {
                Ok(wait) => wait,
                Err(error) => {
                    log::error!("failed to read pending notifications: {error}");
                    LOOK_EVERY
                }
            };
            if purged.is_none_or(|at| at.elapsed() >= PURGE_EVERY) {
                purged = Some(Instant::now());
                self.purge();
            }
            select! {
                recv(stop.receiver()) -> _ => break,
                recv(self.woken) -> woken => {
                    if woken.is_err() {
                        break;
                    }
                    route_first = true;
                }
                recv(finished) -> _ => route_first = false,
                default(wait) => route_first = false,
            }
        }
    }

    fn senders(&self, flights: &Arc<Mutex<Flights>>, done: &Sender<()>) -> Pool<Job> {
        // When it is full, rows wait in the outbox for the next look.
        Pool::shared("notify-send", self.workers, self.workers.max(1), |_| {
            let deliverer = Arc::clone(&self.deliverer);
            let flights = Arc::clone(flights);
            let done = done.clone();
            move |jobs: Receiver<Job>| {
                for job in jobs {
                    // What is still queued when the server stops stays in the outbox.
                    if deliverer.stop.is_stopped() {
                        continue;
                    }
                    let took = deliverer.deliver(job.row);
                    let slow = took * 2 >= deliverer.client().timeout();
                    flights.lock().end(&job.channel_id, slow);
                    let _ = done.try_send(());
                }
                Ok(())
            }
        })
    }

    /// Routes and hands out what is due; gives how long nothing more will be.
    fn pass(
        &self,
        pool: &Pool<Job>,
        flights: &Mutex<Flights>,
        route_first: bool,
    ) -> Result<Duration, NotifyError> {
        let control = &self.deliverer.control;
        let now_ms = self.deliverer.clock.now_ms();
        // A waking may come before its transaction is committed. A write waits its turn behind it.
        if route_first || control.read(|db| pending::due_groups(db, now_ms)).is_ok_and(has_any) {
            self.route(now_ms)?;
        }
        let none_ms = if self.is_gated { i64::MIN } else { i64::MAX };
        let made_to_ms = self.gate.get().map_or(none_ms, |gate| gate.made_to_ms(now_ms));
        let mut due = control.read(|db| outbox::due_rows(db, now_ms, made_to_ms))?;
        flights.lock().order(&mut due);
        for (channel_id, row) in due {
            if !flights.lock().begin(&channel_id, self.workers) {
                continue;
            }
            if let Err(job) = pool.offer(0, Job { channel_id, row }) {
                flights.lock().in_flight.remove(&job.channel_id);
                break;
            }
        }
        let (outbox, notices, next_ms) = control.read(outbox::depth)?;
        self.deliverer.metrics.outbox.set(outbox);
        self.deliverer.metrics.notices.set(notices);
        let wait_ms = next_ms.map_or(i64::MAX, |next_ms| next_ms.saturating_sub(now_ms));
        // What is due already waits for a sender, whose end is notified.
        let wait = u64::try_from(wait_ms).ok().filter(|wait| *wait > 0).map(Duration::from_millis);
        Ok(wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY))
    }

    fn route(&self, now_ms: i64) -> Result<(), NotifyError> {
        let routing = self.routing.clone();
        let routed = self
            .deliverer
            .control
            .write(move |tx| -> Result<_, NotifyError> { Ok(routing.route(tx, now_ms)?) })?;
        for channel_type in &routed.suppressed {
            self.deliverer.metrics.suppressed.with_label_values(&[channel_type]).inc();
        }
        Ok(())
    }

    fn put_back(&self, now_ms: i64) {
        let routing = self.routing.clone();
        let done = self
            .deliverer
            .control
            .write(move |tx| -> Result<(), NotifyError> { Ok(routing.put_back(tx, now_ms)?) });
        if let Err(error) = done {
            log::error!("failed to reschedule pending notifications: {error}");
        }
    }

    fn purge(&self) {
        let now_ms = self.deliverer.clock.now_ms();
        let before_ms = now_ms.saturating_sub(self.keep_ms);
        // No repeat interval reaches back further.
        let sent_before_ms = now_ms.saturating_sub(2 * RULE_SECS_MAX as i64 * SECOND_MS);
        while !self.deliverer.stop.is_stopped() {
            let removed = self.deliverer.control.write(move |tx| -> Result<_, NotifyError> {
                sent::purge(tx, sent_before_ms)?;
                Ok(logs::purge(tx, before_ms)?)
            });
            match removed {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    log::error!("failed to purge the delivery log: {error}");
                    return;
                }
            }
        }
    }
}

fn has_any<T>(list: Vec<T>) -> bool {
    !list.is_empty()
}
