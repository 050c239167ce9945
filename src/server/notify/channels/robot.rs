//! What the chat robots share: Markdown that fits, and an `errcode` in an HTTP 200.

use serde_json::Value;

use crate::server::notify::channels::config::{Config, check_url, text};
use crate::server::notify::channels::{Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::Markup;

/// `webhook_url`, and what the recipients name besides it.
pub fn targets(config: &Config, recipients: &[String]) -> Vec<String> {
    let own = text(config, "webhook_url").to_owned();
    each_once(std::iter::once(own).chain(recipients.iter().cloned()))
}

/// A heading and a line for each event, `bytes_max` bytes at the most.
pub fn markdown(sending: &Sending<'_>, bytes_max: usize) -> String {
    let heading = format!("### {}\n\n", sending.notification.title());
    let room = bytes_max.saturating_sub(heading.len());
    let lines = sending.notification.lines(Markup::Markdown, sending.zone, room);
    format!("{heading}{}", lines.trim_end())
}

/// Posts a message, and takes the robot's own code for the truth.
pub fn post(sending: &Sending<'_>, url: &str, message: &Value) -> Attempt {
    if let Err(why) = check_url(url) {
        return Attempt::not_sent(why);
    }
    let headers = [("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    let mut outcome = sending.client.post(url, &headers, &message.to_string());
    if outcome.unreachable {
        return outcome;
    }
    let answer: Value = serde_json::from_str(&outcome.response).unwrap_or(Value::Null);
    match answer.get("errcode").and_then(Value::as_i64) {
        Some(0) => {}
        Some(code) => {
            let what = answer.get("errmsg").and_then(Value::as_str).unwrap_or("no errmsg");
            outcome.error_code = Some(code.to_string());
            outcome.error = Some(format!("the robot answered errcode {code}: {what}"));
        }
        None if outcome.error.is_none() => {
            outcome.error = Some("the answer is not a robot's: it has no errcode".to_owned());
        }
        None => {}
    }
    outcome
}
