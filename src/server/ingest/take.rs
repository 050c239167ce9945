//! From a report to the store: who it is from, what of it is taken, and what its sender is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_channel::oneshot;

use super::admit::{LeftOut, Window, check_batch, check_series};
use super::auth::{TokenHash, Whitelist, hash};
use super::decode::{RawPoint, Report};
use super::metrics::Metrics;
use crate::base::clock::{Clock, DAY_MS};
use crate::model::point::{Batch, Point};
use crate::model::series::Labels;
use crate::server::config::ServerConfig;
use crate::server::storage::{Ack, Refused, RefusedWhy, StorageError, Store, Stored};

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
    pub metrics: Metrics,
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
            metrics: Metrics::register(registry)?,
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
        Window::at(self.clock.now_ms(), self.retention_ms)
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
        let window = self.window();
        let mut left_out = LeftOut::default();
        let mut batches = vec![empty_batch(report.agent(), report)];
        for raw in report.points() {
            let named = raw.agent();
            let agent = if named.is_empty() { report.agent() } else { named };
            self.authorize(caller, agent)?;
            let checked = super::admit::check_agent_id(agent).map_err(Outcome::Refused);
            checked?;
            match take(&window, &raw) {
                Ok(point) => batch_of(&mut batches, agent, report).points.push(point),
                Err(reason) => left_out.add(reason),
            }
        }
        batches.retain(|batch| !batch.points.is_empty());
        Ok(self.submit(batches, left_out, report.len()))
    }

    /// Queues what was taken of a report of `of` points.
    pub fn submit(&self, mut batches: Vec<Batch>, left_out: LeftOut, of: usize) -> Decision {
        self.metrics.leave_out(&left_out);
        let message = left_out.message(of);
        let Some(last) = batches.pop() else {
            return Decision::Now(Outcome::Stored(message));
        };
        let (answer, answered) = oneshot::channel();
        let metrics = self.metrics.clone();
        let tell = move |result: Result<Stored, StorageError>| {
            let outcome = outcome(result, message);
            metrics.count(&outcome);
            // A caller that has gone away misses nothing: the batch is stored all the same.
            let _ = answer.send(outcome);
        };
        if batches.is_empty() {
            let metrics = self.metrics.clone();
            let ack = Box::new(move |result: Result<Stored, StorageError>| {
                metrics.stored(&result);
                tell(result);
            });
            return match self.store.submit(last, ack) {
                Ok(()) => Decision::Later(answered),
                Err(refused) => Decision::Now(refusal(&refused)),
            };
        }
        batches.push(last);
        let join = Join::new(batches.len(), Box::new(tell));
        for batch in batches {
            let (join, metrics) = (Arc::clone(&join), self.metrics.clone());
            let ack: Ack = Box::new(move |result| {
                metrics.stored(&result);
                join.done(result);
            });
            if let Err(refused) = self.store.submit(batch, ack) {
                // What went before may be stored: it comes again with the rest, and stands once.
                return Decision::Now(refusal(&refused));
            }
        }
        Decision::Later(answered)
    }
}

/// Waits for several acknowledgements, and tells the first failure or the sum.
struct Join {
    open: AtomicUsize,
    state: Mutex<(Option<Ack>, Result<Stored, StorageError>)>,
}

impl Join {
    fn new(open: usize, tell: Ack) -> Arc<Self> {
        let state = Mutex::new((Some(tell), Ok(Stored::default())));
        Arc::new(Self { open: AtomicUsize::new(open), state })
    }

    fn done(&self, result: Result<Stored, StorageError>) {
        let told = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut state.1, result) {
                (Ok(sum), Ok(stored)) => {
                    sum.new += stored.new;
                    sum.known += stored.known;
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

fn empty_batch(agent: &str, report: &Report) -> Batch {
    let points = Vec::with_capacity(report.len());
    Batch { agent_id: agent.into(), timestamp_ms: report.timestamp_ms(), points }
}

/// The batch of an agent. Nearly always the first one: only a relay without a token of its own
/// speaks for several agents at once.
fn batch_of<'a>(batches: &'a mut Vec<Batch>, agent: &str, report: &Report) -> &'a mut Batch {
    let at = batches.iter().position(|batch| *batch.agent_id == *agent);
    let at = at.unwrap_or_else(|| {
        let points = Vec::new();
        let timestamp_ms = report.timestamp_ms();
        batches.push(Batch { agent_id: agent.into(), timestamp_ms, points });
        batches.len() - 1
    });
    &mut batches[at]
}

fn take(window: &Window, raw: &RawPoint<'_>) -> Result<Point, super::admit::Reason> {
    window.check(raw.timestamp_ms(), raw.value())?;
    check_series(raw.metric(), raw.labels())?;
    let labels =
        if raw.labels().len() == 0 { Labels::none() } else { Labels::from_pairs(raw.labels()) };
    Ok(Point {
        metric: raw.metric().into(),
        labels,
        timestamp_ms: raw.timestamp_ms(),
        value: raw.value(),
    })
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
