//! `webhook`: a POST to each recipient's URL, or to `url` where there is no recipient.

use serde_json::{Value, json};

use crate::base::clock::rfc3339;
use crate::model::alert::AlertEvent;
use crate::server::notify::channels::config::{
    Config, Field, FieldKind, check_url, headers, some_text,
};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Notification;
use crate::server::notify::template::{self, Escape};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "webhook",
    recipient: RecipientKind::Url,
    fields: &[
        Field::optional("url", FieldKind::Url),
        Field::optional("body_template", FieldKind::Template),
        Field::optional("headers", FieldKind::Headers),
        Field::optional("max_body_bytes", FieldKind::Number(1_000, BODY_BYTES_MAX)),
        Field::LANGUAGE,
    ],
    check,
    targets,
    send,
};

/// Bytes of `{{text}}`.
const TEXT_BYTES_MAX: usize = 16_000;
/// Bytes of a body, where the channel names no limit.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn check(config: &Config) -> Result<(), String> {
    let Some(template) = some_text(config, "body_template") else { return Ok(()) };
    let extra = [("text", "t"), ("link", "l")];
    template::check(template, escape(config), &extra)
        .map_err(|why| format!("config_json: body_template: {why}"))
}

fn targets(config: &Config, recipients: &[String]) -> Vec<String> {
    if recipients.is_empty() {
        return some_text(config, "url").map(str::to_owned).into_iter().collect();
    }
    each_once(recipients.iter().cloned())
}

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    if let Err(why) = check_url(url) {
        return Attempt::not_sent(why);
    }
    let mut headers = headers(sending.config);
    let (body, default_type) = match some_text(sending.config, "body_template") {
        None => (default_body(sending.notification).to_string(), "application/json"),
        Some(template) => {
            let declared = escape(sending.config);
            let text = sending.text(str::to_owned, TEXT_BYTES_MAX);
            let (link, _) = sending.link().unwrap_or_default();
            let extra = [("text", text.as_str()), ("link", link.as_str())];
            match template::fill(template, declared, sending.notification, &extra) {
                Err(why) => return Attempt::not_sent(format!("body_template: {why}")),
                Ok((body, escape)) => (body, escape.content_type()),
            }
        }
    };
    let limit = sending.config.get("max_body_bytes").and_then(Value::as_u64);
    let limit = usize::try_from(limit.unwrap_or(BODY_BYTES_MAX)).unwrap_or(usize::MAX);
    if body.len() > limit && sending.notification.items.len() > 1 {
        return Attempt::too_large(body.len(), limit);
    }
    if content_type(&headers).is_none() {
        headers.push(("Content-Type".to_owned(), default_type.to_owned()));
    }
    sending.client.post(url, &headers, &body)
}

fn escape(config: &Config) -> Option<Escape> {
    let headers = headers(config);
    content_type(&headers).map(Escape::of_type)
}

/// The content type among the headers.
pub(crate) fn content_type(headers: &[(String, String)]) -> Option<&str> {
    let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    found.map(|(_, value)| value.as_str())
}

/// The body without a template; `docs/channels.md` shows it.
pub(crate) fn default_body(notification: &Notification) -> Value {
    let status = notification.kind.name();
    let first = notification.items.first();
    json!({
        // Of the first alert, as the first releases had them.
        "alert_id": first.map(|item| &item.id),
        "agent_id": first.map(|item| &item.agent_id),
        "metric": first.map(|item| &item.metric_name),
        "value": first.map(|item| item.value),
        "threshold": first.map(|item| item.threshold),
        "timestamp": first.map(|item| rfc3339(item.timestamp_ms)),
        "labels": first.map(|item| item.labels.to_map()),
        "notification_id": notification.id,
        "status": status,
        "severity": notification.severity.name(),
        "rule_id": notification.rule_id,
        "rule_name": notification.rule_name,
        "title": notification.title(),
        "message": notification.summary(),
        "count": notification.items.len(),
        "sent_at": rfc3339(notification.created_ms),
        "alerts": notification.items.iter().map(alert).collect::<Vec<_>>(),
    })
}

fn alert(item: &AlertEvent) -> Value {
    json!({
        "id": item.id,
        "agent_id": item.agent_id,
        "metric_name": item.metric_name,
        "labels": item.labels,
        "value": item.value,
        "threshold": item.threshold,
        "message": item.message,
        "timestamp": rfc3339(item.timestamp_ms),
        "first_triggered_at": rfc3339(item.first_triggered_at_ms),
        "predicted_breach": item.predicted_breach_ms.map(rfc3339),
    })
}
