//! From a report to the store: authentication, admission, and the acknowledgement after the commit.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_channel::oneshot;

use super::admit::{AcceptedTimes, Reason, Rejected, check_batch};
use super::auth::{Whitelist, WhitelistError, hash};
use super::decode::{RawPoint, Report};
use super::hosts::Hosts;
use super::metrics::Metrics;
use super::outcome::{Decision, Outcome};
use super::senders::{Identity, Senders, Times};
use super::series_lists::{self, SeriesLists};
use crate::base::clock::{Clock, DAY_MS, HOUR_MS, MINUTE_MS};
use crate::model::agent_id::check_agent_id;
use crate::model::series::Labels;
use crate::server::config::ServerConfig;
use crate::server::control::whitelist::TokenHash;
use crate::server::storage::{AgentSamples, SampleSet, Series, StorageError, Store, Stored};

/// The caller, by its metadata.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    agent_id: String,
    token_hash: Option<TokenHash>,
    identity: Identity,
}

impl Caller {
    /// A caller by the values of `agent-id` and `authorization`.
    pub(crate) fn new(agent_id: &str, authorization: &str) -> Self {
        let token = authorization.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let token = token.and_then(|_| authorization.get(7..)).map(str::trim);
        let token_hash = token.map(hash);
        Self { agent_id: agent_id.to_owned(), token_hash, identity: Identity::default() }
    }

    /// The same caller, with what it says of its process.
    pub(crate) fn with_identity(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }
}

/// Redeems a code of an agent, which calls from an address, at another server; `None` where this
/// one does it.
pub(crate) type RedeemElsewhere =
    Box<dyn Fn(&str, &str, Option<IpAddr>) -> Option<Result<String, WhitelistError>> + Send + Sync>;

/// Takes reports. One for the process.
pub(crate) struct Intake {
    /// Agents and their tokens.
    pub(crate) whitelist: Arc<Whitelist>,
    /// The metrics of ingest.
    pub(crate) metrics: Arc<Metrics>,
    /// What agents say of their hosts; `None` where nobody keeps it.
    pub(crate) hosts: Option<Hosts>,
    /// Redeems codes at the server that is home; `None` where there is one server.
    pub(crate) elsewhere: Option<RedeemElsewhere>,
    series_lists: SeriesLists,
    senders: Arc<Senders>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    require_auth: bool,
    retention_ms: i64,
    stopping: AtomicBool,
}

impl Intake {
    /// An intake into `store`.
    pub(crate) fn new(
        config: &ServerConfig,
        whitelist: Arc<Whitelist>,
        senders: Arc<Senders>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            whitelist,
            metrics: Arc::new(Metrics::register(registry)?),
            hosts: None,
            elsewhere: None,
            series_lists: SeriesLists::default(),
            senders,
            store,
            clock,
            require_auth: config.require_agent_auth,
            retention_ms: i64::from(config.retention_days) * DAY_MS,
            stopping: AtomicBool::new(false),
        })
    }

    /// The same intake, which keeps what agents say of their hosts.
    pub(crate) fn with_hosts(self, hosts: Hosts) -> Self {
        Self { hosts: Some(hosts), ..self }
    }

    /// The same intake, which has codes redeemed by another server where that one is home.
    pub(crate) fn with_elsewhere(self, redeem: RedeemElsewhere) -> Self {
        Self { elsewhere: Some(redeem), ..self }
    }

    /// Exchanges a code for a token of an agent, here or at the server that is home.
    ///
    /// # Errors
    ///
    /// As [`Whitelist::redeem`], or when the home is away.
    pub(crate) fn redeem(
        &self,
        code: &str,
        agent_id: &str,
        from: Option<IpAddr>,
    ) -> Result<String, WhitelistError> {
        let elsewhere = self.elsewhere.as_ref().and_then(|redeem| redeem(code, agent_id, from));
        elsewhere.unwrap_or_else(|| self.whitelist.redeem(code, agent_id, from))
    }

    /// Notes which process a stored report of `agent` came from, and what it says of times.
    pub(crate) fn note(&self, caller: &Caller, agent: &str, times: Times) {
        if !agent.is_empty() {
            self.senders.note(agent, &caller.identity, times, self.clock.now_ms());
        }
    }

    /// Refuses the second of two processes that report with one id, where that is configured.
    ///
    /// # Errors
    ///
    /// `Denied`, with the message for the caller.
    pub(crate) fn check_twin(&self, caller: &Caller, agent: &str) -> Result<(), Outcome> {
        self.senders.admit(agent, &caller.identity).map_err(Outcome::Denied)
    }

    /// Refuses every report from now on.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether reports are taken.
    pub(crate) fn is_serving(&self) -> bool {
        !self.stopping.load(Ordering::SeqCst)
    }

    /// Whether a token is required.
    pub(crate) fn requires_auth(&self) -> bool {
        self.require_auth
    }

    /// The range of times that is accepted now.
    pub(crate) fn accepted_times(&self) -> AcceptedTimes {
        AcceptedTimes::at(self.clock.possible_ms(), self.retention_ms)
    }

    /// Checks a caller before its message is read; a refusal is counted.
    ///
    /// # Errors
    ///
    /// `Unavailable` while the server stops, or `Unauthenticated`.
    pub(crate) fn admit_caller(&self, caller: &Caller) -> Result<(), Outcome> {
        let checked =
            if self.is_serving() { self.authenticate(caller) } else { Err(Outcome::stopping()) };
        checked.inspect_err(|outcome| self.metrics.count(outcome))
    }

    /// Checks the caller's token, where one is required.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`, with the message for the caller.
    pub(crate) fn authenticate(&self, caller: &Caller) -> Result<(), Outcome> {
        if !self.require_auth {
            return Ok(());
        }
        let message = match &caller.token_hash {
            None => "token required: send authorization: Bearer TOKEN and agent-id: ID",
            Some(hash) if self.whitelist.allows_hash(&caller.agent_id, hash) => return Ok(()),
            Some(_) => "the token does not belong to this agent; check the whitelist",
        };
        Err(Outcome::Unauthenticated(message.to_owned()))
    }

    /// Checks that an authenticated caller may report for `agent_id`.
    ///
    /// # Errors
    ///
    /// `Denied`, with the message for the caller.
    pub(crate) fn authorize(&self, caller: &Caller, agent_id: &str) -> Result<(), Outcome> {
        if !self.require_auth || agent_id == caller.agent_id {
            return Ok(());
        }
        let shown: String = agent_id.chars().take(64).collect();
        Err(Outcome::Denied(format!("this token may not report as `{shown}`")))
    }

    /// Checks that samples of an agent can be stored.
    ///
    /// # Errors
    ///
    /// `Busy`, with the message for the agent, which keeps its samples: some day there may be room.
    pub(crate) fn admit_agent(&self, agent_id: &str) -> Result<(), Outcome> {
        let admitted = self.store.admit_agent(agent_id);
        admitted.map_err(|error| Outcome::Busy(error.to_string()))
    }

    /// Authenticates and admits a report, and queues what is valid.
    /// One without points is taken where it says something of the host.
    pub(crate) fn report(&self, caller: &Caller, report: &Report) -> Decision {
        let decision = self.decide(caller, report).unwrap_or_else(Decision::Now);
        if let Decision::Now(outcome) = &decision {
            self.metrics.count(outcome);
        }
        decision
    }

    fn decide(&self, caller: &Caller, report: &Report) -> Result<Decision, Outcome> {
        self.authenticate(caller)?;
        if report.len() == 0 && report.has_host() {
            check_agent_id(report.agent()).map_err(Outcome::Refused)?;
            self.authorize(caller, report.agent())?;
            self.check_twin(caller, report.agent())?;
            return Ok(Decision::Now(Outcome::Stored(String::new())));
        }
        check_batch(report.agent(), report.len()).map_err(Outcome::Refused)?;
        self.authorize(caller, report.agent())?;
        self.check_twin(caller, report.agent())?;
        if !report.is_of_one_agent() {
            return self.decide_relayed(caller, report);
        }
        self.admit_agent(report.agent())?;
        let mut rejected = Rejected::default();
        let points: Vec<RawPoint<'_>> = report.points().collect();
        let sets = self.sample_sets(report.agent(), &points, &mut rejected);
        let admitted = AgentSamples { agent: report.agent().into(), sets };
        Ok(self.submit(vec![admitted], rejected, report.len()))
    }

    /// Without authentication, one report may hold points of several agents.
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
        let mut rejected = Rejected::default();
        let admitted = by_agent
            .into_iter()
            .filter_map(|(agent, points)| {
                if self.admit_agent(agent).is_err() {
                    rejected.add_many(Reason::Agents, points.len());
                    return None;
                }
                let sets = self.sample_sets(agent, &points, &mut rejected);
                Some(AgentSamples { agent: agent.into(), sets })
            })
            .collect();
        Ok(self.submit(admitted, rejected, report.len()))
    }

    fn sample_sets(
        &self,
        agent: &str,
        points: &[RawPoint<'_>],
        rejected: &mut Rejected,
    ) -> Vec<SampleSet> {
        let times = self.accepted_times();
        let resolver = self.series_lists.of(&*self.store, agent, self.clock.now_ms());
        points
            .chunk_by(|a, b| a.timestamp_ms() == b.timestamp_ms())
            .filter_map(|run| resolver.sample_set(run, &times, rejected))
            .collect()
    }

    /// The series of an agent with this name and these labels.
    ///
    /// # Errors
    ///
    /// Why its points are rejected.
    pub(crate) fn resolve(
        &self,
        agent: &str,
        metric: Arc<str>,
        labels: Labels,
    ) -> Result<Arc<Series>, Reason> {
        series_lists::resolve(&*self.store, agent, metric, labels)
    }

    /// Forgets the series lists of agents that no longer report, and the hosts of those of which
    /// nothing is stored any more. Called about once a minute.
    pub(crate) fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        self.series_lists.sweep(now_ms);
        let Some(hosts) = &self.hosts else { return };
        if now_ms.rem_euclid(HOUR_MS) >= MINUTE_MS {
            return;
        }
        match self.store.agents_seen() {
            Ok(seen) => {
                let known: HashSet<String> = seen.into_iter().map(|agent| agent.agent_id).collect();
                hosts.forget_others(known);
            }
            Err(error) => log::warn!("failed to read the agents: {error}"),
        }
    }

    /// Reports that wait for the store now, and reports that it has answered since the start.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let answered = self.metrics.answered.get();
        let queued = self.metrics.queued.get();
        (queued.saturating_sub(answered), answered)
    }

    /// Queues what was admitted of a report of `of` points.
    pub(crate) fn submit(
        &self,
        mut admitted: Vec<AgentSamples>,
        rejected: Rejected,
        of: usize,
    ) -> Decision {
        admitted.retain(|part| !part.sets.is_empty());
        if admitted.is_empty() {
            self.metrics.reject(&rejected);
            return Decision::Now(Outcome::Stored(rejected.message(of)));
        }
        let (answer, answered) = oneshot::channel();
        let metrics = self.metrics.clone();
        let pending = Pending { answer, metrics, rejected, of, since: Instant::now() };
        self.metrics.queued.inc();
        let ack = Box::new(move |result| pending.complete(result));
        if let Err(refused) = self.store.submit(admitted, ack) {
            self.metrics.answered.inc();
            return Decision::Now(Outcome::from(&refused));
        }
        Decision::Later(answered)
    }
}

/// A report whose outcome is pending.
struct Pending {
    answer: oneshot::Sender<Outcome>,
    metrics: Arc<Metrics>,
    rejected: Rejected,
    of: usize,
    since: Instant,
}

impl Pending {
    fn complete(mut self, result: Result<Stored, StorageError>) {
        if let Ok(stored) = &result {
            self.rejected.add_many(Reason::NoRoom, stored.rejected);
            self.metrics.stored(stored);
            self.metrics.reject(&self.rejected);
        }
        let outcome = Outcome::of_store(result, self.rejected.message(self.of));
        self.metrics.answered.inc();
        self.metrics.count(&outcome);
        self.metrics.seconds.observe(self.since.elapsed().as_secs_f64());
        // A caller that has gone away misses only the answer.
        let _ = self.answer.send(outcome);
    }
}
