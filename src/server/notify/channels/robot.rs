//! What the chat robots share: Markdown that fits, and an `errcode` in an HTTP 200.

use serde_json::Value;

use crate::server::notify::channels::config::{Config, check_url, text};
use crate::server::notify::channels::{Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Markup;

/// The recipients; `webhook_url` where there are none.
pub(crate) fn targets(config: &Config, recipients: &[String]) -> Vec<String> {
    if recipients.is_empty() {
        return vec![text(config, "webhook_url").to_owned()];
    }
    each_once(recipients.iter().cloned())
}

/// Codes that pass: the system is busy, or too much was sent within a minute (DingTalk's and
/// WeCom's lists of global error codes).
const PASSING: [i64; 7] = [-1, 130_101, 130_102, 410_100, 45_009, 45_033, 90_018];

/// A heading and a line for each event, `bytes_max` bytes at the most.
pub(crate) fn markdown(sending: &Sending<'_>, bytes_max: usize) -> String {
    let heading = format!("### {}\n\n", sending.notification.chat_title());
    let room = bytes_max.saturating_sub(heading.len());
    let lines = sending.notification.lines(Markup::Markdown, sending.zone, room);
    format!("{heading}{}", lines.trim_end())
}

/// The message that `make` makes of the Markdown, whose JSON has `body_bytes_max` bytes at the
/// most: quotes and line ends grow in JSON, so that the text is cut until it fits.
pub(crate) fn fitting(
    sending: &Sending<'_>,
    (text_bytes_max, body_bytes_max): (usize, usize),
    make: impl Fn(String) -> Value,
) -> Value {
    let mut room = text_bytes_max;
    loop {
        let body = make(markdown(sending, room));
        let excess = body.to_string().len().saturating_sub(body_bytes_max);
        if excess == 0 || room == 0 {
            return body;
        }
        room = room.saturating_sub(excess.max(64));
    }
}

/// Posts a message, and takes the robot's own code for the truth.
pub(crate) fn post(sending: &Sending<'_>, url: &str, message: &Value) -> Attempt {
    if let Err(why) = check_url(url) {
        return Attempt::not_sent(why);
    }
    let headers = [("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    let mut outcome = sending.client.post(url, &headers, &message.to_string());
    // A 2xx whose body breaks off has been delivered.
    if outcome.unreachable || (outcome.error.is_none() && outcome.broke_off) {
        return outcome;
    }
    let answer: Value = serde_json::from_str(&outcome.response).unwrap_or(Value::Null);
    match answer.get("errcode").and_then(Value::as_i64) {
        Some(0) => {}
        Some(code) => {
            let what = answer.get("errmsg").and_then(Value::as_str).unwrap_or("no errmsg");
            outcome.error_code = Some(code.to_string());
            outcome.permanent = !PASSING.contains(&code);
            outcome.error = Some(format!("the robot answered errcode {code}: {what}"));
        }
        None if outcome.error.is_none() => {
            outcome.error = Some("the answer is not a robot's: it has no errcode".to_owned());
        }
        None => {}
    }
    outcome
}
