//! `discord`: Markdown to a webhook of a Discord channel.

use serde_json::json;

use crate::server::notify::channels::config::{Field, FieldKind};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::escaped;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "discord",
    recipient: RecipientKind::Url,
    fields: &[Field::required("webhook_url", FieldKind::Url), Field::LANGUAGE],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "webhook_url"),
    send,
};

/// Characters of `content` (discord.com/developers/docs, "Execute Webhook").
const CONTENT_MAX: usize = 2_000;
/// Bytes of the title once it is escaped.
const TITLE_MAX: usize = 480;
/// `SUPPRESS_EMBEDS`: no preview of a link.
const FLAGS: u32 = 1 << 2;
/// A 429 says the seconds in its body, with a fraction (discord.com/developers/docs, "Rate Limits",
/// "Exceeding A Rate Limit").
const ANSWERS: Answers = Answers {
    code: "/code",
    text: "/message",
    id: "/id",
    wait: ("/retry_after", 1.0),
    ..Answers::STATUS
};

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let title = escaped(&sending.title(TITLE_MAX), escape::discord, TITLE_MAX);
    let link = sending.link().map(|(link, words)| format!("\n[{words}](<{link}>)"));
    let link = link.unwrap_or_default();
    let room = CONTENT_MAX - title.len() - link.len() - "****\n".len();
    let text = sending.text(escape::discord, room);
    let body = json!({
        "content": format!("**{title}**\n{text}{link}"),
        "allowed_mentions": {"parse": []},
        "flags": FLAGS,
    });
    // Without `wait` the answer is empty, also where the message was dropped afterwards.
    let joint = if url.contains('?') { '&' } else { '?' };
    post::json(sending, &format!("{url}{joint}wait=true"), &[], &body, &ANSWERS)
}
