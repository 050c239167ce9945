//! Agents that move between servers. `docs/scaling.md` describes it for users.
//!
//! ```text
//! alert shards ──→ table ──→ the other servers, which ask every second
//!      ▲             ▲
//!      │ state       └─ what they tell (mirrors) ─→ agents that left are released
//!      └── adopter ←── first report of an agent: from a server, else from the engine
//! ```
//!
//! Each stay of an agent at a server has a claim: a number greater than those of all stays before.
//! The server with the greatest claim evaluates the agent; all others let go of it. A firing alert
//! is notified once the other servers know of it, and they learn at once that it was sent: whoever
//! takes the agent over goes on with it.
//!
//! | file | what |
//! |---|---|
//! | `table.rs` | what is here, by version |
//! | `news.rs` | what servers tell each other |
//! | `mirror.rs` | what another server said |
//! | `ask.rs` | asks the other servers, releases agents, watches those of a server that is away |
//! | `adopt.rs` | finds the state of an agent's alerts |
//! | `sent.rs` | which alerts were notified |
//! | `metrics.rs` | figures |

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::base::clock::{Clock, MINUTE_MS};
use crate::base::exit::{Exit, Fatal};
use crate::model::alert::AlertEvent;
use crate::rt::stop::StopSource;
use crate::rt::thread;
use crate::server::alert::Alerts;
use crate::server::alert::moved::{Takeover, figures};
use crate::server::alert::rule::CERT_AGENT;
use crate::server::alert::tracked::{Change, TransitionKind};
use crate::server::control::Control;
use crate::server::control::alerts::StateRow;
use crate::server::notify::Gate;
use crate::server::peers::Peers;
use crate::server::remote::alerts::AlertLog;
use crate::server::remote::reads::Reads;
use crate::server::remote::{OWN_AGENT, Remote};
use crate::server::storage::{StorageError, Store};

mod adopt;
mod ask;
pub(crate) mod everywhere;
mod metrics;
mod mirror;
mod news;
mod sent;
mod store;
mod table;
pub(crate) mod wire;

use metrics::Metrics;
use mirror::Mirror;
use news::{News, Place};
use sent::Unsent;
use table::Table;

/// How long after its last report an agent that comes back after a start may have been elsewhere.
const AWAY_MS: i64 = 2 * MINUTE_MS;
/// How long after the start notifications of before wait for the other servers' answers.
const OPENS_AFTER: Duration = Duration::from_secs(8);

/// See the module.
pub(crate) struct Handover {
    name: String,
    table: Table,
    mirrors: Vec<Mirror>,
    peers: Option<Arc<Peers>>,
    engine: Option<Arc<AlertLog>>,
    reads: Option<Reads>,
    local: Arc<dyn Store>,
    alerts: Weak<Alerts>,
    control: Control,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    unsent: Unsent,
    /// Agents whose state is looked for.
    asked: Mutex<BTreeSet<String>>,
    wake: (Sender<()>, Receiver<()>),
    started: Instant,
    started_ms: i64,
    /// Whether agents that went elsewhere before this start were released.
    is_open: AtomicBool,
    running: Mutex<Option<(StopSource, Vec<JoinHandle<()>>)>>,
}

/// What it is made of.
pub(crate) struct Parts<'a> {
    /// The other servers.
    pub(crate) peers: Option<&'a Arc<Peers>>,
    /// The engine.
    pub(crate) remote: Option<&'a Remote>,
    /// The samples that are here.
    pub(crate) local: Arc<dyn Store>,
    /// Evaluates rules.
    pub(crate) alerts: &'a Arc<Alerts>,
    /// `cert.db`.
    pub(crate) control: Control,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Takes the figures.
    pub(crate) registry: &'a prometheus::Registry,
}

impl Handover {
    /// Starts to tell the other servers, or the engine, where agents are. `None` where there is
    /// neither.
    ///
    /// # Errors
    ///
    /// When `cert.db` or the agents can't be read.
    pub(crate) fn start(parts: Parts<'_>) -> Result<Option<Arc<Self>>, Fatal> {
        if parts.peers.is_none() && parts.remote.is_none() {
            return Ok(None);
        }
        let failed = |error: StorageError| {
            Fatal::new(Exit::DataDir, format!("failed to read where agents were: {error}"))
        };
        let (alerts, unsent) = sent::load(&parts.control).map_err(failed)?;
        let seen = parts.local.agents_seen().map_err(failed)?;
        let seen = seen.into_iter().filter(|agent| moves(&agent.agent_id));
        let seen = seen.map(|agent| (agent.agent_id, agent.last_seen_ms, agent.newest_ms));
        let sisters = parts.peers.map(|peers| peers.sisters()).unwrap_or_default();
        let handover = Arc::new(Self {
            name: parts.peers.map(|peers| peers.name().to_owned()).unwrap_or_default(),
            table: Table::new(seen, alerts),
            mirrors: sisters.iter().map(|sister| Mirror::new(Arc::clone(sister))).collect(),
            peers: parts.peers.cloned(),
            engine: parts.remote.map(Remote::alerts),
            reads: parts.remote.map(Remote::reads),
            local: parts.local,
            alerts: Arc::downgrade(parts.alerts),
            control: parts.control,
            started_ms: parts.clock.now_ms(),
            clock: parts.clock,
            metrics: Metrics::register(parts.registry)?,
            unsent,
            asked: Mutex::default(),
            wake: bounded(1),
            started: Instant::now(),
            is_open: AtomicBool::new(sisters.is_empty()),
            running: Mutex::new(None),
        });
        parts.alerts.set_takeover(Arc::clone(&handover) as Arc<dyn Takeover>);
        let source = StopSource::new();
        let mut threads = Vec::new();
        let (adopter, stop) = (Arc::clone(&handover), source.stop());
        threads.push(thread::spawn("handover", move || {
            adopter.run(&stop);
            Ok(())
        }));
        for index in 0..handover.mirrors.len() {
            let (asker, stop) = (Arc::clone(&handover), source.stop());
            threads.push(thread::spawn(&format!("sister-{index}"), move || {
                asker.ask_on(index, &stop);
                Ok(())
            }));
        }
        *handover.running.lock() = Some((source, threads));
        Ok(Some(handover))
    }

    /// Ends the threads. A call that is under way ends by itself.
    pub(crate) fn stop(&self) {
        drop(self.running.lock().take().map(|(source, _)| source));
    }

    /// What is new here since version `since` of the table `boot`, for the server `who`.
    pub(crate) fn news(&self, who: &str, since: (&str, u64)) -> News {
        let news = self.table.news(who, since, self.clock.now_ms());
        let settled_ms = self.reads.as_ref().map_or(news.now_ms, Reads::settled_ms);
        News { settled_ms, ..news }
    }

    /// The samples that are here.
    pub(crate) fn local(&self) -> &dyn Store {
        &*self.local
    }

    /// Alerts that fire at other servers.
    pub(crate) fn active_elsewhere(&self) -> Vec<AlertEvent> {
        let mut out = Vec::new();
        for mirror in &self.mirrors {
            let firing = mirror.all_alerts().into_iter().filter(|it| it.row.state == "firing");
            let events = firing.filter_map(|it| AlertEvent::from_json(&it.row.detail?));
            out.extend(events.filter(|event| {
                let place = self.elsewhere(&event.agent_id);
                place.is_some_and(|(it, _)| it.sister.name == mirror.sister.name)
            }));
        }
        out
    }

    /// The names of the other servers that do not answer.
    pub(crate) fn away(&self) -> Vec<String> {
        let away = self.mirrors.iter().filter(|mirror| mirror.fault().is_some());
        away.map(|mirror| mirror.sister.name.clone()).collect()
    }

    /// The name of the other server that an agent reports to.
    pub(crate) fn server_of(&self, agent: &str) -> Option<String> {
        self.elsewhere(agent).map(|(mirror, _)| mirror.sister.name.clone())
    }

    /// The greatest claim on an agent that is known, of any server.
    fn claim_of(&self, agent: &str) -> i64 {
        let theirs = self.mirrors.iter().filter_map(|mirror| mirror.place(agent));
        let all = theirs.chain(self.table.place(agent)).map(|place| place.claim);
        all.max().unwrap_or(0)
    }

    /// The server other than this that an agent reports to, with what it knows.
    fn elsewhere(&self, agent: &str) -> Option<(&Mirror, Place)> {
        let theirs = self.mirrors.iter().filter_map(|it| Some((it, it.place(agent)?)));
        let theirs = theirs.filter(|(_, place)| place.is_here);
        let (mirror, place) = theirs.max_by_key(|(it, place)| (place.claim, &it.sister.name))?;
        let own = self.table.place(agent);
        own.is_none_or(|own| self.is_beaten(own, mirror, place)).then_some((mirror, place))
    }

    /// Whether another server's claim on an agent is newer than the own one.
    fn is_beaten(&self, own: Place, mirror: &Mirror, theirs: Place) -> bool {
        (theirs.claim, &mirror.sister.name) > (own.claim, &self.name)
    }

    /// Tells the engine the state of an alert.
    fn tell_engine(&self, row: &StateRow, is_sent: bool) {
        let [_, agent, ..] = &row.key;
        let Some(engine) = self.engine.as_ref().filter(|_| moves(agent)) else { return };
        let evaluated_ms = self.table.place(agent).map_or(0, |place| place.newest_ms);
        if let Some(figures) = figures(row, is_sent, evaluated_ms) {
            engine.note(figures);
        }
    }
}

/// Whether an agent may report to another server: certificate checks and the server's own samples
/// have the same agent everywhere.
fn moves(agent: &str) -> bool {
    agent != CERT_AGENT && agent != OWN_AGENT
}

/// The row of an alert that is simply ok.
fn ok_row(key: &[String; 4]) -> StateRow {
    StateRow {
        key: key.clone(),
        state: "ok".to_owned(),
        since_ms: 0,
        event_id: None,
        last_notified_ms: None,
        acknowledged: false,
        detail: None,
        updated_ms: 0,
    }
}

impl Takeover for Handover {
    fn ask(&self, agent: &str) -> bool {
        if !moves(agent) {
            return false;
        }
        if self.mirrors.is_empty() {
            let known = self.table.place(agent);
            if known.is_some_and(|place| self.started_ms - place.seen_ms <= AWAY_MS) {
                return false;
            }
        }
        self.asked.lock().insert(agent.to_owned());
        // A full channel says the same.
        let _ = self.wake.0.try_send(());
        true
    }

    fn reported(&self, agent: &str, newest_ms: i64) {
        self.table.reported(agent, newest_ms, self.clock.now_ms());
    }

    fn adopted(&self, agent: &str) {
        let now_ms = self.clock.now_ms();
        let claim = now_ms.max(self.claim_of(agent) + 1);
        let theirs = self.mirrors.iter().filter_map(|mirror| mirror.place(agent));
        let newest_ms = theirs.chain(self.table.place(agent)).map(|place| place.newest_ms).max();
        self.table.claim(agent, claim, (now_ms, newest_ms.unwrap_or(0)));
    }

    fn gave_up(&self, agent: &str) {
        log::warn!("the state of the alerts of {agent} did not come in time: they start fresh");
        self.metrics.taken.with_label_values(&["nothing"]).inc();
        self.asked.lock().remove(agent);
    }

    fn changed(&self, changes: &[Change]) {
        for change in changes {
            let [_, agent, ..] = &change.key;
            if !moves(agent) {
                continue;
            }
            if change.transition.kind == TransitionKind::HandedOver {
                self.table.alert(&change.key, None, true);
                self.engine.iter().for_each(|engine| engine.forget(&change.key));
                continue;
            }
            let is_sent = self.unsent.note(change);
            if !is_sent && change.transition.kind == TransitionKind::TakenOver {
                self.metrics.again.inc();
            }
            self.table.alert(&change.key, change.row.clone(), is_sent);
            let row = change.row.clone().unwrap_or_else(|| ok_row(&change.key));
            self.tell_engine(&row, is_sent);
        }
    }

    fn watches(&self, agent: &str) -> bool {
        self.table.place(agent).is_some_and(|place| place.is_here)
    }

    fn is_elsewhere(&self, agent: &str) -> bool {
        self.table.place(agent).is_some_and(|place| !place.is_here)
    }
}

impl Gate for Handover {
    fn made_to_ms(&self, now_ms: i64) -> i64 {
        if !self.is_open.load(Ordering::Acquire) && self.started.elapsed() < OPENS_AFTER {
            return i64::MIN;
        }
        self.table.known_ms(now_ms)
    }

    fn attempted(&self, events: &[AlertEvent]) {
        let read = self.unsent.look(&self.control, events);
        match read {
            Ok(sent) => sent.iter().for_each(|id| {
                let row = self.table.sent(id);
                row.iter().for_each(|row| self.tell_engine(row, true));
            }),
            Err(error) => log::warn!("failed to read what was notified: {error}"),
        }
    }
}
