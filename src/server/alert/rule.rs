//! A rule: what to look at, which type evaluates it, and how its alerts are notified.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::{Map, Value};

use crate::base::clock::MINUTE_MS;
use crate::base::limits::{
    AGENT_ID_BYTES_MAX, CONFIG_JSON_BYTES_MAX, LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX,
    METRIC_NAME_BYTES_MAX, RULE_SECS_MAX, TEXT_BYTES_MAX,
};
use crate::model::series::{Labels, SeriesKey};
use crate::model::severity::Severity;
use crate::server::alert::evaluate::{self, Evaluator, MetricField, RuleType};
use crate::server::alert::fields::{FieldError, Fields, shown, unknown};
use crate::server::alert::state::Policy;
use crate::server::control::profiles::AgentPattern;

/// Seconds for which an alert does not notify again, where a rule names none.
pub(crate) const SILENCE_SECS_DEFAULT: u64 = 600;
/// Seconds after a notified recovery from which the next firing is notified again.
const REFIRE_SECS_DEFAULT: u64 = 600;
/// How long a series that has ended keeps its alert, milliseconds.
const STALE_MS_DEFAULT: i64 = 10 * MINUTE_MS;
/// The same before it is known how often the series reports.
const STALE_MS_UNKNOWN: i64 = 60 * MINUTE_MS;
/// The agent that certificate checks report as. It speaks once a day, so a pattern of `*` does not
/// make it a host that has gone silent.
pub(crate) const CERT_AGENT: &str = "cert-checker";

/// Fields that every rule has besides its type's configuration.
const OWN: [&str; 10] = [
    "name",
    "rule_type",
    "type",
    "metric",
    "agent_pattern",
    "severity",
    "enabled",
    "silence_secs",
    "config_json",
    "config",
];

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `[[alert.rules]]` of `server.toml`: read-only in the API.
    File,
    /// The API or a seed.
    Api,
}

impl Origin {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// What a person says of a rule, with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Unique name.
    pub name: String,
    /// Name of the type.
    pub rule_type: String,
    /// Exactly this metric; `*` where the type takes it.
    pub metric: String,
    /// Glob over agent ids.
    pub agent_pattern: String,
    /// Severity of its alerts.
    pub severity: Severity,
    /// Whether it is in force.
    pub enabled: bool,
    /// The type's own fields.
    pub config: Map<String, Value>,
    /// Seconds for which an alert does not notify again.
    pub silence_secs: u64,
}

impl Draft {
    /// Takes a rule apart as it is in a file, a seed or a request: the type's fields may be
    /// beside the others, or in `config_json` as an object or as a string that holds one.
    ///
    /// # Errors
    ///
    /// Names the first field that can't be.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, FieldError> {
        let mut config = Map::new();
        for (name, value) in map.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            config.insert(name.clone(), value.clone());
        }
        // The first oxmon's seeds say `config`.
        let given = match (map.get("config_json"), map.get("config")) {
            (Some(_), Some(_)) => return Err(FieldError::new("config", "is given twice")),
            (one, other) => one.or(other),
        };
        for (name, value) in given.map(config_object).transpose()?.unwrap_or_default() {
            if config.insert(name.clone(), value).is_some() {
                return Err(FieldError::new(&name, "is given both in `config_json` and beside it"));
            }
        }
        let rule_type = match (map.get("rule_type"), map.get("type")) {
            (Some(_), Some(_)) => return Err(FieldError::new("type", "is given twice")),
            (None, Some(_)) => text(map, "type", TEXT_BYTES_MAX)?,
            _ => text(map, "rule_type", TEXT_BYTES_MAX)?,
        };
        let draft = Self {
            name: text(map, "name", TEXT_BYTES_MAX)?.unwrap_or_default(),
            rule_type: rule_type.ok_or_else(|| FieldError::new("type", "is missing"))?,
            metric: text(map, "metric", METRIC_NAME_BYTES_MAX)?.unwrap_or_default(),
            agent_pattern: text(map, "agent_pattern", AGENT_ID_BYTES_MAX)?
                .unwrap_or_else(|| "*".to_owned()),
            severity: severity(map)?,
            enabled: flag(map, "enabled")?.unwrap_or(true),
            silence_secs: silence_secs(map)?,
            config,
        };
        for (field, value) in [("name", &draft.name), ("agent_pattern", &draft.agent_pattern)] {
            if value.trim().is_empty() {
                return Err(FieldError::new(field, "is missing or empty"));
            }
        }
        Ok(draft)
    }

    /// The draft with the fields of `changes` in place of its own. A `config_json` replaces the
    /// whole configuration.
    ///
    /// # Errors
    ///
    /// Names the first field that can't be.
    pub fn changed(&self, changes: &Map<String, Value>) -> Result<Self, FieldError> {
        let mut map = self.to_map();
        if changes.contains_key("type") {
            map.remove("rule_type");
        }
        let whole = changes.contains_key("config_json") || changes.contains_key("config");
        let mut config = if whole { Map::new() } else { self.config.clone() };
        for (name, value) in changes {
            if OWN.contains(&name.as_str()) {
                map.insert(name.clone(), value.clone());
            } else {
                config.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in config {
            map.insert(name, value);
        }
        Self::from_map(&map)
    }

    /// The rule's own fields, without its configuration.
    fn to_map(&self) -> Map<String, Value> {
        let fields = [
            ("name", Value::from(self.name.as_str())),
            ("rule_type", Value::from(self.rule_type.as_str())),
            ("metric", Value::from(self.metric.as_str())),
            ("agent_pattern", Value::from(self.agent_pattern.as_str())),
            ("severity", Value::from(self.severity.name())),
            ("enabled", Value::from(self.enabled)),
            ("silence_secs", Value::from(self.silence_secs)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn config_object(value: &Value) -> Result<Map<String, Value>, FieldError> {
    let wrong = |why: &str| FieldError::new("config_json", why);
    match value {
        Value::Object(map) => Ok(map.clone()),
        Value::String(text) if text.len() > CONFIG_JSON_BYTES_MAX => Err(wrong("is too long")),
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| wrong(&format!("does not hold a JSON object: {error}"))),
        _ => Err(wrong("must be a JSON object, or a string that holds one")),
    }
}

fn text(map: &Map<String, Value>, name: &str, most: usize) -> Result<Option<String>, FieldError> {
    let Some(value) = map.get(name) else { return Ok(None) };
    let wrong = |why: String| Err(FieldError::new(name, why));
    match value.as_str() {
        Some(text) if text.len() > most => {
            wrong(format!("has {} bytes, more than {most}", text.len()))
        }
        Some(text) if text.chars().any(char::is_control) => {
            wrong("must not hold control characters".to_owned())
        }
        Some(text) => Ok(Some(text.to_owned())),
        None => wrong(format!("must be text, is {}", shown(value))),
    }
}

fn flag(map: &Map<String, Value>, name: &str) -> Result<Option<bool>, FieldError> {
    let Some(value) = map.get(name) else { return Ok(None) };
    let wrong = || FieldError::new(name, format!("must be true or false, is {}", shown(value)));
    value.as_bool().map(Some).ok_or_else(wrong)
}

fn severity(map: &Map<String, Value>) -> Result<Severity, FieldError> {
    let Some(value) = map.get("severity") else { return Ok(Severity::Warning) };
    let found = value.as_str().and_then(|name| name.parse().ok());
    found.ok_or_else(|| {
        let message = format!("must be info, warning or critical, is {}", shown(value));
        FieldError::new("severity", message)
    })
}

fn silence_secs(map: &Map<String, Value>) -> Result<u64, FieldError> {
    let Some(value) = map.get("silence_secs") else { return Ok(SILENCE_SECS_DEFAULT) };
    let found = value.as_u64().filter(|secs| *secs <= RULE_SECS_MAX);
    found.ok_or_else(|| {
        let range = format!("must be a whole number from 0 to {RULE_SECS_MAX}");
        FieldError::new("silence_secs", format!("{range}, is {}", shown(value)))
    })
}

/// A rule that can work.
#[derive(Debug)]
pub struct Rule {
    /// Unique id; of a rule in the file always the same for the same name.
    pub id: String,
    /// What was said of it.
    pub draft: Draft,
    /// Where it comes from.
    pub origin: Origin,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
    /// Its type.
    pub spec: &'static RuleType,
    /// Evaluates its points.
    pub evaluator: Arc<dyn Evaluator>,
    refire_ms: i64,
    keep_firing_ms: i64,
    stale_ms: Option<i64>,
    agents: AgentPattern,
    labels: Vec<(String, GlobMatcher)>,
}

impl Rule {
    /// Checks a draft and makes the rule.
    ///
    /// # Errors
    ///
    /// Names the first field that can't be.
    pub fn build(
        id: String,
        mut draft: Draft,
        origin: Origin,
        (created_at, updated_at): (i64, i64),
    ) -> Result<Self, FieldError> {
        let spec = evaluate::rule_type(&draft.rule_type)?;
        check_metric(spec, &mut draft.metric)?;
        let any = draft.metric == "*" && spec.metric != MetricField::None;
        let evaluator = evaluate::evaluator(spec, &draft.config)?;
        let pattern = draft.agent_pattern.as_str();
        let agents = match AgentPattern::by_tag(pattern) {
            Some(agents) => agents,
            None => AgentPattern::Glob(glob("agent_pattern", pattern)?),
        };
        let labels = label_globs(draft.config.get("labels"))?;
        if any && !labels.is_empty() {
            return Err(FieldError::new("labels", "can't narrow a whole agent (`metric = \"*\"`)"));
        }
        let evaluator = Arc::from(evaluator);
        let common = Fields::all(&draft.config);
        let refire_ms = common.secs_as_ms("refire_secs", 0, REFIRE_SECS_DEFAULT)?;
        let keep_firing_ms = common.secs_as_ms("keep_firing_secs", 0, 0)?;
        let stale_ms = match draft.config.contains_key("stale_secs") {
            true => Some(common.secs_as_ms("stale_secs", 1, 0)?),
            false => None,
        };
        Ok(Self {
            id,
            draft,
            origin,
            created_at,
            updated_at,
            spec,
            evaluator,
            refire_ms,
            keep_firing_ms,
            stale_ms,
            agents,
            labels,
        })
    }

    /// Whether it is about this agent.
    pub fn wants_agent(&self, agent: &str) -> bool {
        let exempt = self.evaluator.absent_ms().is_some()
            && agent == CERT_AGENT
            && self.draft.agent_pattern != CERT_AGENT;
        !exempt && self.agents.is_match(agent)
    }

    /// Whether it is about this series.
    pub fn wants(&self, key: &SeriesKey) -> bool {
        let metric = self.draft.metric.as_str();
        (metric == &*key.metric || metric == "*")
            && self.wants_agent(&key.agent)
            && self.wants_labels(&key.labels)
    }

    fn wants_labels(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(name, glob)| labels.get(name).is_some_and(|v| glob.is_match(v)))
    }

    /// Whether both evaluate the same points in the same way, so that one can take over the state
    /// of the other.
    pub fn evaluates_like(&self, other: &Self) -> bool {
        let (a, b) = (&self.draft, &other.draft);
        a.rule_type == b.rule_type
            && a.metric == b.metric
            && a.agent_pattern == b.agent_pattern
            && self.agents.is_like(&other.agents)
            && a.config == b.config
            && a.enabled == b.enabled
    }

    /// The type's fields as JSON.
    pub fn config_json(&self) -> String {
        Value::Object(self.draft.config.clone()).to_string()
    }

    /// Whether it evaluates points as they come, rather than their absence or a query.
    pub fn evaluates_points(&self) -> bool {
        self.evaluator.absent_ms().is_none() && self.evaluator.query().is_none()
    }

    /// What it asks of the state machine.
    pub fn policy(&self) -> Policy {
        Policy {
            hold_ms: self.evaluator.hold_ms(),
            repeat_ms: self.repeat_ms(),
            refire_ms: self.refire_ms,
            keep_firing_ms: self.keep_firing_ms,
        }
    }

    /// How long a series may report nothing, while its agent reports, before its alert ends,
    /// milliseconds. `interval_ms` is the usual time between its points, 0 where it is unknown.
    pub fn stale_ms(&self, interval_ms: i64) -> i64 {
        let usual_ms = match interval_ms {
            0 => STALE_MS_UNKNOWN,
            _ => interval_ms.saturating_mul(3).max(STALE_MS_DEFAULT),
        };
        self.stale_ms.unwrap_or(usual_ms)
    }

    /// Milliseconds for which an alert does not notify again.
    pub fn repeat_ms(&self) -> i64 {
        i64::try_from(self.draft.silence_secs).unwrap_or(i64::MAX).saturating_mul(1_000)
    }
}

/// Checks the metric's name; a type that has none gets `*`.
fn check_metric(spec: &RuleType, metric: &mut String) -> Result<(), FieldError> {
    if spec.metric == MetricField::None {
        if !["", "*"].contains(&metric.as_str()) {
            let message = format!("must be left out: {} has no metric but its `expr`", spec.name);
            return Err(FieldError::new("metric", message));
        }
        "*".clone_into(metric);
    }
    if metric.trim().is_empty() {
        return Err(FieldError::new("metric", "is missing or empty"));
    }
    if metric.contains('*') && (spec.metric == MetricField::Named || metric != "*") {
        let message = "must be one metric's name; only no_data takes `*`, for a whole agent";
        return Err(FieldError::new("metric", message));
    }
    Ok(())
}

/// A glob over whole names, in which `*` also takes `/`: mount points are names here.
fn glob(field: &str, pattern: &str) -> Result<GlobMatcher, FieldError> {
    let built = GlobBuilder::new(pattern).literal_separator(false).build();
    built
        .map(|glob| glob.compile_matcher())
        .map_err(|error| FieldError::new(field, format!("is not a valid glob: {}", error.kind())))
}

fn label_globs(value: Option<&Value>) -> Result<Vec<(String, GlobMatcher)>, FieldError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let wrong = |why: String| FieldError::new("labels", why);
    let map = value.as_object();
    let map = map.ok_or_else(|| wrong("must be globs by label name".to_owned()))?;
    let mut globs = Vec::new();
    for (name, pattern) in map {
        let pattern = pattern.as_str().filter(|pattern| !pattern.is_empty());
        let pattern = pattern.ok_or_else(|| wrong(format!("has no pattern for `{name}`")))?;
        if name.len() > LABEL_NAME_BYTES_MAX || pattern.len() > LABEL_VALUE_BYTES_MAX {
            return Err(wrong(format!("has a name or a pattern that is too long at `{name}`")));
        }
        let field = format!("labels.{name}");
        globs.push((name.clone(), glob(&field, pattern)?));
    }
    Ok(globs)
}

/// An error for a request's body that has a field which no rule and no rule type has.
///
/// # Errors
///
/// Names the field.
pub(crate) fn check_names(
    map: &Map<String, Value>,
    extra: &[&'static str],
) -> Result<(), FieldError> {
    let known = OWN.iter().chain(extra).copied();
    let types = evaluate::TABLE.iter().flat_map(|spec| spec.fields).chain(evaluate::COMMON);
    let known: Vec<&str> = known.chain(types.map(|field| field.name)).collect();
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown(name, OWN.iter().chain(extra).copied())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
