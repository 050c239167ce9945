//! Alert rules: evaluation, state, history.
//!
//! Stored points go to a pool of workers, each with a share of the agents (`pool`, `shard`). A
//! rule's type says what a point means (`evaluate`), one state machine says what follows (`state`),
//! and every change is one transaction of `cert.db` with its events and notices (`journal`). After
//! a restart everything goes on where it stood (`resume`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::base::clock::{Clock, SECOND_MS};
use crate::base::exit::{Exit, Fatal};
use crate::model::alert::AlertEvent;
use crate::rt::pool::Pool;
use crate::rt::stop::{Stop, StopSource};
use crate::rt::thread;
use crate::server::alert::metrics::Metrics;
use crate::server::alert::moved::{Taken, Takeover};
use crate::server::alert::query::{Queries, Schedule};
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::worker::{Job, PoolSlot, Shared, shard_key};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::{alerts as tables, certs};
use crate::server::storage::{Observer, SampleSet, StorageError, Store};

pub(crate) mod absence;
pub(crate) mod backtest;
mod defer;
pub(crate) mod evaluate;
pub(crate) mod fields;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod manage;
mod metrics;
pub(crate) mod moved;
pub(crate) mod notify;
pub(crate) mod query;
pub(crate) mod results;
mod resume;
pub(crate) mod rule;
pub(crate) mod ruleset;
pub(crate) mod shard;
pub(crate) mod state;
pub(crate) mod suspects;
pub(crate) mod tracked;
pub(crate) mod window;
pub(crate) mod worker;

pub use notify::{Notify, NotifyKind};
pub use ruleset::{check_file_rules, load_config};

/// How often absences are evaluated.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two notes of how far evaluation has come.
const TICKS_PER_WATERMARK: u32 = 30;
/// Ticks between two looks for alerts of domains that are no longer checked.
const TICKS_PER_DOMAINS: u32 = 5;
/// Ticks between two looks for alerts of agents of which nothing is stored.
const TICKS_PER_AGENTS: u32 = 15;
/// How often events that could not be copied are tried again.
const COPY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a stop waits for changes that can't be written.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long states of alerts that are ok again are kept for their silence, at the least.
const KEEP_OK_SECS: u64 = 86_400;

/// Rules in force and the state of every alert.
pub struct Alerts {
    shared: Arc<Shared>,
    pool: Arc<PoolSlot>,
    running: Mutex<Option<Running>>,
    file_rules: Mutex<Vec<Arc<Rule>>>,
    /// Changes of rules so far: who has read the rules before another change reads them again.
    changes: AtomicU64,
    queries: Arc<Queries>,
}

struct Running {
    timers: StopSource,
    retries: StopSource,
    threads: Vec<JoinHandle<()>>,
}

impl Alerts {
    /// Goes on where the last process ended and starts the workers. Blocks while history is read.
    ///
    /// # Errors
    ///
    /// When a rule of the file can't work, or `cert.db` can't be read or written.
    pub fn start(
        store: Arc<dyn Store>,
        control: Control,
        clock: Arc<dyn Clock>,
        config: &ServerConfig,
        registry: &prometheus::Registry,
        notify: Arc<dyn Notify>,
    ) -> Result<Arc<Self>, Fatal> {
        let failed = |error: StorageError| {
            let message = format!("failed to restore alerts: {error}");
            Fatal::new(Exit::DataDir, message)
        };
        let now_ms = clock.now_ms();
        let file = ruleset::file_rules(&config.alert.rules, now_ms / SECOND_MS)
            .map_err(|(index, error)| rule_fatal(index, &error))?;
        let api = manage::stored_rules(&control).map_err(failed)?;
        let workers = config.pools.alert_workers.max(1);
        let (timers, retries) = (StopSource::new(), StopSource::new());
        let (copy, copies) = bounded(1);
        let metrics = Metrics::register(registry)?;
        let rules = RuleSet::new(&file, api);
        let longest_secs = rules.all().iter().map(|rule| rule.draft.silence_secs).max();
        let keep_secs = longest_secs.unwrap_or(0).max(KEEP_OK_SECS);
        let shared = Arc::new(Shared::new(
            store,
            control,
            clock,
            notify,
            metrics,
            retries.stop(),
            copy,
            workers,
            rules,
        ));
        prune(&shared, now_ms, keep_secs).map_err(failed)?;
        let queries = Arc::new(queries_of(&shared, config, registry, now_ms).map_err(failed)?);
        let shards = resume::resume(&shared, workers, shared.clock.now()).map_err(failed)?;
        let pool = Arc::new(Mutex::new(Some(Arc::new(workers_of(&shared, shards, config)))));
        let threads = vec![
            copier(Arc::clone(&shared), copies, timers.stop()),
            timer(Arc::clone(&shared), Arc::clone(&pool), timers.stop()),
            query::evaluator(
                Arc::clone(&queries),
                Arc::clone(&shared),
                Arc::clone(&pool),
                timers.stop(),
            ),
        ];
        Ok(Arc::new(Self {
            shared,
            pool,
            running: Mutex::new(Some(Running { timers, retries, threads })),
            file_rules: Mutex::new(file),
            changes: AtomicU64::new(0),
            queries,
        }))
    }

    /// Evaluates what is queued, writes it, copies its events and ends the workers. The store must
    /// still be open. Points that are stored later are evaluated after the next start.
    pub fn stop(&self) {
        let Some(running) = self.running.lock().take() else { return };
        drop(running.timers);
        for thread in running.threads {
            // A thread that panicked has ended the process already.
            let _ = thread.join();
        }
        if let Some(pool) = self.pool.lock().take() {
            let drained = barrier(&pool).recv_timeout(DRAIN_MAX);
            if drained == Err(RecvTimeoutError::Timeout) {
                log::error!(
                    "alert changes cannot be written; they are evaluated again at the next start"
                );
            } else {
                write_watermark(&self.shared, self.shared.clock.now_ms());
            }
            drop(running.retries);
            drop(pool);
        }
        journal::copy(&self.shared.control, self.shared.store.as_ref());
    }

    /// Waits until everything that is queued has been evaluated and written.
    pub fn settle(&self) {
        if let Some(pool) = self.pool() {
            // It ends with an error, when the last worker has come to it.
            let _ = barrier(&pool).recv();
        }
    }

    /// The rules in force, those that are not enabled among them.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.shared.rules()
    }

    /// Alerts that fire, newest first; acknowledged ones among them.
    pub fn active(&self) -> Vec<AlertEvent> {
        self.shared.active()
    }

    /// What evaluates the expressions of rules.
    pub(crate) fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Whether to ask an agent now which processes are at work on its host. Saying so counts as
    /// asking.
    pub(crate) fn ask_for_snapshot(&self, agent: &str) -> bool {
        self.shared.suspects.lock().ask(agent, self.shared.clock.now().steady_ms)
    }

    /// Sets who knows where agents report. Called once, before the first report.
    pub(crate) fn set_takeover(&self, takeover: Arc<dyn Takeover>) {
        if self.shared.takeover.set(takeover).is_err() {
            log::error!("alerts know already where agents report");
        }
    }

    /// Goes on with the alerts of an agent as another server had them, or with what is here
    /// (`None`). One that reports nowhere was last seen at `watch_ms` (Unix milliseconds).
    pub(crate) fn adopt(&self, agent: &str, taken: Option<Vec<Taken>>, watch_ms: Option<i64>) {
        if let Some(pool) = self.pool() {
            let job = Job::Adopt { agent: agent.to_owned(), taken, watch_ms };
            pool.put(shard_key(agent), job);
        }
    }

    /// Lets go of an agent that reports to another server, where `known` is known of its alerts.
    pub(crate) fn release(&self, agent: &str, known: Vec<Taken>) {
        if let Some(pool) = self.pool() {
            pool.put(shard_key(agent), Job::Release { agent: agent.to_owned(), known });
        }
    }

    fn pool(&self) -> Option<Arc<Pool<Job>>> {
        self.pool.lock().clone()
    }

    fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Observer for Alerts {
    fn stored(&self, agent: &str, sets: Vec<SampleSet>) {
        if sets.is_empty() {
            return;
        }
        // Once the pool is gone, the next start evaluates what has been stored.
        if let Some(pool) = self.pool() {
            let job = Job::Points { agent: agent.to_owned(), sets, queued: Instant::now() };
            pool.put(shard_key(agent), job);
        }
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.stop();
    }
}

fn rule_fatal(index: usize, error: &fields::FieldError) -> Fatal {
    let message = format!("alert.rules.{index}.{}: {}", error.field, error.message);
    Fatal::new(Exit::Config, message)
}

fn prune(shared: &Shared, now_ms: i64, keep_secs: u64) -> Result<(), StorageError> {
    let keep_ms = i64::try_from(keep_secs).unwrap_or(i64::MAX).saturating_mul(SECOND_MS);
    let before_ms = now_ms.saturating_sub(keep_ms);
    shared.control.write(move |tx| -> Result<(), StorageError> {
        tables::prune_states(tx, before_ms)?;
        Ok(())
    })
}

fn queries_of(
    shared: &Shared,
    config: &ServerConfig,
    registry: &prometheus::Registry,
    now_ms: i64,
) -> Result<Queries, StorageError> {
    let evaluated =
        shared.control.read(|db| -> Result<_, StorageError> { Ok(tables::watermark(db)?) })?;
    let schedule = Schedule::new(evaluated, now_ms);
    let label = &config.prometheus.agent_label;
    Ok(Queries::new(Arc::clone(&shared.store), registry, label, schedule))
}

fn workers_of(shared: &Arc<Shared>, shards: Vec<shard::Shard>, config: &ServerConfig) -> Pool<Job> {
    let count = shards.len();
    let slots: Vec<_> = shards.into_iter().map(|shard| Mutex::new(Some(shard))).collect();
    // A full queue makes the storage writer wait, and ingest with it.
    Pool::sharded("alert", count, config.pools.alert_queue, |index| {
        let shard = slots.get(index).and_then(|slot| slot.lock().take());
        let shared = Arc::clone(shared);
        move |jobs: Receiver<Job>| {
            let shard = shard.ok_or("a worker starts once")?;
            worker::work(&shared, index, shard, &jobs)
        }
    })
}

/// A receiver that is disconnected once every worker has done what was queued before.
fn barrier(pool: &Pool<Job>) -> Receiver<()> {
    let (done, all_done) = bounded(0);
    for index in 0..pool.shards() {
        pool.put(index as u64, Job::Barrier { _done: done.clone() });
    }
    all_done
}

/// Copies events to their day files, off the workers: the store's writer may wait for them.
fn copier(shared: Arc<Shared>, copies: Receiver<()>, stop: Stop) -> JoinHandle<()> {
    thread::spawn("alert-journal", move || {
        loop {
            journal::copy(&shared.control, shared.store.as_ref());
            crossbeam_channel::select! {
                recv(copies) -> _ => {}
                recv(stop.receiver()) -> _ => return Ok(()),
                default(COPY_AGAIN_AFTER) => {}
            }
        }
    })
}

fn timer(shared: Arc<Shared>, pool: Arc<PoolSlot>, stop: Stop) -> JoinHandle<()> {
    thread::spawn("alert-timer", move || {
        let mut ticks = 0_u32;
        while !stop.wait(TICK) {
            let Some(pool) = pool.lock().clone() else { return Ok(()) };
            shared.metrics.queued.set(i64::try_from(pool.depth()).unwrap_or(i64::MAX));
            let now = shared.clock.now();
            for index in 0..pool.shards() {
                // A worker that is behind looks at absences when it has caught up.
                let _ = pool.offer(index as u64, Job::Tick { now });
            }
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(TICKS_PER_DOMAINS) {
                end_gone_domains(&shared, &pool);
            }
            if ticks.is_multiple_of(TICKS_PER_AGENTS) {
                end_gone_agents(&shared, &pool);
            }
            if ticks.is_multiple_of(TICKS_PER_WATERMARK)
                && shared.busy.swap(false, Ordering::Relaxed)
            {
                let evaluated =
                    shared.evaluated_ms.iter().map(|at_ms| at_ms.load(Ordering::Relaxed));
                write_watermark(&shared, evaluated.min().unwrap_or(i64::MIN));
            }
        }
        Ok(())
    })
}

/// Ends the alerts of domains that are no longer checked, however they went: rows of
/// `cert_domains` may be changed by hand.
fn end_gone_domains(shared: &Shared, pool: &Pool<Job>) {
    let active = shared.active();
    let mut alerts = active.iter().filter(|event| event.agent_id == rule::CERT_AGENT).peekable();
    if alerts.peek().is_none() {
        return;
    }
    let watched = match shared.control.read(certs::watched) {
        Ok(watched) => watched,
        Err(error) => return log::warn!("failed to read the domains: {error}"),
    };
    for event in alerts {
        let Some(domain) = event.labels.get("domain") else { continue };
        let port = event.labels.get("port").map_or(Some(443), |port| port.parse().ok());
        if watched.iter().any(|(name, of)| name == domain && Some(*of) == port) {
            continue;
        }
        let (reply, _) = bounded(1);
        let act = shard::Act::End { why: "the domain is no longer checked" };
        let job = Job::Act { event_id: event.id.clone(), act, reply };
        pool.put(shard_key(&event.agent_id), job);
    }
}

/// Ends the alerts of agents of which nothing is stored any more.
fn end_gone_agents(shared: &Shared, pool: &Pool<Job>) {
    let active = shared.active();
    if active.is_empty() {
        return;
    }
    let stored: HashSet<String> = match shared.store.agents_seen() {
        Ok(seen) => seen.into_iter().map(|agent| agent.agent_id).collect(),
        Err(error) => return log::warn!("failed to read the agents: {error}"),
    };
    let gone: HashSet<&str> = active
        .iter()
        .map(|event| event.agent_id.as_str())
        .filter(|agent| !stored.contains(*agent))
        .filter(|agent| !shared.takeover.get().is_some_and(|known| known.watches(agent)))
        .collect();
    for agent in gone {
        manage::end_agent(pool, agent, "nothing of the agent is stored any more");
    }
}

fn write_watermark(shared: &Shared, at_ms: i64) {
    if at_ms == i64::MIN {
        return;
    }
    let written = shared
        .control
        .write(move |tx| -> Result<(), StorageError> { Ok(tables::put_watermark(tx, at_ms)?) });
    if let Err(error) = written {
        log::warn!("failed to write the alert watermark: {error}");
    }
}

/// Waits until every worker has taken new rules.
fn announce(pool: &Pool<Job>, warm: &Arc<history::Warm>) {
    let (done, all_done): (Sender<()>, Receiver<()>) = bounded(0);
    for index in 0..pool.shards() {
        let job = Job::Rules { warm: Arc::clone(warm), done: done.clone() };
        pool.put(index as u64, job);
    }
    drop(done);
    // It ends with an error, when the last sender is dropped.
    let _ = all_done.recv();
}

#[cfg(test)]
mod tests;
