//! `telegram`: HTML from a Telegram bot to its chats.

use serde_json::json;

use crate::server::notify::channels::config::{self, Field, FieldKind};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{escape_html, escaped};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "telegram",
    recipient: RecipientKind::Id,
    fields: &[
        Field::required("bot_token", FieldKind::Secret),
        Field::optional("chat_id", FieldKind::Id),
        Field::optional("api_url", FieldKind::Url),
        Field::LANGUAGE,
    ],
    check: |given| {
        // It becomes a part of the address.
        let fits = |c: char| c.is_ascii_alphanumeric() || ":_-".contains(c);
        if config::text(given, "bot_token").chars().all(fits) {
            return Ok(());
        }
        Err("config_json: bot_token: must be a token such as 123456:ABC-DEF".to_owned())
    },
    targets: |config, recipients| post::targets(config, recipients, "chat_id"),
    send,
};

/// Where bots are served, unless `api_url` names a server of one's own.
const API: &str = "https://api.telegram.org";
/// Characters of a message "after entities parsing", so without its tags
/// (core.telegram.org/bots/api, `sendMessage`); a 429 says the seconds (`ResponseParameters`).
const TEXT_MAX: usize = 4_096;
const TITLE_MAX: usize = 480;
const ANSWERS: Answers = Answers {
    code: "/error_code",
    text: "/description",
    id: "/result/message_id",
    wait: ("/parameters/retry_after", 1.0),
    ..Answers::STATUS
};

fn send(sending: &Sending<'_>, chat: &str) -> Attempt {
    let title = escaped(&sending.title(TITLE_MAX), escape::html, TITLE_MAX);
    let link = sending.link().map(|(link, words)| {
        format!("\n<a href=\"{}\">{}</a>", escape_html(&link), escape_html(words))
    });
    let link = link.unwrap_or_default();
    let room = TEXT_MAX - title.len() - link.len() - "<b></b>\n".len();
    let text = sending.text(escape::html, room);
    let body = json!({
        "chat_id": chat,
        "text": format!("<b>{title}</b>\n{text}{link}"),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": true},
    });
    let path = format!("/bot{}/sendMessage", config::text(sending.config, "bot_token"));
    let url = post::at(sending.config, "api_url", API, &path);
    post::json(sending, &url, &[], &body, &ANSWERS)
}
