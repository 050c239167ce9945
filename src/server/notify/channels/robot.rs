//! What the chat robots share: Markdown that fits, and an `errcode` in an HTTP 200.

use serde_json::Value;

use crate::server::notify::channels::Sending;
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{plain_in_markdown, plain_line_in_markdown};

/// What a robot answers. Codes that pass: the system is busy, or too much was sent within a minute
/// (DingTalk's and WeCom's lists of global error codes).
const ANSWERS: Answers = Answers {
    code: "/errcode",
    text: "/errmsg",
    success: Some("0"),
    passing: &["-1", "130101", "130102", "410100", "45009", "45033", "90018"],
    ..Answers::STATUS
};

/// A heading, a sentence for each event and a link; `bytes_max` bytes at the most.
pub(crate) fn markdown(sending: &Sending<'_>, bytes_max: usize) -> String {
    let heading = format!("### {}\n\n", title(sending));
    let link = sending.link().map(|(link, words)| format!("\n\n[{words}]({link})"));
    let link = link.unwrap_or_default();
    let room = bytes_max.saturating_sub(heading.len() + link.len());
    format!("{heading}{}{link}", sending.text(plain_line_in_markdown, room))
}

/// The title: what hosts, labels and rules are called is plain text in it.
pub(crate) fn title(sending: &Sending<'_>) -> String {
    plain_in_markdown(&sending.title(usize::MAX))
}

/// Posts a message, and takes the robot's own code for the truth.
pub(crate) fn post(sending: &Sending<'_>, url: &str, message: &Value) -> Attempt {
    post::json(sending, url, &[], message, &ANSWERS)
}
