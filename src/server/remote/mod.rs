//! The engine beyond this machine (`[remote]`): it gets every sample that is stored here, and says
//! so before a day leaves this machine. `docs/scaling.md` describes it for users.
//!
//! ```text
//! store ─ tap ─→ queues, by target and shard ─→ shards ─→ engine, or nodes of a ring
//!                   │ full, or the server ends     ▲
//!                   └─→ gaps (cert.db) ─ read from the store
//! ```
//!
//! The local commit stays the promise: nothing here holds it up, and nothing here is needed for it.
//! Samples are forwarded once each, as the store has found them to be new. What is sent twice all
//! the same (after a crash, or when an answer is lost) is a duplicate that the engine leaves out.
//!
//! | file | what |
//! |---|---|
//! | `naming.rs` | what series are called at the engine, and back |
//! | `encode.rs` | samples as a remote write request |
//! | `http.rs` | one call, and what its answer means |
//! | `target.rs` | the engine or the nodes; which nodes have an agent |
//! | `queue.rs` | what waits in memory |
//! | `gaps.rs` | what is read from the store later |
//! | `send.rs` | a request until it is taken, or refused for good |
//! | `shard.rs` | the thread that sends |
//! | `keeper.rs` | gaps and the note of what is sent, in `cert.db`; metrics |
//! | `store.rs` | the store as all other rooms see it |
//! | `audit.rs` | what the engine has is counted and compared |
//! | `progress.rs` | how far that is |
//! | `metrics.rs` | the forwarder's own figures |
//! | `fetch.rs` | samples read back |
//! | `old.rs` | days that are no longer here |
//! | `handed.rs` | PromQL that the engine evaluates |
//! | `reads.rs` | samples of agents that moved between servers |
//! | `joined.rs` | these days and those here as one |
//! | `alerts.rs` | the state of alerts, for whoever takes an agent over |
//! | `status.rs` | what each target has and lacks, for people |
//! | `check.rs` | `check-remote` |
//! | `history.rs` | `forward` |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;

use crate::base::clock::Clock;
use crate::base::exit::{Exit, Fatal};
use crate::rt::stop::StopSource;
use crate::rt::thread;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::promql::elsewhere::Elsewhere;
use crate::server::storage::{Feed, SampleSet, Store, Tap};

pub(crate) mod alerts;
mod audit;
pub(crate) mod check;
mod encode;
mod fetch;
mod gaps;
mod handed;
pub(crate) mod history;
mod http;
mod joined;
mod keeper;
mod metrics;
mod naming;
pub(crate) mod old;
mod progress;
mod queue;
pub(crate) mod reads;
mod send;
mod shard;
mod status;
mod store;
mod target;

use alerts::AlertLog;
#[cfg(test)]
pub(crate) use fetch::outcome;
use gaps::Times;
use http::Http;
use metrics::Metrics;
use naming::Naming;
use old::OldMetrics;
use queue::Room;
use reads::Reads;
pub(crate) use send::OWN_AGENT;
use send::Sender;
use shard::Shard;
pub(crate) use status::TargetStatus;
use store::{Front, Held};
use target::{Target, homes, shard_of};

/// How long a stop waits for what is queued to be sent; the rest is sent after the next start.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Sends samples on until it is stopped.
pub(crate) struct Remote {
    inner: Arc<Inner>,
    front: Arc<Front>,
    alerts: Arc<AlertLog>,
    running: Mutex<Option<Running>>,
}

struct Running {
    source: StopSource,
    keeper: JoinHandle<()>,
    auditor: Option<JoinHandle<()>>,
    alerts: JoinHandle<()>,
    /// Disconnected once every shard has ended.
    shards: Receiver<Infallible>,
}

/// What the parts share.
struct Inner {
    targets: Vec<Arc<Target>>,
    http: Arc<Http>,
    naming: Naming,
    replicas: usize,
    store: Arc<dyn Feed>,
    control: Control,
    clock: Arc<dyn Clock>,
    room: Arc<Room>,
    metrics: Metrics,
    /// What arrived since may not have been sent: the last process ended without a stop.
    unsure_since_ms: Mutex<Option<i64>>,
    /// Days before this time are no longer here, Unix milliseconds; `i64::MIN`: all are.
    hot_from_ms: AtomicI64,
    /// Metrics that only days before it have.
    old_metrics: Mutex<OldMetrics>,
    /// Days of samples kept here.
    hot_days: i64,
    /// Days that the API answers for.
    retention_days: i64,
    /// Whether the engine evaluates PromQL over old days.
    hands_promql: bool,
    /// Acknowledgements that wait for the engine.
    held: Mutex<Vec<Arc<Held>>>,
}

impl Remote {
    /// Starts to send what is stored from now on, and what the last process left. `None` when no
    /// engine is configured.
    ///
    /// # Errors
    ///
    /// When the configuration can't be used, or `cert.db` can't be read.
    pub(crate) fn start(
        config: &ServerConfig,
        store: Arc<dyn Feed>,
        control: Control,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Option<Arc<Self>>, Fatal> {
        if !config.remote.is_on() {
            return Ok(None);
        }
        let http = Http::new(config).map_err(|why| Fatal::new(Exit::Config, why))?;
        let http = Arc::new(http);
        let metrics = Metrics::register(registry)?;
        let room = Arc::new(Room::default());
        let targets = Target::all(&config.remote, &room, &metrics);
        let targets: Vec<Arc<Target>> = targets.into_iter().map(Arc::new).collect();
        let inner = Arc::new(Inner {
            targets,
            http: Arc::clone(&http),
            naming: Naming::of(config),
            replicas: config.remote.replicas,
            store: Arc::clone(&store),
            control,
            clock,
            room,
            metrics,
            unsure_since_ms: Mutex::new(None),
            hot_from_ms: AtomicI64::new(i64::MIN),
            old_metrics: Mutex::default(),
            hot_days: i64::from(config.remote.hot_days),
            retention_days: i64::from(config.retention_days),
            hands_promql: config.remote.hands_promql(),
            held: Mutex::default(),
        });
        keeper::load(&inner).map_err(|error| {
            Fatal::new(Exit::DataDir, format!("failed to read what the engine lacks: {error}"))
        })?;
        store.tap(Arc::clone(&inner) as Arc<dyn Tap>);
        let source = StopSource::new();
        let (alive, shards) = bounded::<Infallible>(0);
        for target in &inner.targets {
            for index in 0..target.queues.len() {
                let sender = Sender::new(
                    Arc::clone(&http),
                    Arc::clone(target),
                    Naming::of(config),
                    Arc::clone(&inner.clock),
                    source.stop(),
                );
                let reads = Arc::clone(&store) as Arc<dyn Store>;
                let shard = Shard::new(Arc::clone(target), index, reads, sender, source.stop());
                let alive = alive.clone();
                // Not joined: a call to an engine that hangs must not hold up the stop.
                drop(thread::spawn(&format!("remote-{index}"), move || {
                    shard.run();
                    drop(alive);
                    Ok(())
                }));
            }
        }
        let stop = source.stop();
        let kept = Arc::clone(&inner);
        let keeper = thread::spawn("remote-keeper", move || {
            keeper::run(&kept, &stop);
            Ok(())
        });
        let auditor = (!config.remote.read_urls.is_empty()).then(|| {
            let (audited, stop) = (Arc::clone(&inner), source.stop());
            thread::spawn("remote-audit", move || {
                audit::run(&audited, &stop);
                Ok(())
            })
        });
        let (log, alerts) = AlertLog::start(Arc::clone(&inner), source.stop());
        let running = Mutex::new(Some(Running { source, keeper, auditor, alerts, shards }));
        let front = Arc::new(Front::new(Arc::clone(&inner), config.remote.acks_at_engine()));
        Ok(Some(Arc::new(Self { inner, front, alerts: log, running })))
    }

    /// The store with the engine behind it, for all other rooms.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.front) as Arc<dyn Store>
    }

    /// What each target has, lacks and refuses.
    pub(crate) fn status(&self) -> Vec<TargetStatus> {
        self.inner.status()
    }

    /// Who evaluates PromQL over days that are no longer here.
    pub(crate) fn elsewhere(&self) -> Arc<dyn Elsewhere> {
        Arc::clone(&self.inner) as Arc<dyn Elsewhere>
    }

    /// Reads of what the engine has.
    pub(crate) fn reads(&self) -> Reads {
        Reads(Arc::clone(&self.inner))
    }

    /// The state of alerts at the engine.
    pub(crate) fn alerts(&self) -> Arc<AlertLog> {
        Arc::clone(&self.alerts)
    }

    /// Sends what is queued, for a moment, and notes the rest. The store must be stopped: no more
    /// samples come.
    pub(crate) fn stop(&self) {
        let Some(running) = self.running.lock().take() else { return };
        drop(running.source);
        // A keeper that panicked has ended the process already.
        let _ = running.keeper.join();
        // Not joined either: they may wait for an answer.
        drop((running.auditor, running.alerts));
        // Disconnected, or too late.
        let _ = running.shards.recv_timeout(DRAIN_MAX);
        keeper::finish(&self.inner);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// The targets of an agent.
    fn homes(&self, agent: &str) -> impl Iterator<Item = &Arc<Target>> {
        let keys = self.targets.iter().map(|target| target.key.as_str());
        let places = homes(keys, agent, self.replicas);
        places.into_iter().filter_map(|at| self.targets.get(at))
    }

    /// Notes that every target of an agent lacks what is stored in these times.
    fn miss(&self, agent: &Arc<str>, times: Times) {
        self.homes(agent).for_each(|target| target.gaps.add(agent, times));
    }

    /// Days before this time are no longer here, Unix milliseconds; `i64::MIN`: all are.
    fn hot_from_ms(&self) -> i64 {
        self.hot_from_ms.load(Ordering::Acquire)
    }

    /// Unix milliseconds: what arrived before was sent, or is a gap.
    fn sent_to_ms(&self) -> i64 {
        // Before the queues are looked at: what comes meanwhile is later.
        let now_ms = self.clock.now_ms();
        let queues = self.targets.iter().flat_map(|target| &target.queues);
        queues.filter_map(queue::Queue::oldest_ms).fold(now_ms, i64::min)
    }
}

impl Tap for Inner {
    fn committed(&self, agent: &Arc<str>, sets: &[SampleSet]) {
        let arrived_ms = self.clock.now_ms();
        for target in self.homes(agent) {
            let Some(queue) = target.queues.get(shard_of(agent, target.queues.len())) else {
                continue;
            };
            for set in sets {
                target.audit.arrived(agent, set.timestamp_ms);
                if !queue.push(agent, set, arrived_ms) {
                    target.metrics.overflowed.inc_by(set.values.len() as u64);
                    target.gaps.add(agent, (set.timestamp_ms, set.timestamp_ms));
                }
            }
        }
    }
}
