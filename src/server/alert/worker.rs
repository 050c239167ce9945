//! The evaluation pool: one worker for a share of the agents, each with its own queue, off the
//! ingest path. A full queue makes the storage writer wait: no stored point is skipped.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::base::clock::{Clock, Now};
use crate::model::alert::AlertEvent;
use crate::rt::pool::Pool;
use crate::rt::stop::Stop;
use crate::rt::thread::Outcome;
use crate::server::alert::absence::Skews;
use crate::server::alert::evaluate::Sample;
use crate::server::alert::history::Warm;
use crate::server::alert::journal;
use crate::server::alert::metrics::Metrics;
use crate::server::alert::moved::{Holding, Queued, Taken, Takeover, Verdict, of_those_here};
use crate::server::alert::notify::Notify;
use crate::server::alert::results::Answer;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::shard::{Act, Reasons, Shard};
use crate::server::alert::state::Phase;
use crate::server::alert::suspects::Suspects;
use crate::server::alert::tracked::{Change, TransitionKind};
use crate::server::control::Control;
use crate::server::storage::{SampleSet, Series, StorageError, Store};

/// Points that are evaluated before their changes are written: many alerts at once, few
/// transactions.
const POINTS_AT_ONCE: usize = 50_000;
/// How long a worker waits before it tries again to write.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pool, until the server stops.
pub(crate) type PoolSlot = Mutex<Option<Arc<Pool<Job>>>>;

/// What a worker is given.
pub(crate) enum Job {
    /// Stored points of one agent.
    Points {
        /// The agent.
        agent: String,
        /// Its samples, by their time.
        sets: Vec<SampleSet>,
        /// When they were queued.
        queued: Instant,
    },
    /// What the expression of a rule gave.
    Result(Answer),
    /// Time to look who is silent.
    Tick {
        /// When it was asked for.
        now: Now,
    },
    /// The rules have changed: those that are in force now are taken.
    Rules {
        /// History for those that are new.
        warm: Arc<Warm>,
        /// Dropped when it is done, which is the signal.
        done: Sender<()>,
    },
    /// Somebody does something about an alert.
    Act {
        /// Id of the event that fired.
        event_id: String,
        /// What they do.
        act: Act,
        /// Takes the event as it is then, once that is written.
        reply: Sender<Option<AlertEvent>>,
    },
    /// An agent is gone: its alerts end.
    EndAgent {
        /// The agent.
        agent: String,
        /// Why.
        reason: String,
        /// Takes how many alerts fired, once their end is written.
        reply: Sender<usize>,
    },
    /// The state of an agent's alerts has come from where it reported before.
    Adopt {
        /// The agent.
        agent: String,
        /// Its alerts; `None` where what is here is the newest.
        taken: Option<Vec<Taken>>,
        /// When it was last seen, where it reports nowhere and is missed from here: Unix
        /// milliseconds.
        watch_ms: Option<i64>,
    },
    /// An agent reports to another server.
    Release {
        /// The agent.
        agent: String,
        /// Its alerts there.
        known: Vec<Taken>,
    },
    /// Everything before is done when this is dropped.
    Barrier {
        /// Only ever dropped.
        _done: Sender<()>,
    },
}

/// What the workers share.
pub(crate) struct Shared {
    /// Points and events.
    pub store: Arc<dyn Store>,
    /// `cert.db`.
    pub control: Control,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Takes what must be notified.
    pub notify: Arc<dyn Notify>,
    /// Counters.
    pub metrics: Metrics,
    /// Ends retries and timers.
    pub stop: Stop,
    /// Has room for one: a second wake-up that there are events to copy adds nothing.
    pub copy: Sender<()>,
    /// Until when each worker has evaluated everything, Unix milliseconds.
    pub evaluated_ms: Vec<AtomicI64>,
    /// Whether points have been evaluated since the watermark was written.
    pub busy: AtomicBool,
    /// Why series of certificate checks read as they do.
    pub reasons: Reasons,
    /// Clocks that differ.
    pub(crate) skews: Skews,
    /// Hosts of whose processes a snapshot is wanted.
    pub(crate) suspects: Mutex<Suspects>,
    /// Who knows where agents report; never set where there is one server.
    pub(crate) takeover: OnceLock<Arc<dyn Takeover>>,
    rules: Mutex<Arc<RuleSet>>,
    active: Mutex<HashMap<[String; 4], AlertEvent>>,
}

impl Shared {
    /// What the workers share; the rules are those in force.
    #[allow(clippy::too_many_arguments, reason = "it is a struct's fields, all of them needed")]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        control: Control,
        clock: Arc<dyn Clock>,
        notify: Arc<dyn Notify>,
        metrics: Metrics,
        stop: Stop,
        copy: Sender<()>,
        workers: usize,
        rules: RuleSet,
    ) -> Self {
        let evaluated_ms = (0..workers).map(|_| AtomicI64::new(i64::MIN)).collect();
        let busy = AtomicBool::new(false);
        let (rules, active) = (Mutex::new(Arc::new(rules)), Mutex::default());
        Self {
            store,
            control,
            clock,
            notify,
            metrics,
            stop,
            copy,
            evaluated_ms,
            busy,
            reasons: Reasons::default(),
            skews: Skews::default(),
            suspects: Mutex::default(),
            takeover: OnceLock::new(),
            rules,
            active,
        }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules.lock())
    }

    /// Puts `rules` in force if `still` holds: workers take them with the next `Job::Rules`.
    pub(crate) fn put_rules(&self, rules: RuleSet, still: impl Fn() -> bool) -> bool {
        let mut current = self.rules.lock();
        let good = still();
        if good {
            *current = Arc::new(rules);
        }
        good
    }

    /// Alerts that fire, newest first.
    pub(crate) fn active(&self) -> Vec<AlertEvent> {
        let mut active: Vec<AlertEvent> = self.active.lock().values().cloned().collect();
        active.sort_by(|a, b| b.timestamp_ms.cmp(&a.timestamp_ms).then_with(|| a.id.cmp(&b.id)));
        active
    }

    /// Notes an alert that fires since before this process.
    pub(crate) fn note_active(&self, key: [String; 4], event: AlertEvent) {
        self.suspects.lock().know(&key);
        self.active.lock().insert(key, event);
    }

    /// Writes changes, trying again until it succeeds or the server stops. What is given up on
    /// then is found again after the restart, from the points themselves.
    pub(crate) fn commit(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let changes = Arc::new(changes);
        while let Err(error) = journal::write(&self.control, &self.notify, &changes) {
            log::error!("{} alert changes cannot be written, retrying: {error}", changes.len());
            if self.stop.wait(WRITE_AGAIN_AFTER) {
                return;
            }
        }
        self.publish(&changes);
    }

    /// Writes changes once.
    pub(crate) fn commit_once(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let changes = Arc::new(changes);
        journal::write(&self.control, &self.notify, &changes)?;
        self.publish(&changes);
        Ok(())
    }

    fn publish(&self, changes: &[Change]) {
        {
            let mut active = self.active.lock();
            for change in changes {
                match &change.active {
                    Some(event) => drop(active.insert(change.key.clone(), event.clone())),
                    None => drop(active.remove(&change.key)),
                }
            }
            self.metrics.firing.set(i64::try_from(active.len()).unwrap_or(i64::MAX));
        }
        self.note_suspects(changes);
        if let Some(takeover) = self.takeover.get() {
            takeover.changed(changes);
        }
        log_changes(changes);
        changes.iter().for_each(|change| self.metrics.count(change.transition.kind));
        if changes.iter().any(|change| change.transition.notification.is_some()) {
            self.notify.wake();
        }
        if changes.iter().any(|change| !change.transition.events.is_empty()) {
            // A full channel says the same.
            let _ = self.copy.try_send(());
        }
    }
}

impl Shared {
    /// Notes which hosts have an alert that is pending or firing. One for absence says nothing of
    /// processes.
    fn note_suspects(&self, changes: &[Change]) {
        let rules = self.rules();
        let mut suspects = self.suspects.lock();
        for change in changes {
            let open = change.row.as_ref().is_some_and(|row| {
                row.state == Phase::Pending.name() || row.state == Phase::Firing.name()
            });
            let [rule_id, ..] = &change.key;
            let is_absence = || {
                let mut rules = rules.enabled();
                let rule = rules.find(|rule| rule.id == *rule_id);
                rule.is_some_and(|rule| rule.evaluator.absent_ms().is_some())
            };
            suspects.note(&change.key, open && !is_absence());
        }
    }
}

/// Lines that alerts which change at once leave in the log.
const LINES_AT_ONCE: usize = 50;

/// A line for each alert that begins to fire, becomes worse or ends.
fn log_changes(changes: &[Change]) {
    let told = changes.iter().filter_map(|change| {
        let word = match change.transition.kind {
            TransitionKind::Fired => "firing",
            TransitionKind::Escalated => "escalated",
            TransitionKind::Resolved => "resolved",
            TransitionKind::Ended => "ended",
            _ => return None,
        };
        // The newest one: of an end, that comes after the event that fired.
        Some((word, change.transition.events.last()?))
    });
    let told: Vec<_> = told.collect();
    for (word, event) in told.iter().take(LINES_AT_ONCE) {
        let message = event.message.replace(char::is_control, " ");
        log::info!("alert {word}, {}: {message}", event.severity.name());
    }
    if let Some(more) = told.len().checked_sub(LINES_AT_ONCE + 1) {
        log::info!("{} more alerts changed at the same time", more + 1);
    }
}

/// Which worker has an agent: the same for the life of the process.
pub(crate) fn shard_key(agent: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    agent.hash(&mut hash);
    hash.finish()
}

/// A worker's body.
///
/// # Errors
///
/// None: what fails is tried again.
pub(crate) fn work(
    shared: &Shared,
    index: usize,
    mut shard: Shard,
    jobs: &Receiver<Job>,
) -> Outcome {
    shard.set_reasons(Arc::clone(&shared.reasons));
    shard.set_skews(Arc::clone(&shared.skews));
    let mut round = Round::default();
    while let Ok(first) = jobs.recv() {
        let _timer = shared.metrics.turn.start_timer();
        round.take(shared, &mut shard, first);
        while round.points < POINTS_AT_ONCE
            && let Ok(job) = jobs.try_recv()
        {
            round.take(shared, &mut shard, job);
        }
        shared.metrics.evaluated.inc_by(shard.take_evaluated());
        shared.commit(shard.take_changes());
        round.finish(shared, index);
    }
    Ok(())
}

/// Each series of a sample set with its sample.
fn samples(set: &SampleSet) -> impl Iterator<Item = (&Arc<Series>, Sample)> {
    let sample = |value: &f64| Sample { at_ms: set.timestamp_ms, value: *value };
    set.series.iter().zip(set.values.iter().map(sample))
}

/// What follows once the changes of a round are written.
#[derive(Default)]
struct Round {
    points: usize,
    queued: Vec<Instant>,
    replies: Vec<(Sender<Option<AlertEvent>>, Option<AlertEvent>)>,
    ended: Vec<(Sender<usize>, usize)>,
    done: Vec<Sender<()>>,
    evaluated_ms: Option<i64>,
    holding: Holding,
    /// Agents whose state is here now.
    adopted: Vec<String>,
}

impl Round {
    fn take(&mut self, shared: &Shared, shard: &mut Shard, job: Job) {
        match job {
            Job::Points { agent, sets, queued } => {
                self.points(shared, shard, &agent, (sets, queued))
            }
            Job::Result(answer) => {
                let answer = match shared.takeover.get() {
                    Some(takeover) => of_those_here(answer, &**takeover),
                    None => answer,
                };
                shard.result(&answer, shared.clock.now());
            }
            Job::Tick { now } => {
                self.give_up(shared, shard);
                shard.tick(now);
                self.evaluated_ms = Some(now.wall_ms);
            }
            Job::Rules { warm, done } => {
                shard.set_rules(shared.rules(), warm, shared.clock.now());
                self.done.push(done);
            }
            Job::Act { event_id, act, reply } => {
                let event = shard.act(&event_id, &act, shared.clock.now_ms());
                self.replies.push((reply, event));
            }
            Job::EndAgent { agent, reason, reply } => {
                let ended = shard.end_agent(&agent, &reason, shared.clock.now_ms());
                self.ended.push((reply, ended));
            }
            Job::Adopt { agent, taken, watch_ms } => {
                self.adopt(shared, shard, (agent, taken), watch_ms);
            }
            Job::Release { agent, known } => {
                self.holding.release(&agent);
                shard.let_go(&agent, &known, shared.clock.now_ms());
            }
            Job::Barrier { _done } => self.done.push(_done),
        }
    }

    fn points(&mut self, shared: &Shared, shard: &mut Shard, agent: &str, (sets, queued): Queued) {
        let Some(takeover) = shared.takeover.get() else {
            return self.evaluate(shared, shard, agent, (sets, queued));
        };
        match self.holding.take(&**takeover, agent, (sets, queued)) {
            Verdict::Evaluate(sets, queued) => self.evaluate(shared, shard, agent, (sets, queued)),
            Verdict::Wait => {}
        }
    }

    fn evaluate(
        &mut self,
        shared: &Shared,
        shard: &mut Shard,
        agent: &str,
        (sets, queued): Queued,
    ) {
        shard.points(agent, sets.iter().flat_map(samples), shared.clock.now());
        self.points += sets.iter().map(|set| set.values.len()).sum::<usize>();
        self.queued.push(queued);
    }

    fn adopt(
        &mut self,
        shared: &Shared,
        shard: &mut Shard,
        (agent, taken): (String, Option<Vec<Taken>>),
        watch_ms: Option<i64>,
    ) {
        let waited = self.holding.adopt(&agent);
        if waited.is_none() && (watch_ms.is_none() || self.holding.is_mine(&agent)) {
            // It came too late: what was begun here meanwhile goes on.
            return;
        }
        if let Some(taken) = taken {
            shard.adopt(&agent, &taken, watch_ms, shared.clock.now());
        }
        self.holding.own(&agent);
        for queued in waited.into_iter().flatten() {
            self.evaluate(shared, shard, &agent, queued);
        }
        self.adopted.push(agent);
    }

    /// Evaluates agents whose state has not come in time.
    fn give_up(&mut self, shared: &Shared, shard: &mut Shard) {
        let Some(takeover) = shared.takeover.get() else { return };
        for agent in self.holding.overdue() {
            takeover.gave_up(&agent);
            self.adopt(shared, shard, (agent, None), None);
        }
    }

    fn finish(&mut self, shared: &Shared, index: usize) {
        if self.points > 0 {
            shared.busy.store(true, Ordering::Relaxed);
        }
        self.points = 0;
        for queued in self.queued.drain(..) {
            shared.metrics.lag.observe(queued.elapsed().as_secs_f64());
        }
        for (reply, event) in self.replies.drain(..) {
            // Whoever asked may have given up.
            let _ = reply.send(event);
        }
        for (reply, ended) in self.ended.drain(..) {
            // As above.
            let _ = reply.send(ended);
        }
        if let Some(takeover) = shared.takeover.get() {
            self.adopted.drain(..).for_each(|agent| takeover.adopted(&agent));
        }
        self.done.clear();
        if let (Some(evaluated_ms), Some(mine)) =
            (self.evaluated_ms.take(), shared.evaluated_ms.get(index))
        {
            mine.store(evaluated_ms, Ordering::Relaxed);
        }
    }
}
