//! Alert rules, and what a rule would have done.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::base::clock::{HOUR_MS, parse_rfc3339};
use crate::base::ids::new_id;
use crate::model::severity::Severity;
use crate::server::alert::backtest;
use crate::server::alert::evaluate::TABLE;
use crate::server::alert::fields::FieldError;
use crate::server::alert::manage::AlertError;
use crate::server::alert::rule::{Draft, Origin, Rule as Built, check_names};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::routes::alerts::Event;
use crate::server::api::schema::{Shape, Time, words};
use crate::server::storage::Listing;

/// Held by the backtest that runs.
static BACKTEST: Mutex<()> = Mutex::new(());
/// `Retry-After` of a backtest while another one runs, seconds.
const BACKTEST_RETRY_SECS: u64 = 5;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route::get(
        "/v1/alerts/rules",
        "Rules in force, those of the configuration file first.",
        Gives::List(Shape::of::<Rule>()),
        list,
    ),
    Route {
        access: ADMIN,
        ..Route::get(
            "/v1/alerts/rules/config",
            "All rules with their configuration, those that are not enabled among them.",
            Gives::List(Shape::of::<RuleDetail>()),
            list_details,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<RuleInput>().requiring("NewRule", &["name", "rule_type"])),
        status: 201,
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/alerts/rules",
            "Make a rule. It is in force before the answer.",
            Gives::One(Shape::of::<RuleDetail>()),
            create,
        )
    },
    Route {
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/alerts/rules/{id}",
            "One rule with its configuration, by id or name.",
            Gives::One(Shape::of::<RuleDetail>()),
            get,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<RuleInput>()),
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/rules/{id}",
            "Change a rule: what is left out stays. A rule of the configuration file is a 409.",
            Gives::One(Shape::of::<RuleDetail>()),
            update,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/rules/{id}",
            "Remove a rule; its alerts end without a notification.",
            Gives::One(Shape::of::<RuleDetail>()),
            remove,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<EnableBody>()),
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/rules/{id}/enable",
            "Put a rule in force, or out of it.",
            Gives::One(Shape::of::<RuleDetail>()),
            enable,
        )
    },
    Route {
        method: Method::Post,
        body: Some(Shape::of::<BacktestInput>().requiring("BacktestInput", &["rule_type"])),
        errors: &[Code::TooMany],
        ..Route::get(
            "/v1/alerts/rules/test",
            "What a rule would have done over stored history. Nothing is stored, nobody is \
             notified. One runs at a time, for 15 seconds at the most.",
            Gives::One(Shape::of::<Backtest>()),
            test,
        )
    },
];

/// A rule in force.
#[derive(Serialize, ToSchema)]
struct Rule {
    id: String,
    name: String,
    #[schema(schema_with = rule_types)]
    rule_type: String,
    metric: String,
    /// Glob over agent ids.
    agent_pattern: String,
    #[schema(inline)]
    severity: Severity,
    enabled: bool,
}

/// A rule with its configuration.
#[derive(Serialize, ToSchema)]
struct RuleDetail {
    #[serde(flatten)]
    rule: Rule,
    /// A string that holds the type's fields as a JSON object.
    config_json: String,
    /// Seconds for which the same alert does not notify again.
    silence_secs: u64,
    /// `file` (read-only here) or `api`.
    source: &'static str,
    created_at: Time,
    updated_at: Time,
    /// What may be a mistake, each a sentence: of a rule that was just saved, that nothing stored
    /// is what it looks at.
    warnings: Vec<String>,
}

/// A rule as it is given.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the rule's own parser reads the body")]
struct RuleInput {
    /// Unique. Of a backtest, `backtest` where it is left out.
    name: Option<String>,
    #[schema(schema_with = rule_types)]
    rule_type: Option<String>,
    /// Exactly this metric; `*` for a whole agent in a `no_data` rule. Required but in a `promql`
    /// rule, which has none.
    metric: Option<String>,
    /// Glob over agent ids. Default: `*`.
    agent_pattern: Option<String>,
    /// Default: `warning`.
    #[schema(inline)]
    severity: Option<Severity>,
    /// Default: true.
    enabled: Option<bool>,
    /// The type's fields: a JSON object, or a string that holds one.
    config_json: Option<Value>,
    /// Seconds for which the same alert does not notify again. Default: 600.
    silence_secs: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnableBody {
    enabled: bool,
}

/// A rule, and the time to try it on.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the rule's own parser reads the body")]
struct BacktestInput {
    #[serde(flatten)]
    rule: RuleInput,
    /// First moment, RFC 3339. Default: 24 hours before the last.
    #[serde(rename = "timestamp__gte")]
    from: Option<String>,
    /// Last moment, RFC 3339. Default: now.
    #[serde(rename = "timestamp__lte")]
    to: Option<String>,
}

/// What a rule would have done.
#[derive(Serialize, ToSchema)]
struct Backtest {
    timestamp_gte: Time,
    timestamp_lte: Time,
    /// Series (for `no_data`: agents) that were evaluated.
    series_evaluated: u64,
    points_evaluated: u64,
    /// All alerts that would have fired.
    total: u64,
    /// Those that would have notified, among the listed.
    notified: u64,
    /// Whether `alerts` holds only the oldest.
    truncated: bool,
    alerts: Vec<BacktestAlert>,
}

#[derive(Serialize, ToSchema)]
struct BacktestAlert {
    #[serde(flatten)]
    event: Event,
    /// When it would have fired.
    fired_at: Time,
    /// Seconds from firing to its end, or to the end of the time.
    duration_secs: i64,
    /// Whether somebody would have been notified, rather than not because of `silence_secs`.
    notified: bool,
}

impl From<&Built> for Rule {
    fn from(rule: &Built) -> Self {
        let draft = &rule.draft;
        Self {
            id: rule.id.clone(),
            name: draft.name.clone(),
            rule_type: draft.rule_type.clone(),
            metric: draft.metric.clone(),
            agent_pattern: draft.agent_pattern.clone(),
            severity: draft.severity,
            enabled: draft.enabled,
        }
    }
}

impl From<&Built> for RuleDetail {
    fn from(rule: &Built) -> Self {
        Self {
            rule: rule.into(),
            config_json: rule.config_json(),
            silence_secs: rule.draft.silence_secs,
            source: rule.origin.name(),
            created_at: Time::from_secs(rule.created_at),
            updated_at: Time::from_secs(rule.updated_at),
            warnings: Vec::new(),
        }
    }
}

/// A rule that was just saved, with what may be a mistake.
fn saved(call: &Call<'_>, rule: &Built) -> Result<RuleDetail, ApiError> {
    let mut detail = RuleDetail::from(rule);
    let metric = rule.draft.metric.as_str();
    if metric.is_empty() || metric == "*" {
        return Ok(detail);
    }
    let rows = call.app.store.latest_all()?;
    if !rows.iter().any(|row| *row.key.metric == *metric) {
        detail.warnings.push(format!("No agent reports the metric `{metric}`."));
    } else if !rows.iter().any(|row| rule.wants(&row.key)) {
        detail.warnings.push(format!(
            "No agent that the rule is about reports the metric `{metric}` with its labels."
        ));
    }
    Ok(detail)
}

/// The types of rules, as the table has them.
fn rule_types() -> Object {
    words("What it looks for.", TABLE.iter().map(|spec| spec.name))
}

fn field(error: FieldError) -> ApiError {
    AlertError::from(error).into()
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rules = call.app.alerts.rules();
    let shown: Vec<Rule> = rules.enabled().map(|rule| rule.as_ref().into()).collect();
    Ok(Reply::list(&Listing::slice(shown.into_iter(), call.page()?)))
}

fn list_details(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rules = call.app.alerts.rules();
    let found = Listing::slice(rules.all().iter(), call.page()?);
    Ok(Reply::list(&found.map(|rule| RuleDetail::from(rule.as_ref()))))
}

fn get(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rule = call.app.alerts.rule(call.param("id"))?;
    Ok(Reply::ok(&RuleDetail::from(rule.as_ref())))
}

fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: Map<String, Value> = call.json()?;
    check_names(&body, &[]).map_err(field)?;
    let rule = call.app.alerts.create_rule(&body)?;
    Ok(Reply::created(&saved(call, &rule)?))
}

fn update(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: Map<String, Value> = call.json()?;
    check_names(&body, &[]).map_err(field)?;
    let rule = call.app.alerts.update_rule(call.param("id"), &body)?;
    Ok(Reply::ok(&saved(call, &rule)?))
}

fn enable(call: &Call<'_>) -> Result<Reply, ApiError> {
    let EnableBody { enabled } = call.json()?;
    let mut body = Map::new();
    body.insert("enabled".to_owned(), Value::from(enabled));
    let rule = call.app.alerts.update_rule(call.param("id"), &body)?;
    Ok(Reply::ok(&RuleDetail::from(rule.as_ref())))
}

fn remove(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rule = call.app.alerts.delete_rule(call.param("id"))?;
    Ok(Reply::ok(&RuleDetail::from(rule.as_ref())))
}

fn test(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut body: Map<String, Value> = call.json()?;
    check_names(&body, &["timestamp__gte", "timestamp__lte"]).map_err(field)?;
    let to_ms = take_time(&mut body, "timestamp__lte")?.unwrap_or(call.now_ms);
    let day_before = to_ms.saturating_sub(24 * HOUR_MS);
    let from_ms = take_time(&mut body, "timestamp__gte")?.unwrap_or(day_before);
    if from_ms > to_ms {
        return Err(ApiError::bad("`timestamp__gte` must not be after `timestamp__lte`"));
    }
    body.entry("name").or_insert_with(|| Value::from("backtest"));
    let draft = Draft::from_map(&body).map_err(field)?;
    let rule = Built::build(new_id(), draft, Origin::Api, (0, 0)).map_err(field)?;
    let store = call.app.store.as_ref();
    // It reads and evaluates as much as all agents send in days.
    let _only = BACKTEST.try_lock().ok_or_else(|| ApiError {
        retry_after_secs: Some(BACKTEST_RETRY_SECS),
        ..ApiError::new(Code::TooMany, "another backtest is running, retry later")
    })?;
    let queries = call.app.alerts.queries();
    let found = backtest::run(store, queries, &std::sync::Arc::new(rule), from_ms, to_ms)?;
    let alerts: Vec<BacktestAlert> =
        found.alerts.into_iter().map(|would| shown(would, to_ms)).collect();
    Ok(Reply::ok(&Backtest {
        timestamp_gte: Time(from_ms),
        timestamp_lte: Time(to_ms),
        series_evaluated: found.series,
        points_evaluated: found.points,
        total: found.total,
        notified: alerts.iter().filter(|alert| alert.notified).count() as u64,
        truncated: found.total > alerts.len() as u64,
        alerts,
    }))
}

fn shown(would: backtest::Would, to_ms: i64) -> BacktestAlert {
    let mut event = would.event;
    let fired_ms = event.timestamp_ms;
    event.resolved_at_ms = would.resolved_ms;
    let end_ms = would.resolved_ms.unwrap_or(to_ms);
    BacktestAlert {
        event: Event::from(event),
        fired_at: Time(fired_ms),
        duration_secs: end_ms.saturating_sub(fired_ms) / 1_000,
        notified: would.notified,
    }
}

fn take_time(body: &mut Map<String, Value>, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(value) = body.remove(name) else { return Ok(None) };
    let parsed = value.as_str().and_then(parse_rfc3339);
    parsed.map(Some).ok_or_else(|| ApiError::bad(format!("`{name}` must be an RFC 3339 time")))
}
