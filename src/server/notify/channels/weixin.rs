//! `weixin`: Markdown to a WeCom group's robot.

use serde_json::json;

use crate::server::notify::channels::config::{Field, FieldKind};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, post, robot};
use crate::server::notify::client::Attempt;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "weixin",
    recipient: RecipientKind::Url,
    fields: &[Field::required("webhook_url", FieldKind::Url), Field::LANGUAGE],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "webhook_url"),
    send,
};

/// Bytes of a message's text in UTF-8 that the robot takes.
const TEXT_BYTES_MAX: usize = 4_096;

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let content = robot::markdown(sending, TEXT_BYTES_MAX);
    let body = json!({"msgtype": "markdown", "markdown": {"content": content}});
    robot::post(sending, url, &body)
}
