//! Channels and silence windows. The delivery log is in `deliveries`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::base::clock::DAY_MS;
use crate::model::role::Role;
use crate::model::severity::Severity;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Kind, Method, Param, Route};
use crate::server::api::schema::{Shape, Time, words};
use crate::server::control::notify::channels::{self as rows, ChannelRow};
use crate::server::control::notify::silence::{self as windows, SilenceRow};
use crate::server::notify::manage::{self, ChannelInput, SilenceInput};
use crate::server::notify::{NotifyError, channels, mute};
use crate::server::storage::Listing;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route::get(
        "/v1/notifications/channels",
        "Channels, by name.",
        Gives::List(Shape::of::<Channel>()),
        list_channels,
    ),
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/channels/{id}",
            "One channel, by id or name.",
            Gives::One(Shape::of::<Channel>()),
            get_channel,
        )
    },
    Route {
        access: ADMIN,
        ..Route::get(
            "/v1/notifications/channels/config",
            "Channels with their configuration, secrets masked.",
            Gives::List(Shape::of::<ChannelConfig>()),
            list_configs,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(
            Shape::of::<ChannelInput>()
                .requiring("NewChannel", &["name", "channel_type", "config_json"]),
        ),
        status: 201,
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/notifications/channels/config",
            "Make a channel. It is in force at the next notification.",
            Gives::One(Shape::of::<ChannelConfig>()),
            create_channel,
        )
    },
    Route {
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/channels/config/{id}",
            "One channel with its configuration, secrets masked.",
            Gives::One(Shape::of::<ChannelConfig>()),
            get_config,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<ChannelInput>()),
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/notifications/channels/config/{id}",
            "Change a channel: what is left out stays, and \"***\" keeps a stored secret.",
            Gives::One(Shape::of::<ChannelConfig>()),
            update_channel,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/channels/config/{id}",
            "Remove a channel, with what waits to be sent there.",
            Gives::One(Shape::of::<ChannelConfig>()),
            remove_channel,
        )
    },
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/channels/{id}/recipients",
            "A channel's recipients.",
            Gives::List(Shape::of::<String>()),
            get_recipients,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<RecipientsBody>()),
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/channels/{id}/recipients",
            "Set a channel's recipients.",
            Gives::Many(Shape::of::<String>()),
            set_recipients,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        errors: &[Code::NotFound, Code::Conflict, Code::Busy, Code::Endpoint],
        ..Route::get(
            "/v1/notifications/channels/{id}/test",
            "Send a real message to every recipient, and return what the endpoint answered.",
            Gives::One(Shape::of::<TestAnswer>()),
            test_channel,
        )
    },
    Route::get(
        "/v1/notifications/silence-windows",
        "Silence windows, oldest first.",
        Gives::List(Shape::of::<SilenceWindow>()),
        list_windows,
    ),
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<SilenceInput>()),
        status: 201,
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/notifications/silence-windows",
            "Mute notifications for a time. What still fires at its end notifies then.",
            Gives::One(Shape::of::<SilenceWindow>()),
            create_window,
        )
    },
    Route {
        query: &[
            Param::new("timestamp__gte", Kind::Time, "Not before. Default: now."),
            Param::new("timestamp__lte", Kind::Time, "Not after. Default: a week later."),
        ],
        ..Route::get(
            "/v1/notifications/silence-spans",
            "When silence windows are open within a time, oldest first, at most 1000.",
            Gives::Many(Shape::of::<SilenceSpan>()),
            list_spans,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<SilenceInput>()),
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/silence-windows/{id}",
            "Put a silence window in the place of another; what that muted notifies now, unless it \
             is muted still.",
            Gives::One(Shape::of::<SilenceWindow>()),
            replace_window,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/notifications/silence-windows/{id}",
            "Remove a silence window; what it muted notifies now.",
            Gives::One(Shape::of::<SilenceWindow>()),
            remove_window,
        )
    },
];

/// A channel as everyone may see it.
#[derive(Serialize, ToSchema)]
struct Channel {
    id: String,
    name: String,
    #[schema(schema_with = channel_types)]
    channel_type: String,
    description: Option<String>,
    /// Milder alerts do not notify here.
    #[schema(inline)]
    min_severity: Severity,
    enabled: bool,
    /// What its recipients are: `email`, `phone`, `url`, `id`, or `none` where it takes none.
    recipient_type: Option<&'static str>,
    recipients: Vec<String>,
    created_at: Time,
    updated_at: Time,
}

/// A channel with its configuration.
#[derive(Serialize, ToSchema)]
struct ChannelConfig {
    #[serde(flatten)]
    channel: Channel,
    /// A string that holds a JSON object; secrets read `***`.
    config_json: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecipientsBody {
    /// Mail addresses, phone numbers, URLs or ids.
    recipients: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct TestAnswer {
    /// What the endpoint answered.
    answer: String,
}

/// A time in which notifications are held back.
#[derive(Serialize, ToSchema)]
struct SilenceWindow {
    id: String,
    /// `HH:MM`.
    start_time: String,
    /// `HH:MM`; on the next day where it is not after the start.
    end_time: String,
    /// `daily`, `weekly`, or null for a window that comes once.
    recurrence: Option<String>,
    /// Days on which a weekly window starts.
    days: Option<Vec<String>>,
    /// Day on which a window that comes once starts.
    date: Option<String>,
    /// Day on which it ends, where that was given.
    end_date: Option<String>,
    /// Null: the server's.
    time_zone: Option<String>,
    /// Glob over agent ids.
    agent_pattern: Option<String>,
    /// Glob over metric names.
    metric_pattern: Option<String>,
    /// When it begins, where it goes from one moment to another.
    starts_at: Option<Time>,
    /// When it ends, where it goes from one moment to another.
    ends_at: Option<Time>,
    /// When it ends, while it is open.
    active_until: Option<Time>,
    /// Why.
    comment: Option<String>,
    /// Who made it.
    created_by: Option<String>,
    created_at: Time,
    updated_at: Time,
}

/// A time in which a silence window is open.
#[derive(Serialize, ToSchema)]
struct SilenceSpan {
    /// The window's id.
    id: String,
    start: Time,
    end: Time,
    /// Glob over agent ids, or a tag.
    agent_pattern: Option<String>,
    /// Glob over metric names.
    metric_pattern: Option<String>,
    comment: Option<String>,
}

impl Channel {
    /// The row as the caller may see it: a URL that takes messages is a secret.
    fn seen_by(role: Role, row: ChannelRow) -> Self {
        Self {
            recipients: manage::masked_recipients(&row, role),
            recipient_type: recipient_type(&row),
            id: row.id,
            name: row.name,
            channel_type: row.channel_type,
            description: row.description,
            min_severity: row.min_severity,
            enabled: row.enabled,
            created_at: Time::from_secs(row.created_at),
            updated_at: Time::from_secs(row.updated_at),
        }
    }
}

impl From<ChannelRow> for ChannelConfig {
    fn from(row: ChannelRow) -> Self {
        let config_json = manage::masked_config(&row);
        Self { config_json, channel: Channel::seen_by(Role::Admin, row) }
    }
}

/// The types of channels, as the table has them.
fn channel_types() -> Object {
    words("What it sends to.", channels::ALL.iter().map(|spec| spec.kind))
}

fn recipient_type(row: &ChannelRow) -> Option<&'static str> {
    channels::find(&row.channel_type).map(|spec| spec.recipient.name())
}

impl SilenceWindow {
    /// The window as answers show it, open or not at the time of the call.
    fn of(row: SilenceRow, call: &Call<'_>) -> Self {
        let window = mute::SilenceWindow::parse(&row).ok();
        let until = window.and_then(|it| it.open_until(call.app.notifier.zone(), call.now_ms));
        Self {
            id: row.id,
            start_time: row.start_time,
            end_time: row.end_time,
            recurrence: row.recurrence,
            days: row.days.map(|days| days.split(',').map(str::to_owned).collect()),
            date: row.date,
            end_date: row.end_date,
            time_zone: row.time_zone,
            agent_pattern: row.agent_pattern,
            metric_pattern: row.metric_pattern,
            starts_at: row.starts_at_ms.map(Time),
            ends_at: row.ends_at_ms.map(Time),
            active_until: until.map(Time),
            comment: row.comment,
            created_by: row.created_by,
            created_at: Time::from_secs(row.created_at),
            updated_at: Time::from_secs(row.updated_at),
        }
    }
}

impl From<NotifyError> for ApiError {
    fn from(error: NotifyError) -> Self {
        match error {
            NotifyError::Invalid(message) => Self::bad(message),
            NotifyError::NotFound(what, key) => Self::not_found(what, &key),
            NotifyError::Conflict(message) => Self::new(Code::Conflict, message),
            NotifyError::Busy(message) => {
                Self { retry_after_secs: Some(10), ..Self::new(Code::Busy, message) }
            }
            NotifyError::Refused(message) => Self::new(Code::Endpoint, message),
            NotifyError::Storage(error) => error.into(),
        }
    }
}

fn list_channels(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let found = call.app.control.read(|db| rows::list(db, Some(page)))?;
    let role = call.who()?.role;
    Ok(Reply::list(&found.map(|row| Channel::seen_by(role, row))))
}

fn get_channel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::channel(&call.app.control, call.param("id"))?;
    Ok(Reply::ok(&Channel::seen_by(call.who()?.role, row)))
}

fn list_configs(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let found = call.app.control.read(|db| rows::list(db, Some(page)))?;
    Ok(Reply::list(&found.map(ChannelConfig::from)))
}

fn get_config(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::channel(&call.app.control, call.param("id"))?;
    Ok(Reply::ok(&ChannelConfig::from(row)))
}

fn create_channel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::create(&call.app.control, call.json()?, call.now_ms)?;
    Ok(Reply::created(&ChannelConfig::from(row)))
}

fn update_channel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let key = call.param("id");
    let row = manage::update(&call.app.control, key, call.json()?, call.now_ms)?;
    Ok(Reply::ok(&ChannelConfig::from(row)))
}

fn remove_channel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::remove(&call.app.control, call.param("id"))?;
    Ok(Reply::ok(&ChannelConfig::from(row)))
}

fn get_recipients(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::channel(&call.app.control, call.param("id"))?;
    let recipients = manage::masked_recipients(&row, call.who()?.role);
    Ok(Reply::list(&Listing::slice(recipients.into_iter(), call.page()?)))
}

fn set_recipients(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: RecipientsBody = call.json()?;
    let input = ChannelInput { recipients: Some(body.recipients), ..ChannelInput::default() };
    let row = manage::update(&call.app.control, call.param("id"), input, call.now_ms)?;
    Ok(Reply::ok(&manage::masked_recipients(&row, Role::Admin)))
}

fn test_channel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let answer = call.app.notifier.test(call.param("id"))?;
    Ok(Reply::ok(&TestAnswer { answer }))
}

fn list_windows(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let found = call.app.control.read(|db| windows::list(db, Some(page)))?;
    Ok(Reply::list(&found.map(|row| SilenceWindow::of(row, call))))
}

/// Spans that one answer holds.
const SPANS_MAX: usize = 1_000;

fn list_spans(call: &Call<'_>) -> Result<Reply, ApiError> {
    let from_ms = call.time("timestamp__gte")?.unwrap_or(call.now_ms);
    let to_ms = call.time("timestamp__lte")?.unwrap_or(from_ms.saturating_add(7 * DAY_MS));
    let rows = call.app.control.read(|db| windows::list(db, None))?.items;
    let zone = call.app.notifier.zone();
    let mut spans: Vec<SilenceSpan> = Vec::new();
    for row in rows {
        let Ok(window) = mute::SilenceWindow::parse(&row) else { continue };
        for (start, end) in window.spans(zone, (from_ms, to_ms), SPANS_MAX - spans.len()) {
            spans.push(SilenceSpan {
                id: row.id.clone(),
                start: Time(start),
                end: Time(end),
                agent_pattern: row.agent_pattern.clone(),
                metric_pattern: row.metric_pattern.clone(),
                comment: row.comment.clone(),
            });
        }
    }
    spans.sort_by_key(|span| span.start.0);
    Ok(Reply::ok(&spans))
}

fn create_window(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut row = manage::new_window(call.json()?, call.app.notifier.zone(), call.now_ms)?;
    row.created_by = Some(call.who()?.username.clone());
    let saved = row.clone();
    call.app.control.write(move |tx| manage::add_window(tx, &saved))?;
    Ok(Reply::created(&SilenceWindow::of(row, call)))
}

fn replace_window(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::new_window(call.json()?, call.app.notifier.zone(), call.now_ms)?;
    let row = manage::replace_window(&call.app.control, call.param("id"), row, call.now_ms)?;
    call.app.notifier.look_now();
    Ok(Reply::ok(&SilenceWindow::of(row, call)))
}

fn remove_window(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = manage::remove_window(&call.app.control, call.param("id"), call.now_ms)?;
    call.app.notifier.look_now();
    Ok(Reply::ok(&SilenceWindow::of(row, call)))
}
