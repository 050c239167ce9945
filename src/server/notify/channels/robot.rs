//! What the chat robots share: Markdown that fits, and an `errcode` in an HTTP 200.

use serde_json::Value;

use crate::server::notify::channels::Sending;
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Markup;

/// What a robot answers. Codes that pass: the system is busy, or too much was sent within a minute
/// (DingTalk's and WeCom's lists of global error codes).
const ANSWERS: Answers = Answers {
    code: "/errcode",
    text: "/errmsg",
    success: Some("0"),
    passing: &["-1", "130101", "130102", "410100", "45009", "45033", "90018"],
    ..Answers::STATUS
};

/// A heading and a line for each event, `bytes_max` bytes at the most.
pub(crate) fn markdown(sending: &Sending<'_>, bytes_max: usize) -> String {
    let heading = format!("### {}\n\n", sending.notification.chat_title());
    let room = bytes_max.saturating_sub(heading.len());
    let lines = sending.notification.lines(Markup::Markdown, sending.zone, room);
    format!("{heading}{}", lines.trim_end())
}

/// Posts a message, and takes the robot's own code for the truth.
pub(crate) fn post(sending: &Sending<'_>, url: &str, message: &Value) -> Attempt {
    post::json(sending, url, &[], message, &ANSWERS)
}
