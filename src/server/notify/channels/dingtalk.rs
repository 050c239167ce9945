//! `dingtalk`: Markdown to a group's robot, signed where the robot wants it.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use sha2::Sha256;

use crate::server::notify::channels::config::{Field, FieldKind, by_length, some_text};
use crate::server::notify::channels::url::secrets as url_secrets;
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, post, robot};
use crate::server::notify::client::Attempt;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "dingtalk",
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

/// Bytes of a message's text, and of the whole body, which the robot limits to 20,000.
const BYTES_MAX: (usize, usize) = (16_000, 19_900);
/// What a query's value may hold as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn send(sending: &Sending<'_>, url: &str) -> Attempt {
    let body = post::fitting(BYTES_MAX, |room| {
        let text = robot::markdown(sending, room);
        json!({
            "msgtype": "markdown",
            "markdown": {"title": robot::title(sending), "text": text},
        })
    });
    match some_text(sending.config, "secret") {
        Some(secret) => {
            let url = signed(url, secret, sending.now_ms);
            // Whoever sees the signature can send for an hour.
            robot::post(sending, &url, &body).masked(&by_length(url_secrets(&url)))
        }
        None => robot::post(sending, url, &body),
    }
}

/// The URL with the time and its signature: the Base64 of HMAC-SHA256, keyed with the secret, over
/// the time in milliseconds, a line feed and the secret.
pub(crate) fn signed(url: &str, secret: &str, now_ms: i64) -> String {
    let sign = hmac_base64(secret.as_bytes(), format!("{now_ms}\n{secret}").as_bytes());
    let sign = utf8_percent_encode(&sign, QUERY);
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}timestamp={now_ms}&sign={sign}")
}

/// The Base64 of HMAC-SHA256.
pub(crate) fn hmac_base64(key: &[u8], message: &[u8]) -> String {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key fits");
    mac.update(message);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        // What `openssl dgst -sha256 -hmac SECabc -binary | base64` gives for the same bytes.
        let url = "https://oapi.example/robot/send?access_token=x";
        let url = signed(url, "SECabc", 1_700_000_000_000);
        assert_eq!(
            url,
            "https://oapi.example/robot/send?access_token=x&timestamp=1700000000000&sign=jcUpW0QmtKduN03n4JqQ0PBosVjqnM8gU7fIIvsDmCM%3D"
        );
    }
}
