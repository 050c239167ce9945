//! `ntfy`: a push message to topics of ntfy.sh or of an ntfy server.

use base64::Engine as _;
use serde_json::json;

use crate::model::severity::Severity;
use crate::server::notify::channels::config::{Config, Field, FieldKind, some_text, text};
use crate::server::notify::channels::post::{self, Answers, Header, bearer};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Kind;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "ntfy",
    recipient: RecipientKind::Id,
    fields: &[
        Field::optional("topic", FieldKind::Id),
        Field::optional("url", FieldKind::Url),
        Field::optional("token", FieldKind::Secret),
        Field::optional("username", FieldKind::Text),
        Field::optional("password", FieldKind::Secret),
        Field::optional("priority", FieldKind::Number(1, 5)),
        Field::optional("tags", FieldKind::Text),
        Field::LANGUAGE,
    ],
    check,
    targets: |config, recipients| post::targets(config, recipients, "topic"),
    send,
};

/// The public server.
const SERVER: &str = "https://ntfy.sh";
/// Bytes of a message; a longer one would become an attachment (docs.ntfy.sh/publish,
/// "Limitations", and `message-size-limit` of docs.ntfy.sh/config).
const MESSAGE_MAX: usize = 4_096;
const TITLE_MAX: usize = 250;
const ANSWERS: Answers = Answers { code: "/code", text: "/error", id: "/id", ..Answers::STATUS };

fn check(config: &Config) -> Result<(), String> {
    let has = |name| some_text(config, name).is_some();
    match (has("token"), has("username"), has("password")) {
        (true, false, false) | (false, false, false) | (false, true, true) => Ok(()),
        (true, ..) => Err("config_json: token: takes no username and password beside it".into()),
        (false, true, false) => Err("config_json: password: is missing beside username".into()),
        (false, false, true) => Err("config_json: username: is missing beside password".into()),
    }
}

fn send(sending: &Sending<'_>, topic: &str) -> Attempt {
    let config = sending.config;
    let mut body = json!({
        "topic": topic,
        "title": escape::plain(&sending.title(TITLE_MAX)),
        "message": sending.text(escape::plain, MESSAGE_MAX),
        "priority": priority(sending),
        "tags": tags(sending),
    });
    if let Some((link, _)) = sending.link() {
        body["click"] = link.into();
    }
    let url = post::at(config, "url", SERVER, "");
    post::json(sending, &url, &credentials(config), &body, &ANSWERS)
}

fn credentials(config: &Config) -> Vec<Header> {
    if let Some(token) = some_text(config, "token") {
        return vec![bearer(token)];
    }
    let Some(user) = some_text(config, "username") else { return Vec::new() };
    let pair = format!("{user}:{}", text(config, "password"));
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    vec![("Authorization".to_owned(), format!("Basic {pair}"))]
}

/// From 1 to 5, where 3 is the usual one.
fn priority(sending: &Sending<'_>) -> u64 {
    let own = sending.config.get("priority").and_then(serde_json::Value::as_u64);
    match (sending.notification.kind, sending.notification.severity) {
        (Kind::Resolved | Kind::Test, _) | (_, Severity::Info) => own.map_or(3, |own| own.min(3)),
        (_, Severity::Warning) => own.unwrap_or(4),
        (_, Severity::Critical) => own.unwrap_or(5),
    }
}

/// Names of emoji that the apps show before the title, then the configured ones.
fn tags(sending: &Sending<'_>) -> Vec<String> {
    let mark = match (sending.notification.kind, sending.notification.severity) {
        (Kind::Resolved, _) => "white_check_mark",
        (Kind::Test, _) | (_, Severity::Info) => "information_source",
        (_, Severity::Warning) => "warning",
        (_, Severity::Critical) => "rotating_light",
    };
    let own = text(sending.config, "tags").split(',').map(str::trim);
    std::iter::once(mark).chain(own).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}
