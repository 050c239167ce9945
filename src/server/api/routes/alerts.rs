//! Alerts: those that fire, their history, and what people do about them. Rules are in
//! `alert_rules`.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::HOUR_MS;
use crate::base::limits::PAGE_MAX;
use crate::model::alert::AlertStatus;
use crate::model::severity::Severity;
use crate::server::alert::manage::AlertError;
use crate::server::alert::shard::Act;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Kind, Method, Param, Route};
use crate::server::api::routes::handover::name_missing;
use crate::server::api::routes::hosts::Processes;
use crate::server::api::schema::{Shape, Time};
use crate::server::control::hosts;
use crate::server::storage::{EventFilter, Listing};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[
            Param::new("agent_id__eq", Kind::Text, "Alerts of exactly this agent."),
            Param::new("agent_id__contains", Kind::Text, "Alerts of agents whose id contains it."),
            Param::new("rule_id__eq", Kind::Text, "Alerts of exactly this rule."),
            Param::new(
                "rule_name__contains",
                Kind::Text,
                "Alerts of rules whose name contained it when they fired.",
            ),
            Param::new("metric_name__eq", Kind::Text, "Alerts about exactly this metric."),
            Param::new(
                "status__eq",
                Kind::Word(&["1", "2", "3"]),
                "Alerts in this state: 1 firing, 2 acknowledged, 3 resolved.",
            ),
            Param::new(
                "severity__eq",
                Kind::Word(&["info", "warning", "critical"]),
                "Alerts of exactly this severity.",
            ),
            Param::new("timestamp__gte", Kind::Time, "Not before."),
            Param::new("timestamp__lte", Kind::Time, "Not after."),
        ],
        ..Route::get(
            "/v1/alerts/history",
            "Alerts and recoveries, newest first.",
            Gives::List(Shape::of::<Event>()),
            history,
        )
    },
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/alerts/history/{id}",
            "An alert or a recovery, with the processes that used the most on its host while it \
             was pending or firing, where the agent sent them.",
            Gives::One(Shape::of::<Event>()),
            one,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/history/{id}/acknowledge",
            "Record that somebody knows of an alert. It stays active until it resolves.",
            Gives::One(Shape::of::<Event>()),
            acknowledge,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/history/{id}/resolve",
            "Resolve an alert. While its condition holds, it fires again only after its rule's \
             `silence_secs`. An alert that is resolved already stays as it is.",
            Gives::One(Shape::of::<Event>()),
            resolve,
        )
    },
    Route::get(
        "/v1/alerts/active",
        "Alerts that fire, acknowledged ones among them, newest first.",
        Gives::List(Shape::of::<Event>()),
        active,
    ),
    Route {
        query: &[Param::new("hours", Kind::Count, "How far back to look. Default: 24.")],
        ..Route::get(
            "/v1/alerts/summary",
            "How many alerts began, and of which. Recoveries are not counted.",
            Gives::One(Shape::of::<Summary>()),
            summary,
        )
    },
];

/// Hours that a summary may look back: ten years.
const SUMMARY_HOURS_MAX: i64 = 87_600;

/// An alert, or its end.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertEvent)]
pub(crate) struct Event {
    id: String,
    rule_id: String,
    rule_name: String,
    agent_id: String,
    /// `*` where it is about a whole agent.
    metric_name: String,
    #[schema(inline)]
    severity: Severity,
    message: String,
    labels: BTreeMap<String, String>,
    value: f64,
    threshold: f64,
    timestamp: Time,
    /// When a trend is expected to reach its threshold.
    predicted_breach: Option<Time>,
    first_triggered_at: Time,
    /// 1 firing, 2 acknowledged, 3 resolved.
    status: i64,
    resolved_at: Option<Time>,
    created_at: Time,
    /// When it was resolved; until then, when it was created.
    updated_at: Time,
    /// What used the most on its host. Only where one alert is asked for, and its agent sent it.
    processes: Option<Processes>,
}

impl From<crate::model::alert::AlertEvent> for Event {
    fn from(event: crate::model::alert::AlertEvent) -> Self {
        Self {
            id: event.id,
            rule_id: event.rule_id,
            rule_name: event.rule_name,
            agent_id: event.agent_id,
            metric_name: event.metric_name,
            severity: event.severity,
            message: event.message,
            labels: event.labels.to_map(),
            value: event.value,
            threshold: event.threshold,
            timestamp: Time(event.timestamp_ms),
            predicted_breach: event.predicted_breach_ms.map(Time),
            first_triggered_at: Time(event.first_triggered_at_ms),
            status: event.status as i64,
            resolved_at: event.resolved_at_ms.map(Time),
            created_at: Time(event.timestamp_ms),
            updated_at: Time(event.resolved_at_ms.unwrap_or(event.timestamp_ms)),
            processes: None,
        }
    }
}

/// Alerts that began.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertSummary)]
struct Summary {
    total: u64,
    /// Those that are not resolved, acknowledged ones among them.
    active_count: u64,
    /// Those that are resolved.
    recovered_count: u64,
    by_severity: BySeverity,
    /// By agent; of more than 1000, those with the most alerts.
    by_agent: BTreeMap<String, u64>,
    /// By metric; of more than 1000, those with the most alerts.
    by_metric: BTreeMap<String, u64>,
    /// By the rule's name; of more than 1000, those with the most alerts.
    by_rule: BTreeMap<String, u64>,
}

#[derive(Default, Serialize, ToSchema)]
#[schema(as = AlertsBySeverity)]
struct BySeverity {
    info: u64,
    warning: u64,
    critical: u64,
}

impl From<AlertError> for ApiError {
    fn from(error: AlertError) -> Self {
        match error {
            AlertError::Field(error) => Self::bad(error.to_string()),
            AlertError::NotFound(what, key) => Self::not_found(what, &key),
            AlertError::Conflict(message) => Self::new(Code::Conflict, message),
            AlertError::TooMuch(message) => Self::bad(message),
            AlertError::Storage(error) => error.into(),
        }
    }
}

fn history(call: &Call<'_>) -> Result<Reply, ApiError> {
    let text = |name| call.text(name).map(str::to_owned);
    let status: Option<i64> = call.parsed("status__eq")?;
    let filter = EventFilter {
        agent: text("agent_id__eq"),
        agent_part: text("agent_id__contains"),
        rule_id: text("rule_id__eq"),
        rule_part: text("rule_name__contains"),
        metric: text("metric_name__eq"),
        severity: call.parsed("severity__eq")?,
        status: status.and_then(AlertStatus::from_number),
        from_ms: call.time("timestamp__gte")?,
        to_ms: call.time("timestamp__lte")?,
    };
    let found = call.app.store.events(&filter, call.page()?)?;
    Ok(name_missing(call, Reply::list(&found.map(Event::from))))
}

fn one(call: &Call<'_>) -> Result<Reply, ApiError> {
    let id = call.param("id");
    let known = elsewhere(call).into_iter().find(|event| event.id == id);
    let event = match known {
        Some(event) => event,
        None => call.app.alerts.event(id)?,
    };
    let snapshot = call.app.control.read(|db| hosts::snapshot_of(db, &event))?;
    let processes = snapshot.map(Processes::from);
    Ok(Reply::ok(&Event { processes, ..Event::from(event) }))
}

fn active(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut all = call.app.alerts.active();
    let elsewhere = elsewhere(call);
    if !elsewhere.is_empty() {
        let known: HashSet<String> = all.iter().map(|event| event.id.clone()).collect();
        all.extend(elsewhere.into_iter().filter(|event| !known.contains(&event.id)));
        all.sort_by(|a, b| b.timestamp_ms.cmp(&a.timestamp_ms).then_with(|| a.id.cmp(&b.id)));
    }
    let found = Listing::slice(all.into_iter(), call.page()?);
    Ok(name_missing(call, Reply::list(&found.map(Event::from))))
}

/// Alerts that fire at other servers.
fn elsewhere(call: &Call<'_>) -> Vec<crate::model::alert::AlertEvent> {
    call.app.handover.as_ref().map(|known| known.active_elsewhere()).unwrap_or_default()
}

/// Says where an alert fires that is not known here.
fn explain(call: &Call<'_>, error: AlertError) -> ApiError {
    let id = call.param("id");
    let found = elsewhere(call).into_iter().find(|event| event.id == id);
    let place = found.and_then(|it| call.app.handover.as_ref()?.server_of(&it.agent_id));
    match place {
        Some(server) => AlertError::Conflict(format!(
            "the alert fires at the server `{server}`, which its agent reports to: do it there"
        ))
        .into(),
        None => error.into(),
    }
}

fn acknowledge(call: &Call<'_>) -> Result<Reply, ApiError> {
    let event = call.app.alerts.act(call.param("id"), &Act::Acknowledge);
    let event = event.map_err(|error| explain(call, error))?;
    Ok(Reply::ok(&Event::from(event)))
}

fn resolve(call: &Call<'_>) -> Result<Reply, ApiError> {
    let who = call.who()?.username.clone();
    let event = call.app.alerts.act(call.param("id"), &Act::Resolve { who });
    let event = event.map_err(|error| explain(call, error))?;
    Ok(Reply::ok(&Event::from(event)))
}

fn summary(call: &Call<'_>) -> Result<Reply, ApiError> {
    let hours: i64 = call.parsed("hours")?.unwrap_or(24);
    if !(1..=SUMMARY_HOURS_MAX).contains(&hours) {
        return Err(ApiError::bad(format!("`hours` must be 1 to {SUMMARY_HOURS_MAX}")));
    }
    let from_ms = call.now_ms.saturating_sub(hours.saturating_mul(HOUR_MS));
    let mut by_severity = BySeverity::default();
    let (mut total, mut recovered_count) = (0, 0);
    let mut names: [BTreeMap<String, u64>; 3] = Default::default();
    call.app.alerts.each_since(from_ms, |event| {
        total += 1;
        recovered_count += u64::from(event.status == AlertStatus::Resolved);
        *match event.severity {
            Severity::Info => &mut by_severity.info,
            Severity::Warning => &mut by_severity.warning,
            Severity::Critical => &mut by_severity.critical,
        } += 1;
        for (counts, name) in
            names.iter_mut().zip([&event.agent_id, &event.metric_name, &event.rule_name])
        {
            match counts.get_mut(name) {
                Some(count) => *count += 1,
                None => drop(counts.insert(name.clone(), 1)),
            }
        }
    })?;
    let [by_agent, by_metric, by_rule] = names.map(most);
    let active_count = total - recovered_count;
    Ok(Reply::ok(&Summary {
        total,
        active_count,
        recovered_count,
        by_severity,
        by_agent,
        by_metric,
        by_rule,
    }))
}

/// The names with the greatest counts, as many as a list may have.
fn most(counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    if counts.len() <= PAGE_MAX {
        return counts;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(PAGE_MAX).collect()
}
