//! Brings ticks to the server: the live one first, then what waited, in its order and in large
//! calls. One call is under way at a time, and the loop never waits for it alone.
//!
//! | the server says | what becomes of the ticks |
//! |---|---|
//! | stored | done with |
//! | refused (`success = false`) | given up, counted and logged; a merged call is split first |
//! | queue full, denied, no answer, anything else | kept, and tried again after a growing pause |
//!
//! While the link is known to work, a tick is sent from memory and nothing is written. One that is
//! not acknowledged when the next tick comes, or that comes while the link does not work, goes to
//! the [`Buffer`] before anything else.

mod backoff;
mod link;
mod packed;
mod stats;
pub(crate) mod target;
mod tell;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use crate::agent::buffer::{Buffer, Front, Tick};
use crate::base::limits::BATCH_POINTS_MAX;
use crate::rt::stop::Stop;
use crate::rt::thread::Outcome;
use backoff::Backoff;
use link::{Answer, Failure, FailureKind, Link, Reply};
pub use stats::Stats;
use target::{CALL_TIMEOUT, Target};
use tell::Teller;

/// How long an end waits for the last tick to arrive at the server.
const GOODBYE: Duration = Duration::from_millis(1_200);
/// How often the loop turns at the least, which is also its sign of life.
const TURN: Duration = Duration::from_secs(20);

/// What the reporter's loop listens to.
pub(crate) struct Inputs {
    /// Its end, once what was queued is taken, is the reporter's end too.
    pub(crate) ticks: Receiver<Tick>,
    /// A changed configuration.
    pub(crate) reloads: Receiver<Reload>,
    /// The signal to come to an end.
    pub(crate) stop: Stop,
}

/// What a changed configuration means to the reporter.
pub(crate) struct Reload {
    pub(crate) target: Target,
    pub(crate) buffer_dir: Option<std::path::PathBuf>,
    pub(crate) buffer_max_size: usize,
}

/// What a gRPC error says, for people.
pub(crate) fn explain(error: &grpcio::Error) -> String {
    link::failure(error).text
}

/// See the module.
pub(crate) struct Reporter {
    link: Link,
    replies: Receiver<Reply>,
    buffer: Buffer,
    stats: Arc<Stats>,
    flight: Option<Flight>,
    backoff: Backoff,
    /// Set while the link does not work: nothing is sent before.
    retry_at: Option<Instant>,
    /// Whether the newest tick of the buffer goes before the older ones.
    newest_first: bool,
    /// Points of a merged call. Halved where a call seems too large, doubled where one works.
    points_max: usize,
    teller: Teller,
}

/// What is under way.
struct Flight {
    id: u64,
    deadline: Instant,
    what: What,
}

enum What {
    /// A tick that is in memory alone.
    Live(Tick),
    /// So many ticks of the buffer; `newest` where it went before older ones.
    Kept { from: u64, to: u64, ticks: usize, newest: bool },
}

impl What {
    fn newest(sequence: u64) -> Self {
        Self::Kept { from: sequence, to: sequence, ticks: 1, newest: true }
    }
}

impl Reporter {
    /// A reporter that has not connected yet.
    pub(crate) fn new(target: Target, buffer: Buffer, stats: Arc<Stats>) -> Self {
        let (link, replies) = Link::new(target);
        let mut reporter = Self {
            link,
            replies,
            buffer,
            stats,
            flight: None,
            backoff: Backoff::new(),
            retry_at: None,
            newest_first: false,
            points_max: BATCH_POINTS_MAX,
            teller: Teller::new(),
        };
        reporter.publish();
        reporter
    }

    /// Works until the ticks end or the stop signal comes, then sends or keeps what is left.
    pub(crate) fn run(mut self, inputs: &Inputs) -> Outcome {
        // What an earlier run left goes out at once.
        self.pump(Instant::now());
        while !inputs.stop.is_stopped() {
            let now = Instant::now();
            let wake = self.wake_at(now);
            let stopped = inputs.stop.receiver();
            select! {
                recv(inputs.ticks) -> tick => match tick {
                    Ok(tick) => self.on_tick(tick, Instant::now()),
                    Err(_) => break,
                },
                recv(self.replies) -> reply => if let Ok(reply) = reply {
                    self.on_reply(reply, Instant::now());
                },
                recv(inputs.reloads) -> reload => if let Ok(reload) = reload {
                    self.on_reload(reload);
                },
                recv(stopped) -> _ => break,
                default(wake.saturating_duration_since(now)) => {}
            }
            self.on_time(Instant::now());
            self.publish();
        }
        self.finish(&inputs.ticks);
        Ok(())
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let flight = self.flight.as_ref().map(|flight| flight.deadline);
        let retry = self.retry_at.filter(|_| self.flight.is_none() && !self.buffer.is_empty());
        [flight, retry].into_iter().flatten().fold(now + TURN, Instant::min)
    }

    /// What the passing of time alone asks for.
    fn on_time(&mut self, now: Instant) {
        if self.flight.as_ref().is_some_and(|flight| flight.deadline <= now) {
            let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            self.on_failure(&Failure { kind: FailureKind::Unreachable, text }, now);
        }
        self.pump(now);
        self.teller.drops(self.buffer.dropped(), self.buffer.len(), now);
    }

    fn on_tick(&mut self, tick: Tick, now: Instant) {
        let works = self.teller.is_connected() && self.retry_at.is_none();
        if works && self.flight.is_none() && self.buffer.is_empty() {
            let id = self.link.send(std::slice::from_ref(&tick));
            self.launch(id, What::Live(tick), now);
            return;
        }
        self.keep_flight();
        self.buffer.push(&tick);
        self.newest_first = true;
    }

    /// Writes down a tick that is under way in memory alone.
    fn keep_flight(&mut self) {
        if let Some(Flight { what, .. }) = &mut self.flight
            && let What::Live(tick) = what
        {
            let sequence = self.buffer.push(tick);
            *what = What::newest(sequence);
        }
    }

    /// Sends the next ticks of the buffer, where it is time to.
    fn pump(&mut self, now: Instant) {
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        if std::mem::take(&mut self.newest_first)
            && let Some((sequence, tick)) = self.buffer.newest()
        {
            let id = self.link.send(std::slice::from_ref(&tick));
            self.launch(id, What::newest(sequence), now);
        } else if let Some(Front { from, to, ticks }) =
            self.buffer.front(self.points_max.min(self.link.points_max()))
        {
            let id = self.link.send(&ticks);
            self.launch(id, What::Kept { from, to, ticks: ticks.len(), newest: false }, now);
        }
    }

    fn launch(&mut self, id: u64, what: What, now: Instant) {
        let deadline = now + CALL_TIMEOUT + Duration::from_secs(1);
        self.flight = Some(Flight { id, deadline, what });
    }

    fn on_reply(&mut self, reply: Reply, now: Instant) {
        let id = self.flight.as_ref().map(|flight| flight.id);
        if !self.link.is_reply_to(&reply, id) {
            return;
        }
        match reply.outcome {
            Ok(Answer::Stored { message, features }) => {
                self.link.learn(&features);
                // A server of the first kind says something pleasant each time.
                if !message.is_empty() && self.link.knows_packed() {
                    self.teller.remark(&message, now);
                }
                self.on_stored();
            }
            Ok(Answer::Refused(message)) => self.on_refused(&message, now),
            Err(failure) => self.on_failure(&failure, now),
        }
        self.pump(now);
    }

    fn on_stored(&mut self) {
        self.works();
        let Some(flight) = self.flight.take() else { return };
        if let What::Kept { from, to, ticks, .. } = flight.what {
            self.buffer.done(from, to);
            self.points_max = (self.points_max * 2).min(BATCH_POINTS_MAX);
            self.teller.backfilled(ticks, self.buffer.is_empty());
        }
    }

    fn on_refused(&mut self, message: &str, now: Instant) {
        self.works();
        let Some(flight) = self.flight.take() else { return };
        match flight.what {
            What::Kept { ticks, .. } if ticks > 1 => {
                // One of them may be at fault: each is sent by itself, so that it goes alone.
                self.points_max = 1;
                return;
            }
            What::Kept { from, to, .. } => self.buffer.done(from, to),
            What::Live(_) => {}
        }
        self.buffer.count_dropped(1);
        self.teller.refused(message, now);
    }

    /// The link works.
    fn works(&mut self) {
        self.backoff.reset();
        self.retry_at = None;
        self.teller.connected(self.link.endpoint());
    }

    fn on_failure(&mut self, failure: &Failure, now: Instant) {
        self.keep_flight();
        let Some(flight) = self.flight.take() else { return };
        let merged = matches!(flight.what, What::Kept { ticks, .. } if ticks > 1);
        // What was to go first still is.
        self.newest_first |= matches!(flight.what, What::Kept { newest: true, .. });
        match failure.kind {
            FailureKind::Unimplemented if self.link.fall_back() => return,
            FailureKind::Busy if merged => self.points_max = (self.points_max / 2).max(1),
            FailureKind::Busy | FailureKind::Denied => {}
            _ => self.link.reset(),
        }
        self.stats.count_failure();
        self.retry_at = Some(now + self.backoff.after_failure());
        self.teller.failed(self.link.endpoint(), failure);
    }

    fn on_reload(&mut self, reload: Reload) {
        self.keep_flight();
        self.flight = None;
        self.newest_first = false;
        self.buffer.reconfigure(reload.buffer_dir.as_deref(), reload.buffer_max_size);
        if self.link.retarget(reload.target) {
            self.teller.starting();
        }
        self.backoff.reset();
        self.retry_at = None;
    }

    /// Sends or keeps what is left, within [`GOODBYE`].
    fn finish(&mut self, ticks: &Receiver<Tick>) {
        let deadline = Instant::now() + GOODBYE;
        // The collector's last tick may still be on its way here.
        while let Ok(tick) = ticks.recv_deadline(Instant::now() + GOODBYE / 4) {
            self.on_tick(tick, Instant::now());
        }
        if !self.buffer.is_lasting() {
            // Nothing outlives the process, so this is the last chance, whatever the pause says.
            self.retry_at = None;
        }
        loop {
            let now = Instant::now();
            let settled = self.flight.is_none()
                && (self.buffer.is_empty() || self.buffer.is_lasting() || self.retry_at.is_some());
            if settled || now >= deadline {
                break;
            }
            self.pump(now);
            if let Ok(reply) = self.replies.recv_deadline(deadline) {
                self.on_reply(reply, Instant::now());
            }
        }
        self.keep_flight();
        if !self.buffer.is_empty() {
            let fate = if self.buffer.is_lasting() { "wait on disk" } else { "are lost" };
            log::info!("{} batches {fate} at the end", self.buffer.len());
        }
    }

    fn publish(&mut self) {
        self.buffer.count_dropped(self.stats.take_overflow());
        self.stats.publish(self.buffer.len(), self.buffer.dropped());
    }
}
