//! Evaluating the expressions of `promql` rules: one thread of its own, off ingest and off the
//! workers, which only hold its results against the alerts that there are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::Registry;

use crate::base::clock::MINUTE_MS;
use crate::base::limits::{
    PROMQL_MEMORY_BYTES_MAX, PROMQL_RULE_SECS_MAX, PROMQL_RULE_SERIES_MAX, PROMQL_SAMPLES_MAX,
    PROMQL_SERIES_MAX, PROMQL_SUBQUERY_STEPS_MAX,
};
use crate::model::series::{Labels, SeriesKey};
use crate::rt::stop::Stop;
use crate::rt::thread;
use crate::server::alert::evaluate::promql::{QUERY_AGENT, RuleQuery};
use crate::server::alert::results::Answer;
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::worker::{Job, PoolSlot, Shared, shard_key};
use crate::server::promql::eval::{LOOKBACK_MS, Steps};
use crate::server::promql::labels::NAME;
use crate::server::promql::store::StoreSource;
use crate::server::promql::value::is_absent;
use crate::server::promql::{Instant as Found, LabelSet, Limits, Query};
use crate::server::storage::Store;

/// How often rules are looked for that are due.
const TICK: Duration = Duration::from_secs(1);
/// After a stop of more than this, agents get as long to report again before a rule is evaluated:
/// what is missing until then has not recovered.
const QUIET_MS: i64 = MINUTE_MS;

/// How the last evaluation of a rule went.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// When it was, Unix milliseconds.
    pub at_ms: i64,
    /// How long it took.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<String>,
}

/// Which rules are due. Pure: the time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// By rule, the version that was evaluated last, and the time that it was evaluated for.
    last: HashMap<String, (Arc<Rule>, i64)>,
    /// Nothing is due before, Unix milliseconds.
    quiet_until_ms: i64,
}

impl Schedule {
    /// A schedule of a process that starts now, when the last one had evaluated everything until
    /// `evaluated_ms`.
    pub(crate) fn new(evaluated_ms: Option<i64>, now_ms: i64) -> Self {
        let away_ms = evaluated_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
        let quiet_until_ms = if away_ms > QUIET_MS { now_ms.saturating_add(QUIET_MS) } else { 0 };
        Self { last: HashMap::new(), quiet_until_ms }
    }

    /// The rules that are due, each with the time to evaluate it for: now where it is new, the
    /// last multiple of its interval otherwise, so that a backtest sees the same.
    pub(crate) fn due(&mut self, rules: &RuleSet, now_ms: i64) -> Vec<(Arc<Rule>, i64)> {
        if now_ms < self.quiet_until_ms {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut seen = HashSet::new();
        for rule in rules.enabled() {
            let Some(query) = rule.evaluator.query() else { continue };
            seen.insert(rule.id.as_str());
            let interval_ms = interval_ms(query);
            let multiple_ms = now_ms.div_euclid(interval_ms) * interval_ms;
            let at_ms = match self.last.get(&rule.id) {
                Some((known, last_ms)) if known.evaluates_like(rule) => {
                    // A time that is to come is that of a clock which has been put back.
                    let is_due = multiple_ms > *last_ms || *last_ms > now_ms + interval_ms;
                    if is_due { multiple_ms } else { continue }
                }
                _ => now_ms,
            };
            self.last.insert(rule.id.clone(), (Arc::clone(rule), at_ms));
            due.push((Arc::clone(rule), at_ms));
        }
        self.last.retain(|id, _| seen.contains(id.as_str()));
        due
    }
}

/// Between two evaluations of a rule, milliseconds.
pub(crate) fn interval_ms(query: &RuleQuery) -> i64 {
    i64::try_from(query.interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Evaluates the expressions of rules.
pub(crate) struct Queries {
    store: Arc<dyn Store>,
    registry: Registry,
    agent_label: String,
    schedule: Mutex<Schedule>,
    health: Mutex<HashMap<String, Health>>,
}

impl Queries {
    /// Over this store; `registry` has the server's own figures, whose names are theirs.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        registry: &Registry,
        agent_label: &str,
        schedule: Schedule,
    ) -> Self {
        Self {
            store,
            registry: registry.clone(),
            agent_label: agent_label.to_owned(),
            schedule: Mutex::new(schedule),
            health: Mutex::default(),
        }
    }

    /// The store's series under their names of now.
    pub(crate) fn names(&self) -> Named<'_> {
        let source = StoreSource::open(&*self.store, &self.registry, &self.agent_label);
        let own = source.names.iter().filter(|(named, _)| !named.shared);
        let metrics = own.map(|(named, metric)| (named.name.to_string(), metric.to_owned()));
        let metrics = metrics.collect();
        Named { source, metrics }
    }

    /// How the last evaluation of a rule went; `None` before the first.
    pub(crate) fn health(&self, rule_id: &str) -> Option<Health> {
        self.health.lock().get(rule_id).cloned()
    }

    /// Evaluates the rules that are due and gives each shard its part of the results.
    pub(crate) fn round(&self, shared: &Shared, pool: &PoolSlot, stop: &Stop) {
        let rules = shared.rules();
        let due = self.schedule.lock().due(&rules, shared.clock.now_ms());
        if due.is_empty() {
            return;
        }
        self.health.lock().retain(|id, _| rules.get(id).is_some());
        let names = self.names();
        for (rule, at_ms) in due {
            let Some(pool) = pool.lock().clone() else { return };
            let began = Instant::now();
            let result = names.evaluate(&rule, at_ms, &|| stop.is_stopped());
            if stop.is_stopped() {
                return;
            }
            let took = began.elapsed();
            shared.metrics.query.observe(took.as_secs_f64());
            let error = result.as_ref().err().cloned();
            self.note(shared, &rule, Health { at_ms, took, error });
            let Ok(series) = result else { continue };
            let mut parts: Vec<Vec<(SeriesKey, f64)>> = vec![Vec::new(); pool.shards()];
            let count = parts.len() as u64;
            for one in series {
                parts[(shard_key(&one.0.agent) % count) as usize].push(one);
            }
            for (index, series) in parts.into_iter().enumerate() {
                let answer = Answer { rule: Arc::clone(&rule), at_ms, series };
                pool.put(index as u64, Job::Result(answer));
            }
        }
    }

    fn note(&self, shared: &Shared, rule: &Rule, health: Health) {
        let (name, error) = (&rule.draft.name, health.error.clone());
        let before = self.health.lock().insert(rule.id.clone(), health);
        let before = before.and_then(|health| health.error);
        if error.is_some() {
            shared.metrics.query_failures.inc();
        }
        match error {
            Some(error) if before.as_ref() != Some(&error) => {
                log::warn!(
                    "failed to evaluate the rule {name}: {error}; its alerts stay as they are"
                );
            }
            None if before.is_some() => log::info!("the rule {name} is evaluated again"),
            _ => {}
        }
    }
}

/// The store under the names of one moment.
pub(crate) struct Named<'a> {
    source: StoreSource<'a>,
    /// Metrics by their names in PromQL.
    metrics: HashMap<String, String>,
}

impl Named<'_> {
    fn query<'q>(&'q self, canceled: &'q dyn Fn() -> bool, secs: u64) -> Query<'q> {
        let limits = Limits {
            samples: PROMQL_SAMPLES_MAX,
            series: PROMQL_SERIES_MAX,
            bytes: PROMQL_MEMORY_BYTES_MAX,
            subquery_steps: PROMQL_SUBQUERY_STEPS_MAX,
            time: Duration::from_secs(secs),
        };
        Query { source: &self.source, limits, lookback_ms: LOOKBACK_MS, canceled }
    }

    /// The series of a rule's expression at one time, of the agents that it is about.
    fn evaluate(
        &self,
        rule: &Rule,
        at_ms: i64,
        canceled: &dyn Fn() -> bool,
    ) -> Result<Vec<(SeriesKey, f64)>, String> {
        let Some(query) = rule.evaluator.query() else { return Ok(Vec::new()) };
        let found = self.query(canceled, PROMQL_RULE_SECS_MAX).instant(&query.expr, at_ms);
        let Found::Vector(found) = found.map_err(|error| error.to_string())? else {
            return Err("the expression gives no instant vector".to_owned());
        };
        check_count(found.len())?;
        let mut keys = HashSet::new();
        let mut out = Vec::with_capacity(found.len());
        for (labels, value) in found {
            let key = self.key(query, &labels, value);
            if !rule.wants(&key) {
                continue;
            }
            if !keys.insert(key.clone()) {
                return Err(format!("two series have the labels {{{}}}", key.labels));
            }
            out.push((key, value));
        }
        Ok(out)
    }

    /// The values of a rule's expression at each step, by series; absent where it has none.
    ///
    /// # Errors
    ///
    /// As [`Query::range`] says, or that there are too many series.
    pub(crate) fn over_time(
        &self,
        rule: &Rule,
        steps: Steps,
        secs: u64,
    ) -> Result<Vec<(SeriesKey, Vec<f64>)>, String> {
        let Some(query) = rule.evaluator.query() else { return Ok(Vec::new()) };
        let found = self.query(&|| false, secs).range(
            &query.expr,
            steps,
            steps.time(steps.count.saturating_sub(1)),
        );
        let rows = found.map_err(|error| error.to_string())?.rows;
        check_count(rows.len())?;
        let rows = rows.into_iter().map(|row| {
            let value = row.values.iter().copied().find(|value| !is_absent(*value));
            (self.key(query, &row.labels, value.unwrap_or(f64::NAN)), row.values)
        });
        Ok(rows.filter(|(key, _)| rule.wants(key)).collect())
    }

    /// The series that an alert is about. Labels of the rule stand before those of the result.
    fn key(&self, query: &RuleQuery, labels: &LabelSet, value: f64) -> SeriesKey {
        let agent_label = self.source.names.agent_label();
        let name = labels.get(NAME);
        let metric = self.metrics.get(name).map_or(name, String::as_str);
        let agent = labels.get(agent_label);
        let lookup = |name: &str| match name {
            "" => {
                let pairs = labels.iter().filter(|(name, _)| *name != NAME);
                let pairs: Vec<String> =
                    pairs.map(|(name, value)| format!("{name}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            name => labels.get(name).to_owned(),
        };
        let own = labels.iter().filter(|(name, _)| *name != NAME && *name != agent_label);
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let added = query.labels.iter();
        let added = added.map(|(name, text)| (name.clone(), text.render(&lookup, value)));
        SeriesKey {
            agent: if agent.is_empty() { QUERY_AGENT } else { agent }.into(),
            metric: if metric.is_empty() { "*" } else { metric }.into(),
            labels: Labels::from_pairs(own.chain(added)),
        }
    }
}

fn check_count(count: usize) -> Result<(), String> {
    if count <= PROMQL_RULE_SERIES_MAX {
        return Ok(());
    }
    Err(format!(
        "the expression gives {count} series, and at most {PROMQL_RULE_SERIES_MAX} are \
                 taken: aggregate, or narrow its selectors"
    ))
}

/// The thread that evaluates.
pub(crate) fn evaluator(
    queries: Arc<Queries>,
    shared: Arc<Shared>,
    pool: Arc<PoolSlot>,
    stop: Stop,
) -> JoinHandle<()> {
    thread::spawn("alert-promql", move || {
        while !stop.wait(TICK) {
            queries.round(&shared, &pool, &stop);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
