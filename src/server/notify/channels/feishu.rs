//! `feishu`: a post to the custom bot of a Feishu or Lark group, signed where the bot wants it.

use serde_json::{Value, json};

use crate::base::clock::SECOND_MS;
use crate::server::notify::channels::config::{Field, FieldKind, some_text};
use crate::server::notify::channels::dingtalk::hmac_base64;
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "feishu",
    recipient: RecipientKind::Url,
    fields: &[
        Field::required("webhook_url", FieldKind::Url),
        Field::optional("secret", FieldKind::Secret),
        Field::LANGUAGE,
    ],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "webhook_url"),
    send,
};

/// Bytes of a message's text, and of the whole body, which the bot limits to 20 KB
/// (open.feishu.cn, "Custom bot usage guide").
const BYTES_MAX: (usize, usize) = (15_000, 19_900);
/// Codes that pass: 11232, more than 5 messages a second or 100 a minute, or the load at a full
/// hour; 99991400, too many calls, with HTTP 429 or 400 and the seconds to wait in the header
/// `x-ogw-ratelimit-reset` (open.feishu.cn, "Rate limits").
const ANSWERS: Answers = Answers {
    code: "/code",
    text: "/msg",
    success: Some("0"),
    passing: &["11232", "99991400"],
    ..Answers::STATUS
};

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let mut body = post::fitting(BYTES_MAX, |room| message(sending, room));
    let Some(secret) = some_text(sending.config, "secret") else {
        return post::json(sending, url, &[], &body, &ANSWERS);
    };
    let (timestamp, sign) = signature(secret, sending.now_ms);
    let secrets = [sign.clone()];
    body["timestamp"] = timestamp.into();
    body["sign"] = sign.into();
    // Whoever sees the signature can send for an hour.
    post::json(sending, url, &[], &body, &ANSWERS).masked(&secrets)
}

fn message(sending: &Sending<'_>, room: usize) -> Value {
    let text = sending.text(escape::plain, room);
    let mut lines: Vec<Value> =
        text.lines().map(|line| json!([{"tag": "text", "text": line}])).collect();
    if let Some((link, words)) = sending.link() {
        lines.push(json!([{"tag": "a", "text": words, "href": link}]));
    }
    // The bot shows the language that there is to everyone.
    let post = json!({"title": escape::plain(&sending.title(room)), "content": lines});
    json!({"msg_type": "post", "content": {"post": {"zh_cn": post}}})
}

/// The time in seconds and its signature: the Base64 of HMAC-SHA256 over nothing, keyed with the
/// time, a line feed and the secret (custom bot guide, "Signature verification").
fn signature(secret: &str, now_ms: i64) -> (String, String) {
    let timestamp = (now_ms / SECOND_MS).to_string();
    let sign = hmac_base64(format!("{timestamp}\n{secret}").as_bytes(), b"");
    (timestamp, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        // `printf '' | openssl dgst -sha256 -hmac $'1599360473\ndemo' -binary | base64`
        let (timestamp, sign) = signature("demo", 1_599_360_473_000);
        assert_eq!(timestamp, "1599360473");
        assert_eq!(sign, "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
    }
}
