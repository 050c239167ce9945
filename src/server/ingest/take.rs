//! From a report to the store: who it is from, what of it is taken, and what its sender is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures_channel::oneshot;
use parking_lot::Mutex;

use super::admit::{LeftOut, Reason, Window, check_batch};
use super::auth::{TokenHash, Whitelist, hash};
use super::decode::{RawPoint, Report};
use super::metrics::Metrics;
use super::shapes::{self, Shapes};
use crate::base::clock::{Clock, DAY_MS};
use crate::model::agent_id::check_agent_id;
use crate::model::series::Labels;
use crate::server::config::ServerConfig;
use crate::server::storage::{
    Ack, Refused, RefusedWhy, ResolvedTick, Series, StorageError, Store, Stored,
};

/// What a sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, or nothing of it could be; with what was left out, if anything.
    Stored(String),
    /// It is not stored, and never will be.
    Refused(String),
    /// It is not stored now: come again.
    Busy(String),
    /// The server stops, or its storage failed: come again later.
    Unavailable(String),
    /// No token, or a wrong one.
    Unauthenticated(String),
    /// It names another agent.
    Denied(String),
}

/// An outcome, or where it comes from once the store has written.
pub enum Decision {
    /// It is decided.
    Now(Outcome),
    /// The store decides. An end without a word means that it could not.
    Later(oneshot::Receiver<Outcome>),
}

/// Who calls, by its metadata.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    agent_id: String,
    token_hash: Option<TokenHash>,
}

impl Caller {
    /// A caller by the values of `agent-id` and `authorization`.
    pub fn new(agent_id: &str, authorization: &str) -> Self {
        let token = authorization.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let token = token.and_then(|_| authorization.get(7..)).map(str::trim);
        Self { agent_id: agent_id.to_owned(), token_hash: token.map(hash) }
    }
}

/// Takes reports. One for the process.
pub struct Intake {
    /// Agents and their tokens.
    pub whitelist: Arc<Whitelist>,
    /// What `/metrics` says of ingest.
    pub metrics: Arc<Metrics>,
    shapes: Shapes,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    require_auth: bool,
    retention_ms: i64,
    stopping: AtomicBool,
}

impl Intake {
    /// An intake into `store`.
    ///
    /// # Errors
    ///
    /// When the registry has its metrics already.
    pub fn new(
        config: &ServerConfig,
        whitelist: Arc<Whitelist>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            whitelist,
            metrics: Arc::new(Metrics::register(registry)?),
            shapes: Shapes::default(),
            store,
            clock,
            require_auth: config.require_agent_auth,
            retention_ms: i64::from(config.retention_days) * DAY_MS,
            stopping: AtomicBool::new(false),
        })
    }

    /// Whether callers must show a token.
    pub fn requires_auth(&self) -> bool {
        self.require_auth
    }

    /// Takes no more reports from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether reports are taken.
    pub fn is_serving(&self) -> bool {
        !self.stopping.load(Ordering::SeqCst)
    }

    /// The times that can be stored now.
    pub fn window(&self) -> Window {
        Window::at(self.clock.possible_ms(), self.retention_ms)
    }

    /// Whether a caller is who its metadata says.
    ///
    /// # Errors
    ///
    /// What it is told.
    pub fn authenticate(&self, caller: &Caller) -> Result<(), Outcome> {
        if !self.require_auth {
            return Ok(());
        }
        let told = match &caller.token_hash {
            None => "a token is needed: authorization: Bearer TOKEN, and agent-id: ID",
            Some(hash) if self.whitelist.allows_hash(&caller.agent_id, hash) => return Ok(()),
            Some(_) => "the token is not that of this agent; see the whitelist",
        };
        Err(Outcome::Unauthenticated(told.to_owned()))
    }

    /// Whether an authenticated caller may speak for `agent_id`.
    ///
    /// # Errors
    ///
    /// What it is told.
    pub fn authorize(&self, caller: &Caller, agent_id: &str) -> Result<(), Outcome> {
        if !self.require_auth || agent_id == caller.agent_id {
            return Ok(());
        }
        let shown: String = agent_id.chars().take(64).collect();
        Err(Outcome::Denied(format!("this token may not report as `{shown}`")))
    }

    /// Takes a report.
    pub fn report(&self, caller: &Caller, report: &Report) -> Decision {
        let decision = self.decide(caller, report).unwrap_or_else(Decision::Now);
        if let Decision::Now(outcome) = &decision {
            self.metrics.count(outcome);
        }
        decision
    }

    fn decide(&self, caller: &Caller, report: &Report) -> Result<Decision, Outcome> {
        self.authenticate(caller)?;
        check_batch(report.agent(), report.len()).map_err(Outcome::Refused)?;
        self.authorize(caller, report.agent())?;
        if !report.is_of_one_agent() {
            return self.decide_relayed(caller, report);
        }
        let mut left_out = LeftOut::default();
        let points: Vec<RawPoint<'_>> = report.points().collect();
        let ticks = self.ticks(report.agent(), &points, &mut left_out);
        let taken = Taken { agent: report.agent().into(), ticks };
        Ok(self.submit(vec![taken], left_out, report.len()))
    }

    /// A relay without a token of its own may speak for several agents at once.
    fn decide_relayed(&self, caller: &Caller, report: &Report) -> Result<Decision, Outcome> {
        let mut by_agent: BTreeMap<&str, Vec<RawPoint<'_>>> = BTreeMap::new();
        for point in report.points() {
            let agent = if point.agent().is_empty() { report.agent() } else { point.agent() };
            by_agent.entry(agent).or_default().push(point);
        }
        for agent in by_agent.keys() {
            self.authorize(caller, agent)?;
            check_agent_id(agent).map_err(Outcome::Refused)?;
        }
        let mut left_out = LeftOut::default();
        let taken = by_agent
            .into_iter()
            .map(|(agent, points)| {
                let ticks = self.ticks(agent, &points, &mut left_out);
                Taken { agent: agent.into(), ticks }
            })
            .collect();
        Ok(self.submit(taken, left_out, report.len()))
    }

    fn ticks(
        &self,
        agent: &str,
        points: &[RawPoint<'_>],
        left_out: &mut LeftOut,
    ) -> Vec<ResolvedTick> {
        let window = self.window();
        let resolver = self.shapes.of(&*self.store, agent, self.clock.now_ms());
        points
            .chunk_by(|a, b| a.timestamp_ms() == b.timestamp_ms())
            .filter_map(|run| resolver.tick(run, &window, left_out))
            .collect()
    }

    /// The series of an agent with this name and these labels.
    ///
    /// # Errors
    ///
    /// Why its points are left out.
    pub fn resolve(
        &self,
        agent: &str,
        metric: Arc<str>,
        labels: Labels,
    ) -> Result<Arc<Series>, Reason> {
        shapes::resolve(&*self.store, agent, metric, labels)
    }

    /// Forgets what agents that have gone silent sent last. Called about once a minute.
    pub fn sweep(&self) {
        self.shapes.sweep(self.clock.now_ms());
    }

    /// Reports that wait for the store, and reports that it has answered so far.
    pub fn progress(&self) -> (u64, u64) {
        let answered = self.metrics.answered.get();
        let queued = self.metrics.queued.get();
        (queued.saturating_sub(answered), answered)
    }

    /// Queues what was taken of a report of `of` points.
    pub fn submit(&self, mut taken: Vec<Taken>, left_out: LeftOut, of: usize) -> Decision {
        taken.retain(|taken| !taken.ticks.is_empty());
        if taken.is_empty() {
            self.metrics.leave_out(&left_out);
            return Decision::Now(Outcome::Stored(left_out.message(of)));
        }
        let (answer, answered) = oneshot::channel();
        let metrics = self.metrics.clone();
        let told = Told { answer, metrics, left_out, of, taken: Instant::now() };
        let mut acks = if taken.len() == 1 {
            vec![Box::new(move |result| told.tell(result)) as Ack]
        } else {
            Join::split(taken.len(), Box::new(move |result| told.tell(result)))
        };
        self.metrics.queued.inc();
        for part in taken {
            let Some(ack) = acks.pop() else { break };
            if let Err(refused) = self.store.submit_resolved(&part.agent, part.ticks, ack) {
                // What went before may be stored: it comes again with the rest, and stands once.
                self.metrics.answered.inc();
                return Decision::Now(refusal(&refused));
            }
        }
        Decision::Later(answered)
    }
}

/// What is to be stored of one agent.
pub struct Taken {
    /// The agent.
    pub agent: Box<str>,
    /// Its ticks.
    pub ticks: Vec<ResolvedTick>,
}

/// Whom to tell what became of a report.
struct Told {
    answer: oneshot::Sender<Outcome>,
    metrics: Arc<Metrics>,
    left_out: LeftOut,
    of: usize,
    taken: Instant,
}

impl Told {
    fn tell(mut self, result: Result<Stored, StorageError>) {
        if let Ok(stored) = &result {
            self.left_out.add_many(Reason::NoRoom, stored.left_out);
            self.metrics.stored(stored);
            self.metrics.leave_out(&self.left_out);
        }
        let outcome = outcome(result, self.left_out.message(self.of));
        self.metrics.answered.inc();
        self.metrics.count(&outcome);
        self.metrics.seconds.observe(self.taken.elapsed().as_secs_f64());
        // A caller that has gone away misses nothing: the report is stored all the same.
        let _ = self.answer.send(outcome);
    }
}

/// Waits for several acknowledgements, and tells the first failure or the sum.
struct Join {
    open: AtomicUsize,
    state: Mutex<(Option<Ack>, Result<Stored, StorageError>)>,
}

impl Join {
    /// As many acknowledgements as there are parts; `tell` is called after the last.
    fn split(parts: usize, tell: Ack) -> Vec<Ack> {
        let state = Mutex::new((Some(tell), Ok(Stored::default())));
        let join = Arc::new(Self { open: AtomicUsize::new(parts), state });
        let one = || {
            let join = Arc::clone(&join);
            Box::new(move |result| join.done(result)) as Ack
        };
        (0..parts).map(|_| one()).collect()
    }

    fn done(&self, result: Result<Stored, StorageError>) {
        let told = {
            let mut state = self.state.lock();
            match (&mut state.1, result) {
                (Ok(sum), Ok(stored)) => {
                    sum.new += stored.new;
                    sum.known += stored.known;
                    sum.left_out += stored.left_out;
                }
                (Ok(_), Err(error)) => state.1 = Err(error),
                (Err(_), _) => {}
            }
            if self.open.fetch_sub(1, Ordering::SeqCst) > 1 {
                return;
            }
            let result = std::mem::replace(&mut state.1, Ok(Stored::default()));
            state.0.take().map(|tell| (tell, result))
        };
        if let Some((tell, result)) = told {
            tell(result);
        }
    }
}

fn outcome(result: Result<Stored, StorageError>, message: String) -> Outcome {
    match result {
        Ok(_) => Outcome::Stored(message),
        Err(error @ StorageError::DiskFull) => Outcome::Busy(error.to_string()),
        Err(StorageError::Invalid(why)) => Outcome::Refused(why),
        Err(error @ StorageError::Stopping) => Outcome::Unavailable(error.to_string()),
        Err(error) => {
            // The far side learns no paths and no SQL.
            log::error!("a batch could not be stored: {error}");
            Outcome::Unavailable("the batch could not be stored; see the server's log".to_owned())
        }
    }
}

fn refusal(refused: &Refused) -> Outcome {
    match refused.error {
        RefusedWhy::QueueFull => {
            Outcome::Busy("the storage queue is full; keep the batch and come again".to_owned())
        }
        RefusedWhy::Stopping => Outcome::Unavailable("the server is stopping".to_owned()),
    }
}
