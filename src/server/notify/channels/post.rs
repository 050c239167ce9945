//! JSON to an HTTP endpoint, and what its answer says: shared by chats, push services and incident
//! tools.

use std::time::Duration;

use serde_json::Value;

use crate::server::notify::channels::config::{Config, check_url, some_text};
use crate::server::notify::channels::{Sending, each_once};
use crate::server::notify::client::Attempt;

/// The recipients; where there are none, what `field` of the configuration names.
pub(crate) fn targets(config: &Config, recipients: &[String], field: &str) -> Vec<String> {
    if recipients.is_empty() {
        return some_text(config, field).map(str::to_owned).into_iter().collect();
    }
    each_once(recipients.iter().cloned())
}

/// A base URL with a path behind it; `default` is the vendor's own.
pub(crate) fn at(config: &Config, field: &str, default: &str, path: &str) -> String {
    let base = some_text(config, field).unwrap_or(default);
    format!("{}{path}", base.trim_end_matches('/'))
}

/// A header's name and value.
pub(crate) type Header = (String, String);

/// `Authorization: Bearer TOKEN`.
pub(crate) fn bearer(token: &str) -> Header {
    ("Authorization".to_owned(), format!("Bearer {token}"))
}

/// The pointer of [`Answers`] that means the whole body, where that is one short word.
pub(crate) const BODY: &str = "body";

/// Where an endpoint's JSON answer says what, as JSON pointers (RFC 6901); empty for what it never
/// says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answers {
    /// The endpoint's own code.
    pub code: &'static str,
    /// What is wrong, in words.
    pub text: &'static str,
    /// The id of the message that it took.
    pub id: &'static str,
    /// How long to wait before the next attempt, and seconds in one of its units.
    pub wait: (&'static str, f64),
    /// The code of success, for an endpoint that refuses within HTTP 200.
    pub success: Option<&'static str>,
    /// Codes of refusals that pass: the same message may be taken later.
    pub passing: &'static [&'static str],
}

impl Answers {
    /// An endpoint whose HTTP status says it all.
    pub(crate) const STATUS: Self =
        Self { code: "", text: "", id: "", wait: ("", 1.0), success: None, passing: &[] };

    /// Adds to an attempt what the answer says.
    fn read(&self, outcome: &mut Attempt) {
        // A 2xx whose body breaks off has been delivered.
        if outcome.unreachable || (outcome.error.is_none() && outcome.broke_off) {
            return;
        }
        let answer: Value = serde_json::from_str(&outcome.response).unwrap_or(Value::Null);
        let code = word(&answer, self.code, &outcome.response);
        let text = word(&answer, self.text, "");
        if let Some(id) = word(&answer, self.id, "") {
            outcome.message_id = Some(id);
        }
        if outcome.retry_after.is_none() {
            let wait = answer.pointer(self.wait.0).and_then(Value::as_f64);
            let wait = wait.map(|wait| Duration::try_from_secs_f64(wait * self.wait.1));
            outcome.retry_after = wait.and_then(Result::ok);
        }
        let passing = code.as_deref().is_some_and(|code| self.passing.contains(&code));
        match (self.success, code) {
            (Some(success), Some(code)) if code == success => {}
            (Some(_), Some(code)) => {
                let name = self.code.trim_start_matches('/');
                let text = text.unwrap_or_else(|| "no message".to_owned());
                // A status that passes, such as 429, is the stronger word.
                let may_pass = outcome.error.is_some() && !outcome.permanent;
                outcome.permanent = !passing && !may_pass;
                outcome.error = Some(format!("the robot answered {name} {code}: {text}"));
                outcome.error_code = Some(code);
            }
            (Some(_), None) if outcome.error.is_none() => {
                let name = self.code.trim_start_matches('/');
                outcome.error = Some(format!("the answer is not a robot's: it has no {name}"));
            }
            (_, code) => {
                let Some(error) = &mut outcome.error else { return };
                let said: Vec<String> = code.iter().cloned().chain(text).collect();
                if !said.is_empty() {
                    error.push_str(&format!(": {}", said.join(" ")));
                }
                outcome.permanent &= !passing;
                outcome.error_code = code;
            }
        }
    }
}

/// Bytes of a body that is one word.
const WORD_BYTES_MAX: usize = 64;

fn word(answer: &Value, pointer: &str, body: &str) -> Option<String> {
    if pointer == BODY {
        let body = body.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c);
        let is_word = !body.is_empty() && body.len() <= WORD_BYTES_MAX && body.chars().all(fits);
        return is_word.then(|| body.to_owned());
    }
    match answer.pointer(pointer).filter(|_| !pointer.is_empty())? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| texts.join(", "))
        }
        _ => None,
    }
}

/// POSTs JSON with these headers and reads the answer.
pub(crate) fn json(
    sending: &Sending<'_>,
    url: &str,
    headers: &[Header],
    body: &Value,
    answers: &Answers,
) -> Attempt {
    call(|headers, body| sending.client.post(url, headers, body), url, headers, body, answers)
}

/// PUTs JSON; the rest is as for [`json`].
pub(crate) fn put_json(
    sending: &Sending<'_>,
    url: &str,
    headers: &[Header],
    body: &Value,
    answers: &Answers,
) -> Attempt {
    call(|headers, body| sending.client.put(url, headers, body), url, headers, body, answers)
}

fn call(
    send: impl FnOnce(&[Header], &str) -> Attempt,
    url: &str,
    headers: &[Header],
    body: &Value,
    answers: &Answers,
) -> Attempt {
    if let Err(why) = check_url(url) {
        return Attempt::not_sent(why);
    }
    let mut outcome = send(&typed(headers), &body.to_string());
    answers.read(&mut outcome);
    outcome
}

fn typed(headers: &[Header]) -> Vec<Header> {
    let kind = ("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned());
    let own = headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    std::iter::once(kind).chain(own.cloned()).collect()
}

/// What `make` makes of a text of at most so many bytes, so that its JSON has `body_bytes_max` at
/// the most: quotes and line ends grow in JSON, so the text is cut until the whole fits.
pub(crate) fn fitting(
    (text_bytes_max, body_bytes_max): (usize, usize),
    make: impl Fn(usize) -> Value,
) -> Value {
    let mut room = text_bytes_max;
    loop {
        let body = make(room);
        let excess = body.to_string().len().saturating_sub(body_bytes_max);
        if excess == 0 || room == 0 {
            return body;
        }
        room = room.saturating_sub(excess.max(64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: Answers = Answers {
        code: "/code",
        text: "/message",
        id: "/id",
        wait: ("/retry_after", 1.0),
        passing: &["7"],
        ..Answers::STATUS
    };

    fn refused(status: u16, permanent: bool, response: &str) -> Attempt {
        Attempt {
            error: Some(format!("the endpoint answered HTTP {status}")),
            http_status: Some(status),
            permanent,
            response: response.to_owned(),
            ..Attempt::default()
        }
    }

    #[test]
    fn an_answer_gives_code_text_id_and_wait() {
        let mut taken = Attempt { response: "{\"id\":\"m1\"}".to_owned(), ..Attempt::default() };
        CHAT.read(&mut taken);
        assert_eq!((taken.error, taken.message_id.as_deref()), (None, Some("m1")));
        let body = r#"{"code":10015,"message":"Unknown Webhook","retry_after":0.5}"#;
        let mut refusal = refused(404, true, body);
        CHAT.read(&mut refusal);
        let error = "the endpoint answered HTTP 404: 10015 Unknown Webhook";
        assert_eq!(refusal.error.as_deref(), Some(error));
        assert_eq!(refusal.error_code.as_deref(), Some("10015"));
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(500)));
        assert!(refusal.permanent);
        let mut passing = refused(400, true, r#"{"code":7,"retry_after":-1e300}"#);
        CHAT.read(&mut passing);
        assert!(!passing.permanent && passing.retry_after.is_none());
        let mut html = refused(502, false, "<html>bad gateway</html>");
        CHAT.read(&mut html);
        assert_eq!(html.error.as_deref(), Some("the endpoint answered HTTP 502"));
        let mut word = refused(404, true, "no_service");
        Answers { code: BODY, ..Answers::STATUS }.read(&mut word);
        assert_eq!(word.error.as_deref(), Some("the endpoint answered HTTP 404: no_service"));
    }

    #[test]
    fn a_refusal_within_http_200_is_one_and_a_passing_status_stays_one() {
        const ROBOT: Answers = Answers { success: Some("0"), ..CHAT };
        let read = |mut attempt: Attempt| {
            ROBOT.read(&mut attempt);
            (attempt.error, attempt.permanent)
        };
        let taken = Attempt { response: "{\"code\":0}".to_owned(), ..Attempt::default() };
        assert_eq!(read(taken), (None, false));
        let body = "{\"code\":19021,\"message\":\"sign match fail\"}";
        let refusal = Attempt { response: body.to_owned(), ..Attempt::default() };
        let error = Some("the robot answered code 19021: sign match fail".to_owned());
        assert_eq!(read(refusal), (error.clone(), true));
        assert_eq!(read(refused(429, false, body)), (error, false));
        let page = Attempt { response: "<html>".to_owned(), ..Attempt::default() };
        assert_eq!(read(page).0.as_deref(), Some("the answer is not a robot's: it has no code"));
    }
}
