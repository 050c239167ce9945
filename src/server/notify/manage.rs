//! Making and changing channels and silence windows: the checks that the API and the seed share.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Transaction;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::base::clock::{SECOND_MS, parse_rfc3339};
use crate::base::ids::new_id;
use crate::base::limits::{
    CHANNELS_MAX, RECIPIENTS_MAX, SILENCE_SECS_MAX, SILENCE_WINDOWS_MAX, TEXT_BYTES_MAX,
};
use crate::model::role::Role;
use crate::model::severity::Severity;
use crate::server::control::Control;
use crate::server::control::notify::channels::{self as rows, ChannelRow};
use crate::server::control::notify::silence::{self as windows, SilenceRow};
use crate::server::notify::NotifyError;
use crate::server::notify::channels::config::{self, Config};
use crate::server::notify::channels::{self, ChannelType, url};
use crate::server::notify::mute::SilenceWindow;

/// A channel to be made, or what of one is to be changed: fields that are left out stay.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "docs/channels.md documents the fields")]
pub(crate) struct ChannelInput {
    pub name: Option<String>,
    pub channel_type: Option<String>,
    pub description: Option<String>,
    pub min_severity: Option<Severity>,
    pub enabled: Option<bool>,
    /// A string that holds a JSON object, or the object.
    #[serde(alias = "config")]
    pub config_json: Option<Value>,
    pub recipients: Option<Vec<String>>,
}

/// A silence window to be made.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "server::notify::mute documents the fields")]
pub(crate) struct SilenceInput {
    /// `HH:MM`; left out where `ends_at` or `duration_secs` says when it is.
    pub start_time: Option<String>,
    /// `HH:MM`.
    pub end_time: Option<String>,
    /// When it begins, RFC 3339. Default, beside an end: now.
    pub starts_at: Option<String>,
    /// When it ends, RFC 3339.
    pub ends_at: Option<String>,
    /// Seconds from its begin to its end, in place of `ends_at`.
    pub duration_secs: Option<u64>,
    /// `daily`, `weekly`, `none`.
    pub recurrence: Option<String>,
    /// Days on which a weekly window starts, such as `sat`.
    pub days: Option<Vec<String>>,
    /// Day on which a window that comes once starts, such as `2026-02-09`.
    pub date: Option<String>,
    /// Day on which it ends.
    pub end_date: Option<String>,
    /// Such as `Europe/Berlin`. Default: the server's.
    pub time_zone: Option<String>,
    /// Glob over agent ids, or a tag: `tag:web`.
    pub agent_pattern: Option<String>,
    /// Glob over metric names.
    pub metric_pattern: Option<String>,
    /// Why.
    pub comment: Option<String>,
}

fn invalid(message: impl Into<String>) -> NotifyError {
    NotifyError::Invalid(message.into())
}

/// The channel with this id or name.
///
/// # Errors
///
/// When there is none, or the database fails.
pub(crate) fn channel(control: &Control, key: &str) -> Result<ChannelRow, NotifyError> {
    let found = control.read(|db| rows::find(db, key))?;
    found.ok_or_else(|| NotifyError::NotFound("channel", key.to_owned()))
}

/// Makes a channel.
///
/// # Errors
///
/// Names the field that can't be taken; a conflict when the name is taken.
pub(crate) fn create(
    control: &Control,
    input: ChannelInput,
    now_ms: i64,
) -> Result<ChannelRow, NotifyError> {
    let row = new_channel(input, now_ms)?;
    control.write(move |tx| {
        if rows::count(tx)? >= CHANNELS_MAX {
            return Err(NotifyError::Conflict(format!(
                "there are {CHANNELS_MAX} channels already"
            )));
        }
        put(tx, &row)?;
        Ok(row)
    })
}

/// A checked channel from a whole input, not written yet.
///
/// # Errors
///
/// Names the field that can't be taken.
pub(crate) fn new_channel(input: ChannelInput, now_ms: i64) -> Result<ChannelRow, NotifyError> {
    if input.name.is_none() {
        return Err(invalid("name: is missing"));
    }
    if input.channel_type.is_none() {
        return Err(invalid(format!(
            "channel_type: is missing; it is one of {}",
            channels::kinds()
        )));
    }
    if input.config_json.is_none() {
        return Err(invalid("config_json: is missing; a webhook's may be {}"));
    }
    let row = ChannelRow {
        id: new_id(),
        name: String::new(),
        channel_type: String::new(),
        description: None,
        min_severity: Severity::Info,
        enabled: true,
        config_json: "{}".to_owned(),
        recipients: Vec::new(),
        created_at: now_ms / SECOND_MS,
        updated_at: now_ms / SECOND_MS,
    };
    changed(row, input, now_ms)
}

/// Changes a channel.
///
/// # Errors
///
/// Names the field that can't be taken; a conflict when the name is taken.
pub(crate) fn update(
    control: &Control,
    key: &str,
    input: ChannelInput,
    now_ms: i64,
) -> Result<ChannelRow, NotifyError> {
    let key = key.to_owned();
    control.write(move |tx| {
        let row = rows::find(tx, &key)?;
        let row = row.ok_or_else(|| NotifyError::NotFound("channel", key.clone()))?;
        let row = changed(row, input, now_ms)?;
        put(tx, &row)?;
        Ok(row)
    })
}

/// Removes a channel and gives what it was.
///
/// # Errors
///
/// When there is none, or the database fails.
pub(crate) fn remove(control: &Control, key: &str) -> Result<ChannelRow, NotifyError> {
    let key = key.to_owned();
    control.write(move |tx| {
        let row = rows::find(tx, &key)?;
        let row = row.ok_or_else(|| NotifyError::NotFound("channel", key.clone()))?;
        rows::remove(tx, &row.id)?;
        Ok(row)
    })
}

/// Writes a checked channel.
///
/// # Errors
///
/// A conflict when another channel has its name, or there are too many; when the database fails.
pub(crate) fn put(tx: &Transaction<'_>, row: &ChannelRow) -> Result<(), NotifyError> {
    if rows::name_taken(tx, &row.name, &row.id)? {
        return Err(NotifyError::Conflict(format!("name: a channel `{}` exists", row.name)));
    }
    if rows::count(tx)? >= CHANNELS_MAX && rows::find(tx, &row.id)?.is_none() {
        return Err(NotifyError::Conflict(format!("there are {CHANNELS_MAX} channels already")));
    }
    Ok(rows::put(tx, row)?)
}

fn changed(
    mut row: ChannelRow,
    input: ChannelInput,
    now_ms: i64,
) -> Result<ChannelRow, NotifyError> {
    if let Some(name) = input.name {
        if name.trim().is_empty() {
            return Err(invalid("name: must not be empty"));
        }
        row.name = text("name", name)?;
    }
    if let Some(description) = input.description {
        row.description = Some(text("description", description)?);
    }
    let new_type = input.channel_type.filter(|kind| *kind != row.channel_type);
    let same_type = new_type.is_none();
    row.channel_type = new_type.unwrap_or(row.channel_type);
    let Some(spec) = channels::find(&row.channel_type) else {
        let kinds = channels::kinds();
        let shown: String = row.channel_type.chars().take(64).collect();
        return Err(invalid(format!("channel_type: `{shown}` is not one of {kinds}")));
    };
    row.min_severity = input.min_severity.unwrap_or(row.min_severity);
    row.enabled = input.enabled.unwrap_or(row.enabled);
    let stored: Config = if same_type {
        serde_json::from_str(&row.config_json).unwrap_or_default()
    } else {
        Config::new()
    };
    let known = (spec.targets)(&stored, &row.recipients);
    let mut kept = config::secret_fields(spec.fields, &stored);
    if input.config_json.is_some() || !same_type {
        (row.config_json, kept) = checked_config(spec, input.config_json, &stored)?;
    }
    if let Some(recipients) = input.recipients {
        row.recipients = if spec.recipient == channels::RecipientKind::Url {
            unmasked_recipients(recipients, &row.recipients)?
        } else {
            recipients
        };
    }
    row.recipients = checked_recipients(spec, row.recipients)?;
    let config: Config = serde_json::from_str(&row.config_json).unwrap_or_default();
    let targets = (spec.targets)(&config, &row.recipients);
    let by_url = spec.recipient == channels::RecipientKind::Url;
    if targets.is_empty() && (by_url || spec.recipient == channels::RecipientKind::Id) {
        let field = spec.fields.iter().find(|field| field.kind == config::FieldKind::Id);
        let field = field.map_or("url", |field| field.name);
        return Err(invalid(format!(
            "config_json: {field}: is missing, and there are no recipients either"
        )));
    }
    if by_url {
        check_secrets_stay(&kept, &known, &targets)?;
    }
    row.updated_at = now_ms / SECOND_MS;
    Ok(row)
}

fn text(field: &str, text: String) -> Result<String, NotifyError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid(format!("{field}: must have at most {TEXT_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("{field}: must not hold control characters")));
    }
    Ok(text)
}

fn checked_config(
    spec: &ChannelType,
    given: Option<Value>,
    stored: &Config,
) -> Result<(String, Vec<&'static str>), NotifyError> {
    let given = given.unwrap_or(Value::Null);
    let object = match given {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| invalid(format!("config_json: is not valid JSON: {error}")))?,
        other => other,
    };
    let Value::Object(mut config) = object else {
        return Err(invalid("config_json: must be a JSON object, or a string that holds one"));
    };
    config.retain(|_, value| !value.is_null());
    let kept = config::unmask(spec.fields, &mut config, stored).map_err(invalid)?;
    config::check(spec.fields, &config).map_err(invalid)?;
    (spec.check)(&config).map_err(invalid)?;
    Ok((Value::Object(config).to_string(), kept))
}

/// Stored secrets go to no host that they were not meant for.
fn check_secrets_stay(
    kept: &[&'static str],
    known: &[String],
    targets: &[String],
) -> Result<(), NotifyError> {
    let (Some(field), false) = (kept.first(), known.is_empty()) else { return Ok(()) };
    let is_new =
        |target: &&String| known.iter().all(|other| url::origin(other) != url::origin(target));
    match targets.iter().find(is_new) {
        None => Ok(()),
        Some(target) => Err(invalid(format!(
            "config_json: {field}: must be given again, because {} is a new recipient",
            url::mask_path(target)
        ))),
    }
}

/// Recipients with the stored ones in place of what reads as they do when they are masked. Those
/// that read alike keep their order.
fn unmasked_recipients(given: Vec<String>, stored: &[String]) -> Result<Vec<String>, NotifyError> {
    let counts = |list: &[String], masked: &String| {
        list.iter().filter(|other| url::mask_url(other) == *masked).count()
    };
    let alike = given.clone();
    let mut whole = Vec::with_capacity(given.len());
    for (index, recipient) in given.into_iter().enumerate() {
        if !url::has_mask(&recipient) {
            whole.push(recipient);
            continue;
        }
        if counts(&alike, &recipient) < counts(stored, &recipient) {
            return Err(invalid(format!(
                "recipients: several read `{recipient}`: give those that remain in full"
            )));
        }
        let turn = alike[..index].iter().filter(|other| **other == recipient).count();
        let mut found = stored.iter().filter_map(|old| url::restored(&recipient, old));
        whole.push(found.nth(turn).unwrap_or(recipient));
    }
    Ok(whole)
}

fn checked_recipients(spec: &ChannelType, given: Vec<String>) -> Result<Vec<String>, NotifyError> {
    if given.len() > RECIPIENTS_MAX {
        return Err(invalid(format!("recipients: must be at most {RECIPIENTS_MAX}")));
    }
    let mut kept: Vec<String> = Vec::new();
    for recipient in given {
        let recipient = recipient.trim().to_owned();
        if recipient.len() > TEXT_BYTES_MAX {
            return Err(invalid(format!("recipients: each has at most {TEXT_BYTES_MAX} bytes")));
        }
        spec.recipient.check(&recipient).map_err(|why| invalid(format!("recipients: {why}")))?;
        if !kept.contains(&recipient) {
            kept.push(recipient);
        }
    }
    Ok(kept)
}

/// The channel's configuration as it is given out: a JSON string, secrets masked.
pub(crate) fn masked_config(row: &ChannelRow) -> String {
    let config: Config = serde_json::from_str(&row.config_json).unwrap_or_default();
    let fields = channels::find(&row.channel_type).map_or(&[][..], |spec| spec.fields);
    Value::Object(config::mask(fields, &config)).to_string()
}

/// The channel's recipients as they are given out: of a URL without its tokens, and to someone who
/// may not see the configuration the host alone, since the rest is often all that a message needs.
pub(crate) fn masked_recipients(row: &ChannelRow, role: Role) -> Vec<String> {
    let is_url = channels::find(&row.channel_type)
        .is_none_or(|spec| spec.recipient == channels::RecipientKind::Url);
    let mask = match (is_url, role) {
        (false, _) => str::to_owned,
        (true, Role::Admin) => url::mask_url,
        (true, _) => url::mask_path,
    };
    row.recipients.iter().map(|recipient| mask(recipient)).collect()
}

/// Start and end of a window that goes from one moment to another, Unix milliseconds; `None` for
/// one by the clock.
fn span_of(input: &SilenceInput, now_ms: i64) -> Result<Option<(i64, i64)>, NotifyError> {
    let time = |field: &str, given: &Option<String>| {
        let parsed = given.as_deref().map(|text| {
            let wrong = || invalid(format!("{field}: must be an RFC 3339 time"));
            parse_rfc3339(text).ok_or_else(wrong)
        });
        parsed.transpose()
    };
    let (starts, ends) = (time("starts_at", &input.starts_at)?, time("ends_at", &input.ends_at)?);
    if starts.is_none() && ends.is_none() && input.duration_secs.is_none() {
        return Ok(None);
    }
    if input.start_time.is_some() || input.end_time.is_some() || input.days.is_some() {
        return Err(invalid("start_time: is given beside `starts_at`, `ends_at` or a duration"));
    }
    if input.recurrence.as_deref().is_some_and(|recurrence| recurrence != "none") {
        return Err(invalid("recurrence: a window from a moment to another comes once"));
    }
    let start_ms = starts.unwrap_or(now_ms);
    let end_ms = match (ends, input.duration_secs) {
        (Some(_), Some(_)) => {
            return Err(invalid("duration_secs: is given beside `ends_at`"));
        }
        (Some(end_ms), None) => end_ms,
        (None, Some(secs)) if (1..=SILENCE_SECS_MAX).contains(&secs) => {
            start_ms.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX) * SECOND_MS)
        }
        (None, Some(_)) => {
            return Err(invalid(format!("duration_secs: must be 1 to {SILENCE_SECS_MAX}")));
        }
        (None, None) => return Err(invalid("ends_at: is missing")),
    };
    Ok(Some((start_ms, end_ms)))
}

/// Day and time of a moment as a clock of a zone shows them.
fn local(at_ms: i64, zone: &TimeZone) -> (Option<String>, String) {
    let Ok(moment) = Timestamp::from_millisecond(at_ms) else { return (None, String::new()) };
    let local = moment.to_zoned_datetime(zone.clone());
    (Some(local.date().to_string()), format!("{:02}:{:02}", local.hour(), local.minute()))
}

/// A checked window, not written yet.
///
/// # Errors
///
/// Names the field that can't be taken.
pub(crate) fn new_window(
    input: SilenceInput,
    zone_of_server: &TimeZone,
    now_ms: i64,
) -> Result<SilenceRow, NotifyError> {
    let span = span_of(&input, now_ms)?;
    let comment = input.comment.map(|comment| text("comment", comment)).transpose()?;
    let mut row = SilenceRow {
        id: new_id(),
        start_time: input.start_time.unwrap_or_default(),
        end_time: input.end_time.unwrap_or_default(),
        recurrence: input.recurrence,
        days: input.days.map(|days| days.join(",")),
        date: input.date,
        end_date: input.end_date,
        time_zone: input.time_zone,
        agent_pattern: input.agent_pattern,
        metric_pattern: input.metric_pattern,
        starts_at_ms: span.map(|(start, _)| start),
        ends_at_ms: span.map(|(_, end)| end),
        comment: comment.filter(|comment| !comment.is_empty()),
        created_by: None,
        created_at: now_ms / SECOND_MS,
        updated_at: now_ms / SECOND_MS,
    };
    if let Some((start_ms, end_ms)) = span {
        let zone = row.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let zone = zone.as_ref().unwrap_or(zone_of_server);
        (row.date, row.start_time) = local(start_ms, zone);
        (row.end_date, row.end_time) = local(end_ms, zone);
        if row.recurrence.as_deref() == Some("none") {
            row.recurrence = None;
        }
        SilenceWindow::parse(&row).map_err(invalid)?;
        return Ok(row);
    }
    SilenceWindow::complete(&mut row, zone_of_server, now_ms).map_err(invalid)?;
    Ok(row)
}

/// Writes a checked window.
///
/// # Errors
///
/// A conflict when there are too many; when the database fails.
pub(crate) fn add_window(tx: &Transaction<'_>, row: &SilenceRow) -> Result<(), NotifyError> {
    if windows::count(tx)? >= SILENCE_WINDOWS_MAX {
        let message = format!("there are {SILENCE_WINDOWS_MAX} silence windows already");
        return Err(NotifyError::Conflict(message));
    }
    Ok(windows::insert(tx, row)?)
}

/// Puts a checked window in the place of another; what that held back is routed again.
///
/// # Errors
///
/// When there is none with this id, or the database fails.
pub(crate) fn replace_window(
    control: &Control,
    id: &str,
    mut row: SilenceRow,
    now_ms: i64,
) -> Result<SilenceRow, NotifyError> {
    let id = id.to_owned();
    control.write(move |tx| {
        let old = windows::find(tx, &id)?;
        let old = old.ok_or_else(|| NotifyError::NotFound("silence window", id.clone()))?;
        row.id = id;
        row.created_at = old.created_at;
        row.created_by = old.created_by;
        windows::insert(tx, &row)?;
        windows::look_again(tx, now_ms)?;
        Ok(row)
    })
}

/// Removes a window; what it held back is routed again.
///
/// # Errors
///
/// When there is none, or the database fails.
pub(crate) fn remove_window(
    control: &Control,
    id: &str,
    now_ms: i64,
) -> Result<SilenceRow, NotifyError> {
    let id = id.to_owned();
    control.write(move |tx| {
        let row = windows::find(tx, &id)?;
        let row = row.ok_or_else(|| NotifyError::NotFound("silence window", id.clone()))?;
        windows::remove(tx, &id, now_ms)?;
        Ok(row)
    })
}

#[cfg(test)]
mod tests;
