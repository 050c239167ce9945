//! Sends sample sets to the server: the newest first, then the buffered ones in their order and in
//! large calls. One call is under way at a time, and the loop never blocks on it.
//!
//! | the server's answer | what happens to the sample sets |
//! |---|---|
//! | stored | done |
//! | rejected (`success = false`) | dropped, counted and logged; a merged call is split first |
//! | queue full, denied, no answer, anything else | kept, and sent again after a growing pause |
//!
//! While the link works, a sample set is sent from memory and nothing is written. One that is not
//! acknowledged when the next one comes, or that comes while the link is down, goes to the
//! [`Buffer`] first.
//!
//! Of several servers one is reported to, in an order that the agent's id gives. Where it does not
//! answer, the next gets the same sample sets: servers that share an engine store each once. Later
//! the agent comes back to the first of its order.

mod backoff;
mod link;
mod packed;
mod report_log;
mod stats;
pub(crate) mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use crate::agent::buffer::{Buffer, Front, SampleSet};
use crate::agent::host::{Prober, Sources};
use crate::base::limits::BATCH_POINTS_MAX;
use crate::model::host::HostReport;
use crate::rt::stop::Stop;
use crate::rt::thread::Outcome;
use backoff::Backoff;
use link::{Answer, Failure, FailureKind, Link, Reply};
use report_log::ReportLog;
pub(crate) use stats::Stats;
use target::{CALL_TIMEOUT, Target};

/// How long a stop waits for the last sample set to be acknowledged.
const GOODBYE: Duration = Duration::from_millis(1_200);
/// How long an agent stays with a server that is not the first of its order, at the least; and up
/// to so much longer, so that a fleet does not come back in one moment.
const AWAY: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(300));
/// Longest time between two turns of the loop: the watchdog counts them.
const TURN: Duration = Duration::from_secs(20);

/// What the reporter's loop waits for.
pub(crate) struct Inputs {
    /// The reporter ends when it is closed and empty.
    pub(crate) sets: Receiver<SampleSet>,
    /// A changed configuration.
    pub(crate) reloads: Receiver<Reload>,
    /// The stop signal.
    pub(crate) stop: Stop,
}

/// The part of a changed configuration that concerns the reporter.
pub(crate) struct Reload {
    pub(crate) target: Target,
    pub(crate) buffer_dir: Option<std::path::PathBuf>,
    pub(crate) buffer_max_size: usize,
    pub(crate) sources: Sources,
}

/// A gRPC error as one line for people.
pub(crate) fn explain(error: &grpcio::Error) -> String {
    link::failure(error).text
}

/// See the module.
pub(crate) struct Reporter {
    link: Link,
    replies: Receiver<Reply>,
    buffer: Buffer,
    prober: Prober,
    /// What the prober has found.
    found: Receiver<HostReport>,
    stats: Arc<Stats>,
    flight: Option<Flight>,
    backoff: Backoff,
    /// Set while the link does not work: nothing is sent before.
    retry_at: Option<Instant>,
    /// When to try the first server again, while another one is reported to.
    home_at: Option<Instant>,
    /// See [`AWAY`].
    away: (Duration, Duration),
    /// Servers that failed since the last call that worked.
    failed_servers: usize,
    /// Whether the newest sample set of the buffer goes before the older ones.
    newest_first: bool,
    /// Points of a merged call. Halved where a call seems too large, doubled where one works.
    points_max: usize,
    log: ReportLog,
}

/// What is under way.
struct Flight {
    id: u64,
    deadline: Instant,
    what: What,
}

enum What {
    /// A sample set that is in memory alone.
    Live(SampleSet),
    /// So many sample sets of the buffer; `newest` where it went before older ones.
    Kept { from: u64, to: u64, sets: usize, newest: bool },
    /// No sample set: a snapshot that the server asked for.
    Snapshot,
}

impl What {
    fn newest(sequence: u64) -> Self {
        Self::Kept { from: sequence, to: sequence, sets: 1, newest: true }
    }
}

impl Reporter {
    /// A reporter that has not connected yet.
    pub(crate) fn new(target: Target, sources: Sources, buffer: Buffer, stats: Arc<Stats>) -> Self {
        let (link, replies) = Link::new(target);
        let (prober, found) = Prober::new(sources);
        let mut reporter = Self {
            link,
            replies,
            buffer,
            prober,
            found,
            stats,
            flight: None,
            backoff: Backoff::new(),
            retry_at: None,
            home_at: None,
            away: AWAY,
            failed_servers: 0,
            newest_first: false,
            points_max: BATCH_POINTS_MAX,
            log: ReportLog::new(),
        };
        reporter.publish();
        reporter
    }

    /// Works until the sample sets end or the stop signal comes, then sends or keeps what is left.
    pub(crate) fn run(mut self, inputs: &Inputs) -> Outcome {
        self.prober.on_time(Instant::now());
        // What an earlier run left goes out at once.
        self.pump(Instant::now());
        while !inputs.stop.is_stopped() {
            let now = Instant::now();
            let wake = self.wake_at(now);
            let stopped = inputs.stop.receiver();
            select! {
                recv(inputs.sets) -> set => match set {
                    Ok(set) => self.on_set(set, Instant::now()),
                    Err(_) => break,
                },
                recv(self.replies) -> reply => if let Ok(reply) = reply {
                    self.on_reply(reply, Instant::now());
                },
                recv(self.found) -> found => if let Ok(found) = found {
                    self.on_found(found, Instant::now());
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
        self.finish(&inputs.sets);
        // gRPC's threads end when their timers next fire, which is up to two seconds later. The
        // process ends now, and takes them with it.
        std::mem::forget(self.link);
        Ok(())
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let flight = self.flight.as_ref().map(|flight| flight.deadline);
        let retry = self.retry_at.filter(|_| self.flight.is_none() && !self.buffer.is_empty());
        [flight, retry].into_iter().flatten().fold(now + TURN, Instant::min)
    }

    /// Deadlines, retries and reports that are due.
    fn on_time(&mut self, now: Instant) {
        if self.flight.as_ref().is_some_and(|flight| flight.deadline <= now) {
            let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            self.on_failure(&Failure { kind: FailureKind::Unreachable, text }, now);
        }
        if self.flight.is_none() && self.home_at.is_some_and(|at| at <= now) {
            self.home_at = None;
            self.link.come_home();
        }
        self.pump(now);
        self.prober.on_time(now);
        self.log.drops(self.buffer.dropped(), self.buffer.len(), now);
    }

    fn on_set(&mut self, set: SampleSet, now: Instant) {
        let works = self.log.is_connected() && self.retry_at.is_none();
        if works && self.flight.is_none() && self.buffer.is_empty() {
            let id = self.link.send(std::slice::from_ref(&set));
            self.launch(id, What::Live(set), now);
            return;
        }
        self.keep_flight();
        self.buffer.push(&set);
        self.newest_first = true;
    }

    fn on_found(&mut self, found: HostReport, now: Instant) {
        self.link.put_host(found);
        let works = self.log.is_connected() && self.retry_at.is_none();
        // Who looks at an alert waits for it. Otherwise it goes with the next sample set.
        if self.link.has_snapshot() && works && self.flight.is_none() && self.buffer.is_empty() {
            let id = self.link.send(&[]);
            self.launch(id, What::Snapshot, now);
        }
    }

    /// Buffers a sample set that is under way and in memory only.
    fn keep_flight(&mut self) {
        if let Some(Flight { what, .. }) = &mut self.flight
            && let What::Live(set) = what
        {
            let sequence = self.buffer.push(set);
            *what = What::newest(sequence);
        }
    }

    /// Sends the next sample sets of the buffer, where it is time to.
    fn pump(&mut self, now: Instant) {
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        if std::mem::take(&mut self.newest_first)
            && let Some((sequence, set)) = self.buffer.newest()
        {
            let id = self.link.send(std::slice::from_ref(&set));
            self.launch(id, What::newest(sequence), now);
        } else if let Some(Front { from, to, sets }) =
            self.buffer.front(self.points_max.min(self.link.points_max()))
        {
            let id = self.link.send(&sets);
            self.launch(id, What::Kept { from, to, sets: sets.len(), newest: false }, now);
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
        if let Some((skew_ms, slack_ms)) = self.link.skew_ms(&reply) {
            self.stats.set_skew(skew_ms);
            self.log.skew(skew_ms, slack_ms);
        }
        match reply.outcome {
            Ok(Answer::Stored { message, features, snapshot_wanted }) => {
                self.link.learn(&features);
                id.into_iter().for_each(|id| self.link.stored(id));
                if snapshot_wanted {
                    self.prober.take_snapshot(now);
                }
                // The first servers answer with a friendly text each time.
                if !message.is_empty() && self.link.knows_packed() {
                    self.log.remark(&message, now);
                }
                self.on_stored();
            }
            Ok(Answer::Refused(message)) => self.on_refused(&message, now),
            Err(failure) => self.on_failure(&failure, now),
        }
        self.pump(now);
    }

    fn on_stored(&mut self) {
        self.stats.reported();
        self.works();
        let Some(flight) = self.flight.take() else { return };
        if let What::Kept { from, to, sets, .. } = flight.what {
            self.buffer.done(from, to);
            self.points_max = (self.points_max * 2).min(BATCH_POINTS_MAX);
            self.log.backfilled(sets, self.buffer.is_empty());
        }
    }

    fn on_refused(&mut self, message: &str, now: Instant) {
        self.works();
        let Some(flight) = self.flight.take() else { return };
        match flight.what {
            What::Kept { sets, .. } if sets > 1 => {
                // One of them may be at fault: send each by itself.
                self.points_max = 1;
                return;
            }
            What::Kept { from, to, .. } => self.buffer.done(from, to),
            What::Live(_) => {}
            What::Snapshot => return,
        }
        self.buffer.count_dropped(1);
        self.log.refused(message, now);
    }

    /// Resets the backoff after a call that worked.
    fn works(&mut self) {
        self.backoff.reset();
        self.retry_at = None;
        self.failed_servers = 0;
        self.log.connected(self.link.endpoint());
        if !self.link.is_away() {
            self.home_at = None;
        } else if self.home_at.is_none() {
            let (least, longer) = self.away;
            self.home_at = Some(Instant::now() + least + longer.mul_f64(fastrand::f64()));
        }
    }

    fn on_failure(&mut self, failure: &Failure, now: Instant) {
        self.keep_flight();
        let Some(flight) = self.flight.take() else { return };
        let merged = matches!(flight.what, What::Kept { sets, .. } if sets > 1);
        // What was to go first still is.
        self.newest_first |= matches!(flight.what, What::Kept { newest: true, .. });
        match failure.kind {
            FailureKind::Unimplemented if self.link.fall_back() => return,
            FailureKind::Busy if merged => self.points_max = (self.points_max / 2).max(1),
            FailureKind::Busy | FailureKind::Denied => {}
            _ => {
                self.log.failed(self.link.endpoint(), failure);
                self.stats.count_failure();
                self.failed_servers += 1;
                let is_other = self.link.move_on();
                // Each server is tried once before there is a pause.
                let is_round = self.failed_servers.is_multiple_of(self.link.servers());
                self.retry_at = Some(match is_other && !is_round {
                    true => now,
                    false => now + self.backoff.after_failure(),
                });
                return;
            }
        }
        self.stats.count_failure();
        self.retry_at = Some(now + self.backoff.after_failure());
        self.log.failed(self.link.endpoint(), failure);
    }

    fn on_reload(&mut self, reload: Reload) {
        self.keep_flight();
        self.flight = None;
        self.newest_first = false;
        self.buffer.reconfigure(reload.buffer_dir.as_deref(), reload.buffer_max_size);
        self.prober.reload(reload.sources);
        if self.link.retarget(reload.target) {
            self.log.starting();
        }
        self.backoff.reset();
        self.retry_at = None;
    }

    /// Sends or keeps what is left, within [`GOODBYE`].
    fn finish(&mut self, sets: &Receiver<SampleSet>) {
        let deadline = Instant::now() + GOODBYE;
        // The collector's last sample set may still be on its way here.
        while let Ok(set) = sets.recv_deadline(Instant::now() + GOODBYE / 4) {
            self.on_set(set, Instant::now());
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
            let fate =
                if self.buffer.is_lasting() { "stay in the buffer folder" } else { "are lost" };
            log::info!("stopping: {} batches {fate}", self.buffer.len());
        }
    }

    fn publish(&mut self) {
        self.buffer.count_dropped(self.stats.take_overflow());
        self.stats.publish(self.buffer.len(), self.buffer.dropped());
    }
}
