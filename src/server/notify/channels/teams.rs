//! `teams`: an Adaptive Card to a workflow of Microsoft Teams ("Post to a channel when a webhook
//! request is received").

use serde_json::{Value, json};

use crate::server::notify::channels::config::{Field, FieldKind};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "teams",
    recipient: RecipientKind::Url,
    fields: &[Field::required("webhook_url", FieldKind::Url), Field::LANGUAGE],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "webhook_url"),
    send,
};

/// Bytes of the text, and of the body: a message has about 28 KB at the most, counted in UTF-16
/// (learn.microsoft.com/connectors/teams, "Known issues and limitations with actions").
const BYTES_MAX: (usize, usize) = (10_000, 13_000);
const ANSWERS: Answers = Answers { code: "/error/code", text: "/error/message", ..Answers::STATUS };

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let body = post::fitting(BYTES_MAX, |room| message(sending, room));
    post::json(sending, url, &[], &body, &ANSWERS)
}

fn message(sending: &Sending<'_>, room: usize) -> Value {
    let text = sending.text(escape::plain, room);
    let mut rows = vec![row(&escape::plain(&sending.title(room)), true)];
    rows.extend(text.lines().map(|line| row(line, false)));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": rows,
        "msteams": {"width": "Full"},
    });
    if let Some((link, words)) = sending.link() {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": words, "url": link}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

/// Text runs, unlike text blocks, know no Markdown.
fn row(text: &str, is_title: bool) -> Value {
    let (size, weight) = if is_title { ("Medium", "Bolder") } else { ("Default", "Default") };
    json!({
        "type": "RichTextBlock",
        "inlines": [{"type": "TextRun", "text": text, "size": size, "weight": weight}],
    })
}
