//! `slack`: blocks to an incoming webhook of Slack, or of a chat that speaks its format.

use serde_json::json;

use crate::server::notify::channels::config::{Field, FieldKind};
use crate::server::notify::channels::post::{self, Answers, BODY};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::escaped;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "slack",
    recipient: RecipientKind::Url,
    fields: &[Field::required("webhook_url", FieldKind::Url), Field::LANGUAGE],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "webhook_url"),
    send,
};

/// Characters of a header block's and a section block's text (docs.slack.dev, Block Kit: "Header
/// block", "Section block").
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3_000;
/// A refusal is a word in plain text beside the status: 400 `invalid_payload`, 403
/// `action_prohibited`, 404 `channel_not_found` or `no_service`, 410 `channel_is_archived`, and 500
/// `rollup_error`, which may pass (api.slack.com/changelog, 2016-05-17, "Improving error conditions
/// for Incoming Webhooks").
const ANSWERS: Answers = Answers { code: BODY, ..Answers::STATUS };

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let title = sending.title(HEADER_MAX);
    let header = escaped(&title, escape::plain, HEADER_MAX);
    let mut text = sending.text(escape::slack, SECTION_MAX - LINK_MAX);
    if let Some((link, words)) = sending.link() {
        text.push_str(&format!("\n<{link}|{words}>"));
    }
    let body = json!({
        // What a notification shows, where blocks are not.
        "text": escaped(&title, escape::slack, SECTION_MAX),
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": header, "emoji": false},
            },
            {
                "type": "section",
                // Without `verbatim` Slack would make links and mentions of what looks like some.
                "text": {"type": "mrkdwn", "text": text, "verbatim": true},
            },
        ],
        "unfurl_links": false,
        "unfurl_media": false,
    });
    post::json(sending, url, &[], &body, &ANSWERS)
}

/// Bytes kept free for the link.
const LINK_MAX: usize = 600;
