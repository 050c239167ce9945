//! One request after the other to one target, until its samples are taken, or refused for good.
//!
//! | the engine answers | what is done |
//! |---|---|
//! | 2xx | the next |
//! | 400, 409, 422 | halved until the culprits are alone, which are counted and left out |
//! | 413 | the request is halved |
//! | 500 | again, with growing pauses; where a probe is taken meanwhile, as for 400 |
//! | 429, 502, 503, 504 | again, after `Retry-After` or a growing pause |
//! | no answer | the next address, after a growing pause |
//! | 401, 403, 404, 3xx | the configuration is wrong: again, with long pauses |
//!
//! Nothing is given up while the engine takes nothing at all: a request that it refuses is halved
//! only when it takes a sample of oxmon's own (the probe) in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::Clock;
use crate::model::series::{Labels, SeriesKey};
use crate::rt::stop::Stop;
use crate::server::remote::encode::{Body, Encoder, Single};
use crate::server::remote::http::{Http, Posted};
use crate::server::remote::naming::Naming;
use crate::server::remote::target::Target;
use crate::server::storage::Series;

/// The agent of oxmon's own samples.
pub(crate) const OWN_AGENT: &str = "oxmon-server";
/// The metric of the probe.
pub(crate) const PROBE: &str = "remote.probe";
/// The first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// The longest pause that an engine may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Attempts that fail with 500 before the samples of a request are suspected; of a part of one;
/// and before a single sample is given up.
const FAILURES: (u32, u32, u32) = (3, 1, 2);
/// How long a probe that was taken counts.
const PROBED: Duration = Duration::from_secs(5);
/// How often the same trouble is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The server stops before all of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Sends to one target, one request at a time.
pub(super) struct Sender {
    http: Arc<Http>,
    target: Arc<Target>,
    encoder: Encoder,
    clock: Arc<dyn Clock>,
    stop: Stop,
    pause: Duration,
    probed: Option<Instant>,
    logged: Option<Instant>,
    /// Whether the last request was neither taken nor refused.
    is_down: bool,
    probe: Arc<Series>,
    /// Samples in a request at the most: less where the engine finds requests too large.
    pub(super) most: usize,
}

/// Samples in one request, unless the engine takes fewer.
const SAMPLES: usize = 10_000;
/// Samples in one request at the least.
const SAMPLES_MIN: usize = 100;

/// What to do after an answer.
enum Next {
    Done,
    Again,
    Halve(&'static str),
}

impl Sender {
    /// Sends to `target` until `stop`.
    pub(super) fn new(
        http: Arc<Http>,
        target: Arc<Target>,
        naming: Naming,
        clock: Arc<dyn Clock>,
        stop: Stop,
    ) -> Self {
        let (agent, metric) = (OWN_AGENT.into(), PROBE.into());
        let key = SeriesKey { agent, metric, labels: Labels::none() };
        Self {
            http,
            target,
            encoder: Encoder::new(naming),
            clock,
            stop,
            pause: PAUSE.0,
            probed: None,
            logged: None,
            is_down: false,
            probe: Arc::new(Series { number: 0, metric_number: 0, key }),
            most: SAMPLES,
        }
    }

    /// Sends all of a body; what the engine refuses for good is counted and left out.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the server stops first.
    pub(super) fn deliver(&mut self, body: &Body) -> Result<(), Stopped> {
        let samples = body.len();
        let mut failures = 0;
        loop {
            let packed = self.encoder.body(body);
            let posted = self.http.write(self.target.url(), packed);
            match self.weigh(posted, samples, &mut failures, FAILURES.0)? {
                Next::Done => return Ok(()),
                Next::Again => {}
                Next::Halve(reason) => return self.pieces(&body.singles(), reason),
            }
        }
    }

    /// Sends samples in ever smaller requests until those that the engine refuses are alone.
    fn pieces(&mut self, singles: &[Single], reason: &'static str) -> Result<(), Stopped> {
        let mut open: Vec<(&[Single], &'static str)> = vec![(singles, reason)];
        while let Some((part, reason)) = open.pop() {
            if part.len() <= 1 {
                // The engine may have come back just after it refused everything.
                if self.piece(part)?.is_some() {
                    self.refuse(part, reason);
                }
                continue;
            }
            let (first, second) = part.split_at(part.len() / 2);
            for half in [first, second] {
                if let Some(reason) = self.piece(half)? {
                    open.push((half, reason));
                }
            }
        }
        Ok(())
    }

    /// Sends one piece. Gives the reason when the engine refuses it.
    fn piece(&mut self, part: &[Single]) -> Result<Option<&'static str>, Stopped> {
        let mut failures = 0;
        let limit = if part.len() > 1 { FAILURES.1 } else { FAILURES.2 };
        loop {
            let packed = self.encoder.singles(part);
            let posted = self.http.write(self.target.url(), packed);
            match self.weigh(posted, part.len(), &mut failures, limit)? {
                Next::Done => return Ok(None),
                Next::Again => {}
                Next::Halve(reason) => return Ok(Some(reason)),
            }
        }
    }

    /// What follows from an answer; after `limit` failures with 500 the samples are suspected.
    /// Waits before another attempt.
    fn weigh(
        &mut self,
        posted: Posted,
        samples: usize,
        failures: &mut u32,
        limit: u32,
    ) -> Result<Next, Stopped> {
        self.count(&posted);
        match posted {
            Posted::Taken => {
                self.taken(samples);
                return Ok(Next::Done);
            }
            Posted::TooLarge(said) if samples > 1 => {
                self.most = (self.most.min(samples) / 2).max(SAMPLES_MIN);
                log::info!(
                    "{}: requests are too large, sending fewer samples: {said}",
                    self.name()
                );
                return Ok(Next::Halve("too_large"));
            }
            Posted::Refused(said) | Posted::TooLarge(said) => {
                if self.takes_others(false) {
                    self.say(&format!("a request was refused: {said}"));
                    return Ok(Next::Halve(reason_of(&said)));
                }
                self.say(&format!("it refuses every sample: {said}"));
                self.wait(None)?;
            }
            Posted::Failed(said) => {
                *failures += 1;
                self.say(&said);
                let is_last = *failures >= limit;
                let takes_others = self.takes_others(is_last && samples == 1);
                if takes_others && is_last {
                    return Ok(Next::Halve(reason_of(&said)));
                }
                if !takes_others || limit == FAILURES.0 {
                    self.wait(None)?;
                }
            }
            Posted::Later(said, wait) => {
                self.say(&said);
                self.wait(wait)?;
            }
            Posted::Away(said) => {
                let url = self.target.url().to_owned();
                self.say(&format!("{url}: {said}"));
                self.target.move_on(&url);
                self.wait(None)?;
            }
            Posted::Misconfigured(said) => {
                let url = self.target.url().to_owned();
                self.say(&format!("{url}: {said}; check [remote]"));
                self.target.move_on(&url);
                self.pause = self.pause.max(Duration::from_secs(5));
                self.wait(None)?;
            }
        }
        Ok(Next::Again)
    }

    fn name(&self) -> &str {
        &self.target.name
    }

    fn count(&mut self, posted: &Posted) {
        let outcome = match posted {
            Posted::Taken => "taken",
            Posted::Refused(_) => "refused",
            Posted::TooLarge(_) => "too_large",
            Posted::Failed(_) => "failed",
            Posted::Later(..) => "later",
            Posted::Away(_) => "no_answer",
            Posted::Misconfigured(_) => "misconfigured",
        };
        self.target.metrics.request(outcome);
        let up = matches!(posted, Posted::Taken | Posted::Refused(_) | Posted::TooLarge(_));
        self.target.metrics.up.set(i64::from(up));
        if up && std::mem::replace(&mut self.is_down, !up) {
            log::info!("{}: the engine takes samples again", self.name());
        }
        self.is_down = !up;
    }

    fn taken(&mut self, samples: usize) {
        let unsendable = self.encoder.unsendable;
        if unsendable > 0 {
            self.target.metrics.refuse("labels", unsendable);
        }
        self.target.metrics.sent.inc_by((samples - unsendable.min(samples)) as u64);
        self.pause = PAUSE.0;
    }

    fn refuse(&mut self, part: &[Single], reason: &'static str) {
        self.target.metrics.refuse(reason, part.len());
        for (series, ms, _) in part {
            let (agent, metric) = (&series.key.agent, &series.key.metric);
            log::debug!("{}: {metric} of {agent} at {ms} is refused: {reason}", self.name());
        }
    }

    /// Whether the engine takes a sample of oxmon's own, now or, unless `afresh`, a moment ago.
    fn takes_others(&mut self, afresh: bool) -> bool {
        if !afresh && self.probed.is_some_and(|at| at.elapsed() < PROBED) {
            return true;
        }
        let single = (Arc::clone(&self.probe), self.clock.now_ms(), 1.0);
        let packed = self.encoder.singles(&[single]);
        let posted = self.http.write(self.target.url(), packed);
        let taken = posted == Posted::Taken;
        self.probed = taken.then(Instant::now);
        if taken {
            self.pause = PAUSE.0;
        }
        taken
    }

    /// Logs trouble, not each time.
    fn say(&mut self, what: &str) {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            log::warn!("failed to send samples to {}: {what}", self.target.name);
        }
    }

    fn wait(&mut self, asked: Option<Duration>) -> Result<(), Stopped> {
        let pause = asked.map_or(self.pause, |asked| asked.min(RETRY_AFTER_MAX).max(PAUSE.0));
        self.pause = (self.pause * 2).min(PAUSE.1);
        // Shards that fail together do not come back together.
        let jitter = pause.mul_f64(fastrand::f64() * 0.3);
        if self.stop.wait(pause + jitter) { Err(Stopped) } else { Ok(()) }
    }
}

/// Why samples are refused, from an engine's words.
fn reason_of(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["duplicate sample"]) {
        "duplicate"
    } else if has(&["out of order", "out-of-order"]) {
        "out_of_order"
    } else if has(&["too old", "out of bounds"]) {
        "too_old"
    } else if has(&["too far in the future", "far ahead"]) {
        "too_far_ahead"
    } else if has(&["label"]) {
        "labels"
    } else if said.starts_with("http 413") {
        "too_large"
    } else if said.starts_with("http 5") {
        "failing"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_from_what_engines_say() {
        for (said, reason) in [
            ("HTTP 400: out of order sample", "out_of_order"),
            ("HTTP 400: duplicate sample for timestamp", "duplicate"),
            ("HTTP 500: too old sample", "too_old"),
            ("HTTP 400: out of bounds", "too_old"),
            ("HTTP 400: label name \"a\" is not unique", "labels"),
            ("HTTP 500: disk", "failing"),
            ("HTTP 400: ", "other"),
        ] {
            assert_eq!(reason_of(said), reason, "{said}");
        }
    }
}
