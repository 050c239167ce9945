//! Rules and alerts as people manage them. Every change goes through here: it is written, and then
//! in force in all workers before the caller has its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;
use serde_json::{Map, Value};

use crate::base::clock::SECOND_MS;
use crate::base::ids::new_id;
use crate::base::limits::RULES_MAX;
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::rt::pool::Pool;
use crate::server::alert::fields::FieldError;
use crate::server::alert::history::Warm;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::alert::ruleset::{RuleSet, file_rules};
use crate::server::alert::shard::Act;
use crate::server::alert::worker::{Job, shard_key};
use crate::server::alert::{Alerts, announce, rule_fatal};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::alerts::{self as tables, RuleRow};
use crate::server::control::profiles::AgentPattern;
use crate::server::storage::{EventFilter, Page, StorageError};

/// Why a rule or an alert can't be what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// A field can't be what it is.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// There is no such rule or alert.
    #[error("{0} `{1}` not found")]
    NotFound(&'static str, String),
    /// The name is taken, or the state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The request asks for too much.
    #[error("{0}")]
    TooMuch(String),
    /// The storage failed.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for AlertError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// The rules of the API. One that can't work is left out, and the log says so.
pub(crate) fn stored_rules(control: &Control) -> Result<Vec<Arc<Rule>>, StorageError> {
    let rows = control.read(|db| -> Result<_, StorageError> { Ok(tables::rules(db)?) })?;
    let rules = rows.into_iter().filter_map(|row| {
        let (id, name) = (row.id.clone(), row.name.clone());
        match from_row(row) {
            Ok(rule) => Some(Arc::new(rule)),
            Err(error) => {
                log::error!("the stored rule `{name}` ({id}) is not in force: {error}");
                None
            }
        }
    });
    Ok(rules.collect())
}

fn from_row(row: RuleRow) -> Result<Rule, FieldError> {
    let config: Map<String, Value> = serde_json::from_str(&row.config_json)
        .map_err(|error| FieldError::new("config_json", error.to_string()))?;
    let severity: Result<Severity, String> = row.severity.parse();
    let draft = Draft {
        name: row.name,
        rule_type: row.rule_type,
        metric: row.metric,
        agent_pattern: row.agent_pattern,
        severity: severity.map_err(|why| FieldError::new("severity", why))?,
        enabled: row.enabled,
        config,
        silence_secs: u64::try_from(row.silence_secs).unwrap_or(0),
    };
    Rule::build(row.id, draft, Origin::Api, (row.created_at, row.updated_at))
}

/// A rule's row.
pub(crate) fn to_row(rule: &Rule) -> RuleRow {
    let draft = &rule.draft;
    RuleRow {
        id: rule.id.clone(),
        name: draft.name.clone(),
        rule_type: draft.rule_type.clone(),
        metric: draft.metric.clone(),
        agent_pattern: draft.agent_pattern.clone(),
        severity: draft.severity.name().to_owned(),
        enabled: draft.enabled,
        config_json: rule.config_json(),
        silence_secs: i64::try_from(draft.silence_secs).unwrap_or(i64::MAX),
        created_at: rule.created_at,
        updated_at: rule.updated_at,
    }
}

impl Alerts {
    /// The rule with this id or name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn rule(&self, key: &str) -> Result<Arc<Rule>, AlertError> {
        let rules = self.rules();
        let found = rules.get(key).or_else(|| rules.named(key));
        found.cloned().ok_or_else(|| AlertError::NotFound("rule", key.to_owned()))
    }

    /// Makes a rule from a request's body.
    ///
    /// # Errors
    ///
    /// When a field can't be, or the name is taken.
    pub fn create_rule(&self, body: &Map<String, Value>) -> Result<Arc<Rule>, AlertError> {
        let now_secs = self.now_secs();
        let draft = Draft::from_map(body)?;
        let rule = Rule::build(new_id(), draft, Origin::Api, (now_secs, now_secs))?;
        if self.rules().all().len() >= RULES_MAX {
            let message = format!("there are {RULES_MAX} rules, which is the limit");
            return Err(AlertError::Conflict(message));
        }
        self.save(rule)
    }

    /// Changes the fields of a rule that `body` names.
    ///
    /// # Errors
    ///
    /// When there is none, it is in the file, a field can't be, or the name is taken.
    pub fn update_rule(
        &self,
        key: &str,
        body: &Map<String, Value>,
    ) -> Result<Arc<Rule>, AlertError> {
        let old = self.changeable(key)?;
        let draft = old.draft.changed(body)?;
        let times = (old.created_at, self.now_secs());
        self.save(Rule::build(old.id.clone(), draft, Origin::Api, times)?)
    }

    /// Removes a rule; its alerts end quietly.
    ///
    /// # Errors
    ///
    /// When there is none, or it is in the file.
    pub fn delete_rule(&self, key: &str) -> Result<Arc<Rule>, AlertError> {
        let rule = self.changeable(key)?;
        let id = rule.id.clone();
        let gone = self
            .shared
            .control
            .write(move |tx| -> Result<_, StorageError> { Ok(tables::drop_rule(tx, &id)?) })?;
        if !gone {
            return Err(AlertError::NotFound("rule", key.to_owned()));
        }
        self.publish(&[])?;
        Ok(rule)
    }

    fn changeable(&self, key: &str) -> Result<Arc<Rule>, AlertError> {
        let rule = self.rule(key)?;
        if rule.origin == Origin::File {
            return Err(AlertError::Conflict(format!(
                "the rule `{}` is in the server's configuration file: change it there and \
                 reload the server (SIGHUP)",
                rule.draft.name
            )));
        }
        Ok(rule)
    }

    fn save(&self, rule: Rule) -> Result<Arc<Rule>, AlertError> {
        let name = rule.draft.name.clone();
        let taken = |name: &str| AlertError::Conflict(format!("there is a rule `{name}` already"));
        if self.file_rules.lock().iter().any(|other| other.draft.name == name) {
            return Err(taken(&name));
        }
        let row = to_row(&rule);
        self.shared.control.write(move |tx| -> Result<(), AlertError> {
            if tables::name_taken(tx, &row.name, &row.id)? {
                let message = format!("there is a rule `{}` already", row.name);
                return Err(AlertError::Conflict(message));
            }
            Ok(tables::put_rule(tx, &row)?)
        })?;
        let rule = Arc::new(rule);
        self.publish(std::slice::from_ref(&rule))?;
        Ok(rule)
    }

    /// Takes the rules of a configuration that was read again. Alerts of rules that evaluate as
    /// before go on.
    ///
    /// # Errors
    ///
    /// When a rule can't work or `cert.db` can't be read; the rules stay what they were then.
    pub fn reload_file_rules(&self, config: &ServerConfig) -> Result<(), AlertError> {
        let read = file_rules(&config.alert.rules, self.now_secs());
        let mut rules =
            read.map_err(|(index, error)| AlertError::Conflict(rule_fatal(index, &error).message))?;
        let new = {
            let mut current = self.file_rules.lock();
            for rule in &mut rules {
                // What has not changed keeps its times.
                if let Some(same) = current.iter().find(|old| old.draft == rule.draft) {
                    *rule = Arc::clone(same);
                }
            }
            let known = |rule: &&Arc<Rule>| !current.iter().any(|old| Arc::ptr_eq(old, rule));
            let new: Vec<Arc<Rule>> = rules.iter().filter(known).cloned().collect();
            *current = rules;
            new
        };
        self.publish(&new)
    }

    /// Puts the stored rules in force as they are now; windows of those with these ids are filled
    /// from history.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read; the rules stay what they were then.
    pub(crate) fn take_stored(&self, changed: &[String]) -> Result<(), AlertError> {
        let mut rules = stored_rules(&self.shared.control)?;
        rules.retain(|rule| changed.contains(&rule.id));
        self.publish(&rules)
    }

    /// Puts rules whose hosts are named by tag in force again, after tags have changed.
    ///
    /// # Errors
    ///
    /// When a rule can't be built or `cert.db` can't be read; the rules stay what they were then.
    pub(crate) fn retag(&self) -> Result<(), AlertError> {
        let by_tag = |rule: &Arc<Rule>| AgentPattern::is_by_tag(&rule.draft.agent_pattern);
        for rule in self.file_rules.lock().iter_mut().filter(|rule| by_tag(rule)) {
            let times = (rule.created_at, rule.updated_at);
            let built = Rule::build(rule.id.clone(), rule.draft.clone(), rule.origin, times)?;
            *rule = Arc::new(built);
        }
        self.publish(&[])
    }

    /// Puts the rules as they are written in force. `new` are those whose windows history fills.
    fn publish(&self, new: &[Arc<Rule>]) -> Result<(), AlertError> {
        let mut change = self.next_change();
        loop {
            let api = stored_rules(&self.shared.control)?;
            let rules = RuleSet::new(&self.file_rules.lock().clone(), api);
            if self.shared.put_rules(rules, || self.changes.load(Ordering::SeqCst) == change) {
                break;
            }
            // Another change came between; whoever reads last puts both in force.
            change = self.changes.load(Ordering::SeqCst);
        }
        let enabled: Vec<Arc<Rule>> =
            new.iter().filter(|rule| rule.draft.enabled).cloned().collect();
        let now_ms = self.shared.clock.now_ms();
        let warm = Arc::new(Warm::read(self.shared.store.as_ref(), &enabled, now_ms));
        if let Some(pool) = self.pool() {
            announce(&pool, &warm);
        }
        Ok(())
    }

    /// Somebody does something about the alert that the event with this id began.
    ///
    /// # Errors
    ///
    /// When there is no such event, or its alert has ended.
    pub fn act(&self, event_id: &str, act: &Act) -> Result<AlertEvent, AlertError> {
        let event = self.event(event_id)?;
        if let Some(pool) = self.pool() {
            let (reply, answer) = bounded(1);
            let job = Job::Act { event_id: event_id.to_owned(), act: act.clone(), reply };
            pool.put(shard_key(&event.agent_id), job);
            if let Ok(Some(event)) = answer.recv() {
                // The journal's copy follows in any case; whoever asks for the history next shall
                // see it there.
                if let Err(error) = self.shared.store.put_event(&event) {
                    log::warn!("alert event {event_id} waits for its day file: {error}");
                }
                return Ok(event);
            }
        }
        if event.status == AlertStatus::Resolved {
            return match act {
                Act::Resolve { .. } => Ok(event),
                Act::End { .. } => Ok(event),
                Act::Acknowledge => Err(AlertError::Conflict("the alert is resolved".to_owned())),
            };
        }
        self.change_event(event, act)
    }

    /// Changes an event whose alert no worker knows: history says that it fires, nothing else.
    fn change_event(&self, mut event: AlertEvent, act: &Act) -> Result<AlertEvent, AlertError> {
        match act {
            Act::Acknowledge => event.status = AlertStatus::Acknowledged,
            Act::Resolve { .. } | Act::End { .. } => {
                event.status = AlertStatus::Resolved;
                let now_ms = self.shared.clock.now_ms();
                event.resolved_at_ms = Some(now_ms.max(event.timestamp_ms + 1));
            }
        }
        let (id, text) = (event.id.clone(), event.to_json());
        self.shared.control.write(move |tx| -> Result<(), StorageError> {
            Ok(tables::put_journal(tx, &id, &text)?)
        })?;
        // A full channel says the same.
        let _ = self.shared.copy.try_send(());
        Ok(event)
    }

    /// Takes how far an agent's clock is ahead of the server's, milliseconds, for the messages of
    /// its absence; `None`: they agree.
    pub(crate) fn note_skew(&self, agent: &str, ahead_ms: Option<i64>) {
        let mut skews = self.shared.skews.lock();
        match ahead_ms {
            Some(ahead_ms) => drop(skews.insert(agent.into(), ahead_ms)),
            None => drop(skews.remove(agent)),
        }
    }

    /// Takes what the newest check of a certificate found wrong, for the messages of its alerts;
    /// `None`: nothing.
    pub fn explain(&self, labels: &Labels, reason: Option<&str>) {
        let mut reasons = self.shared.reasons.lock();
        match reason {
            Some(reason) => drop(reasons.insert(labels.clone(), reason.to_owned())),
            None => drop(reasons.remove(labels)),
        }
    }

    /// Ends every alert of an agent that was removed, or of which nothing is stored any more, and
    /// stops missing it until it reports again. `reason` ends the sentence of each alert, as in
    /// "agent removed". Gives how many alerts fired.
    pub fn end_agent(&self, agent: &str, reason: &str) -> usize {
        let Some(pool) = self.pool() else { return 0 };
        end_agent(&pool, agent, reason)
    }

    /// The event with this id, as it is now.
    ///
    /// # Errors
    ///
    /// When there is none, or the storage fails.
    pub fn event(&self, id: &str) -> Result<AlertEvent, AlertError> {
        let waiting = self
            .shared
            .control
            .read(|db| -> Result<_, StorageError> { Ok(tables::journalled(db, id)?) })?;
        if let Some(event) = waiting.as_deref().and_then(AlertEvent::from_json) {
            return Ok(event);
        }
        let active = self.active().into_iter().find(|event| event.id == id);
        let found = match active {
            Some(event) => Some(event),
            None => self.shared.store.event(id)?,
        };
        found.ok_or_else(|| AlertError::NotFound("alert", id.to_owned()))
    }

    /// Alerts that began from `from_ms` on, by severity, mild first. Recoveries are not counted.
    pub fn count_since(&self, from_ms: i64) -> Result<[(Severity, u64); 3], StorageError> {
        let mut counts = Severity::ALL.map(|severity| (severity, 0));
        self.each_since(from_ms, |event| {
            for (severity, count) in &mut counts {
                *count += u64::from(*severity == event.severity);
            }
        })?;
        Ok(counts)
    }

    /// Calls `take` with each alert that began from `from_ms` on, newest first. Recoveries are left
    /// out.
    ///
    /// # Errors
    ///
    /// When a day file can't be read.
    pub fn each_since(
        &self,
        from_ms: i64,
        mut take: impl FnMut(&AlertEvent),
    ) -> Result<(), StorageError> {
        let filter = EventFilter { from_ms: Some(from_ms), ..EventFilter::default() };
        let mut page = Page { limit: COUNT_AT_ONCE, offset: 0 };
        loop {
            let listing = self.shared.store.events(&filter, page)?;
            listing.items.iter().filter(|event| !event.is_recovery()).for_each(&mut take);
            page.offset += listing.items.len();
            if listing.items.len() < page.limit {
                return Ok(());
            }
        }
    }

    fn now_secs(&self) -> i64 {
        self.shared.clock.now_ms() / SECOND_MS
    }
}

pub(super) fn end_agent(pool: &Pool<Job>, agent: &str, reason: &str) -> usize {
    let (reply, answer) = bounded(1);
    let job = Job::EndAgent { agent: agent.to_owned(), reason: reason.to_owned(), reply };
    pool.put(shard_key(agent), job);
    // It ends with an error, when the server stops.
    answer.recv().unwrap_or(0)
}

/// Events that are counted at once.
const COUNT_AT_ONCE: usize = 5_000;
