//! `json`: a document for incident tools, POSTed as JSON. Its fields stay what they are;
//! `docs/channels.md` shows it.

use serde_json::{Value, json};

use crate::base::clock::rfc3339;
use crate::model::alert::AlertEvent;
use crate::server::notify::channels::config::{Field, FieldKind, headers, some_text};
use crate::server::notify::channels::post::{self, Answers, bearer};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{Kind, dedup_key};
use crate::server::notify::units::unit;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "json",
    recipient: RecipientKind::Url,
    fields: &[
        Field::optional("url", FieldKind::Url),
        Field::optional("token", FieldKind::Secret),
        Field::optional("headers", FieldKind::Headers),
        Field::LANGUAGE,
    ],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "url"),
    send,
};

/// What the document's shape is called; a shape that breaks readers would have another number.
const VERSION: u32 = 1;

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let mut all = headers(sending.config);
    if let Some(token) = some_text(sending.config, "token") {
        all.push(bearer(token));
    }
    post::json(sending, url, &all, &document(sending), &Answers::STATUS)
}

/// The body.
pub(crate) fn document(sending: &Sending<'_>) -> Value {
    let notification = sending.notification;
    let alerts: Vec<Value> = notification.items.iter().map(|item| alert(item, sending)).collect();
    json!({
        "version": VERSION,
        "notification_id": notification.id,
        "status": notification.kind.name(),
        "severity": notification.severity.name(),
        "rule": {"id": notification.rule_id, "name": notification.rule_name},
        "title": sending.title(usize::MAX),
        "sent_at": rfc3339(notification.created_ms),
        "alerts": alerts,
    })
}

fn alert(item: &AlertEvent, sending: &Sending<'_>) -> Value {
    let ended = (sending.notification.kind == Kind::Resolved).then(|| rfc3339(item.timestamp_ms));
    json!({
        "dedup_key": dedup_key(item),
        "id": item.id,
        "status": sending.notification.kind.name(),
        "severity": item.severity.name(),
        "host": item.agent_id,
        "metric": item.metric_name,
        "labels": item.labels,
        "value": item.value,
        "threshold": item.threshold,
        "unit": unit(&item.metric_name),
        "message": sending.voice.sentence(item, sending.notification.kind),
        "link": sending.voice.event_link(item),
        "started_at": rfc3339(item.first_triggered_at_ms),
        "ended_at": ended,
    })
}
