//! `pushover`: a push message over Pushover.

use serde_json::{Value, json};

use crate::model::severity::Severity;
use crate::server::notify::channels::config::{Config, Field, FieldKind, some_text, text};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{Kind, escaped};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "pushover",
    recipient: RecipientKind::None,
    fields: &[
        Field::required("token", FieldKind::Secret),
        Field::required("user_key", FieldKind::Secret),
        Field::optional("device", FieldKind::Text),
        Field::optional("sound", FieldKind::Text),
        Field::optional("retry", FieldKind::Number(30, EXPIRE_MAX)),
        Field::optional("expire", FieldKind::Number(30, EXPIRE_MAX)),
        Field::optional("api_url", FieldKind::Url),
        Field::LANGUAGE,
    ],
    check,
    targets: |config, _| vec![post::at(config, "api_url", API, "")],
    send,
};

/// Where messages are sent.
const API: &str = "https://api.pushover.net";
/// Seconds for which an emergency is repeated at the most.
const EXPIRE_MAX: u64 = 10_800;
/// Characters of a message, a title and a link (pushover.net/api, "Limitations"). JSON is taken
/// with its content type ("Pushing Messages").
const MESSAGE_MAX: usize = 1_024;
const TITLE_MAX: usize = 250;
const LINK_MAX: usize = 512;
const ANSWERS: Answers = Answers { text: "/errors", id: "/request", ..Answers::STATUS };

fn check(config: &Config) -> Result<(), String> {
    match (config.get("retry"), config.get("expire")) {
        (Some(_), None) => Err("config_json: expire: is missing beside retry".to_owned()),
        (None, Some(_)) => Err("config_json: retry: is missing beside expire".to_owned()),
        _ => Ok(()),
    }
}

fn send(sending: &Sending<'_>, api: &str) -> Attempt {
    let config = sending.config;
    let mut body = json!({
        "token": text(config, "token"),
        "user": text(config, "user_key"),
        "title": escaped(&sending.title(TITLE_MAX), escape::plain, TITLE_MAX),
        "message": sending.text(escape::plain, MESSAGE_MAX),
        "timestamp": sending.notification.created_ms / crate::base::clock::SECOND_MS,
        "priority": priority(sending),
    });
    for name in ["device", "sound"] {
        if let Some(value) = some_text(config, name) {
            body[name] = value.into();
        }
    }
    if body["priority"] == EMERGENCY {
        for name in ["retry", "expire"] {
            body[name] = config.get(name).cloned().unwrap_or(Value::Null);
        }
    }
    if let Some((link, words)) = sending.link().filter(|(link, _)| link.len() <= LINK_MAX) {
        body["url"] = link.into();
        body["url_title"] = words.into();
    }
    post::json(sending, &format!("{api}/1/messages.json"), &[], &body, &ANSWERS)
}

/// Repeated until someone confirms it.
const EMERGENCY: i64 = 2;

/// From -2 to 2: quiet, usual, past quiet hours, and an emergency where one is configured.
fn priority(sending: &Sending<'_>) -> i64 {
    match (sending.notification.kind, sending.notification.severity) {
        (Kind::Firing, Severity::Critical) if sending.config.contains_key("retry") => EMERGENCY,
        (Kind::Firing, Severity::Critical) => 1,
        (Kind::Firing, Severity::Info) => -1,
        _ => 0,
    }
}
