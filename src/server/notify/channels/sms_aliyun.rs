//! `sms_aliyun`: a message from a template of Alibaba Cloud's short message service (`SendSms` of
//! Dysmsapi 2017-05-25) to each phone number, signed as its RPC style wants it: HMAC-SHA1 over the
//! sorted parameters.

use base64::Engine as _;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::base::clock::rfc3339;
use crate::base::ids::random_hex;
use crate::server::notify::channels::config::{Config, Field, FieldKind, some_text, text};
use crate::server::notify::channels::sms::{check_endpoint, endpoint, message, plain_number};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::template::{self, Escape};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "sms_aliyun",
    recipient: RecipientKind::Phone,
    fields: &[
        Field::required("access_key_id", FieldKind::Text),
        Field::required("access_key_secret", FieldKind::Secret),
        Field::required("sign_name", FieldKind::Text),
        Field::required("template_code", FieldKind::Text),
        Field::optional("template_param", FieldKind::Template),
        Field::optional("endpoint", FieldKind::Text).address(),
        Field::optional("provider", FieldKind::Word(&["aliyun"])),
        Field::LANGUAGE,
    ],
    check,
    targets: |_, recipients| each_once(recipients.iter().cloned()),
    send,
};

/// Where the service is.
const ENDPOINT: &str = "dysmsapi.aliyuncs.com";
/// What a name or a value may hold as it is (RFC 3986).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Codes that pass: too much was sent within a minute, an hour or a day, or the service failed.
const PASSING: [&str; 5] = [
    "isv.BUSINESS_LIMIT_CONTROL",
    "isp.SYSTEM_ERROR",
    "ServiceUnavailable",
    "InternalError",
    "SignatureNonceUsed",
];

fn check(config: &Config) -> Result<(), String> {
    check_endpoint(config)?;
    let Some(template) = some_text(config, "template_param") else { return Ok(()) };
    template::check(template, Some(Escape::Json), &[("text", "t")])
        .map_err(|why| format!("config_json: template_param: {why}"))
}

fn send(sending: &Sending<'_>, phone: &str) -> Attempt {
    let config = sending.config;
    let message = message(sending);
    let values = match some_text(config, "template_param") {
        None => json!({"msg": message}).to_string(),
        Some(template) => {
            let extra = [("text", message.as_str())];
            match template::render(template, Escape::Json, sending.notification, &extra) {
                Ok(values) => values,
                Err(why) => return Attempt::not_sent(format!("template_param: {why}")),
            }
        }
    };
    let phone = plain_number(phone);
    // Mainland numbers have no prefix or 86, others their country's: none has a plus sign.
    let phone = phone.trim_start_matches('+');
    let (timestamp, nonce) = (rfc3339(sending.now_ms / 1_000 * 1_000), random_hex(16));
    let mut parameters = [
        ("AccessKeyId", text(config, "access_key_id")),
        ("Action", "SendSms"),
        ("Format", "JSON"),
        ("PhoneNumbers", phone),
        ("RegionId", "cn-hangzhou"),
        ("SignName", text(config, "sign_name")),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", nonce.as_str()),
        ("SignatureVersion", "1.0"),
        ("TemplateCode", text(config, "template_code")),
        ("TemplateParam", values.as_str()),
        ("Timestamp", timestamp.as_str()),
        ("Version", "2017-05-25"),
    ];
    let Some(signature) = signature(&mut parameters, text(config, "access_key_secret")) else {
        return Attempt::not_sent("the request cannot be signed: HMAC-SHA1 is not available");
    };
    let signed = [("Signature", signature.as_str())];
    let body = form(parameters.iter().chain(&signed));
    let kind = "application/x-www-form-urlencoded".to_owned();
    let url = format!("{}/", endpoint(config, ENDPOINT));
    let outcome = sending.client.post(&url, &[("Content-Type".to_owned(), kind)], &body);
    answered(outcome)
}

/// Names and values, encoded and joined as in a query.
fn form<'a>(parameters: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let encoded = |text| utf8_percent_encode(text, UNRESERVED).to_string();
    let pairs = parameters.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The signature of a POST with these parameters, which are sorted by it: the Base64 of HMAC-SHA1,
/// keyed with the secret and `&`, over the method, the path and the query, each encoded.
fn signature(parameters: &mut [(&str, &str)], secret: &str) -> Option<String> {
    parameters.sort_unstable();
    let query = form(parameters.iter());
    let text = format!("POST&%2F&{}", utf8_percent_encode(&query, UNRESERVED));
    let key = PKey::hmac(format!("{secret}&").as_bytes()).ok()?;
    let mut signer = Signer::new(MessageDigest::sha1(), &key).ok()?;
    let sum = signer.sign_oneshot_to_vec(text.as_bytes()).ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(sum))
}

/// The service's own code decides, whatever the HTTP status is.
fn answered(mut outcome: Attempt) -> Attempt {
    if outcome.unreachable || (outcome.error.is_none() && outcome.broke_off) {
        return outcome;
    }
    let answer: Value = serde_json::from_str(&outcome.response).unwrap_or(Value::Null);
    let field = |name: &str| answer.get(name).and_then(Value::as_str);
    match field("Code") {
        Some("OK") if outcome.error.is_none() => {
            outcome.message_id = field("BizId").map(str::to_owned);
        }
        Some(code) => {
            let what = field("Message").unwrap_or("no Message");
            outcome.permanent = !PASSING.contains(&code) && !code.starts_with("Throttling");
            outcome.error = Some(format!("Alibaba Cloud answered {code}: {what}"));
            outcome.error_code = Some(code.to_owned());
        }
        None if outcome.error.is_none() => {
            outcome.error = Some("the answer is not Alibaba Cloud's: it has no Code".to_owned());
        }
        None => {}
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alibaba Cloud's page on signatures of the RPC style, with POST in place of
    /// GET; the sum was made with `openssl dgst -sha1 -hmac "testsecret&"`.
    #[test]
    fn parameters_are_sorted_encoded_and_signed() {
        let mut parameters = [
            ("Version", "2014-05-26"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Format", "XML"),
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
        ];
        let signed = signature(&mut parameters, "testsecret");
        assert_eq!(signed.as_deref(), Some("MxbnVAM4w6sft9xjVpe/GCKueuk="));
        assert_eq!(parameters[0].0, "AccessKeyId");
        assert_eq!(form([("a b", "*~+/")].iter()), "a%20b=%2A~%2B%2F");
    }
}
