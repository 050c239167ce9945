//! The delivery log.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::role::Role;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Kind, PAGE_PARAMS, Param, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::control::notify::logs::{self, LogFilter, LogRow, Status};

const CHANNEL_ID: Param = Param::new("channel_id", Kind::Text, "Exactly this channel.");
const CHANNEL_TYPE: Param = Param::new("channel_type", Kind::Text, "Exactly this channel type.");
const START: Param = Param::new("start_time", Kind::TimeOrSecs, "Not before.");
const END: Param = Param::new("end_time", Kind::TimeOrSecs, "Not after.");

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        query: &[
            PAGE_PARAMS[0],
            PAGE_PARAMS[1],
            CHANNEL_ID,
            CHANNEL_TYPE,
            Param::new("status", Kind::Word(&Status::NAMES), "What became of it."),
            Param::new("alert_event_id", Kind::Text, "Notifications that list this event."),
            Param::new("rule_id", Kind::Text, "Exactly this rule."),
            Param::new("agent_id", Kind::Text, "Notifications that list an event of this agent."),
            START,
            END,
        ],
        ..Route::get(
            "/v1/notifications/logs",
            "Attempts to deliver, newest first, and what silence windows held back.",
            Gives::One(Shape::of::<Deliveries>()),
            list,
        )
    },
    Route {
        query: &[CHANNEL_ID, CHANNEL_TYPE, START, END],
        ..Route::get(
            "/v1/notifications/logs/summary",
            "How many attempts there were, by what became of them.",
            Gives::One(Shape::of::<DeliverySummary>()),
            summary,
        )
    },
];

#[derive(Serialize, ToSchema)]
struct Deliveries {
    items: Vec<Delivery>,
    /// All matches.
    total: u64,
}

/// One attempt to tell one channel.
#[derive(Serialize, ToSchema)]
struct Delivery {
    id: String,
    /// The first event that the notification lists.
    alert_event_id: String,
    rule_id: String,
    rule_name: String,
    /// The first event's agent.
    agent_id: String,
    channel_id: String,
    channel_name: String,
    channel_type: String,
    severity: String,
    /// `success`, `failed` or `suppressed`.
    status: String,
    error_message: Option<String>,
    duration_ms: i64,
    recipient_count: i64,
    /// Attempts before this one.
    retry_count: i64,
    http_status_code: Option<i64>,
    /// What was sent, cut to its limit, secrets masked; for administrators.
    request_body: Option<String>,
    /// What was answered, cut to its limit, secrets masked; for administrators.
    response_body: Option<String>,
    /// A JSON array with each recipient's result.
    recipient_details: Option<String>,
    api_message_id: Option<String>,
    api_error_code: Option<String>,
    /// The same for all attempts and channels of one notification.
    notification_id: Option<String>,
    created_at: Time,
}

#[derive(Serialize, ToSchema)]
struct DeliverySummary {
    total: u64,
    success: u64,
    failed: u64,
    suppressed: u64,
}

impl Delivery {
    /// The row as the caller may see it: bodies are for administrators.
    fn seen_by(role: Role, row: LogRow) -> Self {
        let body = |text: Option<String>| text.filter(|_| role >= Role::Admin);
        Self {
            id: row.id,
            alert_event_id: row.alert_event_id,
            rule_id: row.rule_id,
            rule_name: row.rule_name,
            agent_id: row.agent_id,
            channel_id: row.channel_id,
            channel_name: row.channel_name,
            channel_type: row.channel_type,
            severity: row.severity,
            status: row.status,
            error_message: row.error_message,
            duration_ms: row.duration_ms,
            recipient_count: row.recipient_count,
            retry_count: row.retry_count,
            http_status_code: row.http_status_code,
            request_body: body(row.request_body),
            response_body: body(row.response_body),
            recipient_details: row.recipient_details,
            api_message_id: row.api_message_id,
            api_error_code: row.api_error_code,
            notification_id: row.notification_id,
            created_at: Time(row.created_at_ms),
        }
    }
}

fn filter(call: &Call<'_>) -> Result<LogFilter, ApiError> {
    let text = |name: &str| call.text(name).map(str::to_owned);
    Ok(LogFilter {
        channel_id: text("channel_id"),
        channel_type: text("channel_type"),
        status: text("status"),
        alert_event_id: text("alert_event_id"),
        rule_id: text("rule_id"),
        agent_id: text("agent_id"),
        from_ms: call.time_or_secs("start_time")?,
        to_ms: call.time_or_secs("end_time")?,
    })
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (filter, page) = (filter(call)?, call.page()?);
    let found = call.app.control.read(|db| logs::list(db, &filter, page))?;
    let total = found.total;
    let role = call.who()?.role;
    let items = found.items.into_iter().map(|row| Delivery::seen_by(role, row)).collect();
    Ok(Reply { total: Some(total), ..Reply::ok(&Deliveries { items, total }) })
}

fn summary(call: &Call<'_>) -> Result<Reply, ApiError> {
    let filter = filter(call)?;
    let counted = call.app.control.read(|db| logs::summary(db, &filter))?;
    Ok(Reply::ok(&DeliverySummary {
        total: counted.total,
        success: counted.success,
        failed: counted.failed,
        suppressed: counted.suppressed,
    }))
}
