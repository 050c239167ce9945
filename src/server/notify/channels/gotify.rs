//! `gotify`: a push message to a Gotify server.

use serde_json::{Value, json};

use crate::model::severity::Severity;
use crate::server::notify::channels::config::{Field, FieldKind, text};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Kind;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "gotify",
    recipient: RecipientKind::None,
    fields: &[
        Field::required("url", FieldKind::Url),
        Field::required("token", FieldKind::Secret),
        Field::optional("priority", FieldKind::Number(0, 10)),
        Field::LANGUAGE,
    ],
    check: |_| Ok(()),
    targets: |config, _| post::targets(config, &[], "url"),
    send,
};

/// Bytes of a message: gotify.net/docs/pushmsg names no limit, and the apps show a screen of it.
const MESSAGE_MAX: usize = 8_000;
const TITLE_MAX: usize = 250;
const ANSWERS: Answers =
    Answers { code: "/errorCode", text: "/errorDescription", id: "/id", ..Answers::STATUS };

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let mut extras = json!({"client::display": {"contentType": "text/plain"}});
    if let Some((link, _)) = sending.link() {
        extras["client::notification"] = json!({"click": {"url": link}});
    }
    let body = json!({
        "title": escape::plain(&sending.title(TITLE_MAX)),
        "message": sending.text(escape::plain, MESSAGE_MAX),
        "priority": priority(sending),
        "extras": extras,
    });
    let key = ("X-Gotify-Key".to_owned(), text(sending.config, "token").to_owned());
    let url = format!("{}/message", url.trim_end_matches('/'));
    post::json(sending, &url, &[key], &body, &ANSWERS)
}

/// From 0 to 10: the apps make a sound from 4 on, and interrupt from 8 on.
fn priority(sending: &Sending<'_>) -> u64 {
    let own = sending.config.get("priority").and_then(Value::as_u64);
    match (sending.notification.kind, sending.notification.severity) {
        (Kind::Resolved | Kind::Test, _) | (_, Severity::Info) => own.map_or(4, |own| own.min(4)),
        (_, Severity::Warning) => own.unwrap_or(6),
        (_, Severity::Critical) => own.unwrap_or(8),
    }
}
