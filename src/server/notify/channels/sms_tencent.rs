//! `sms_tencent`: a message from a template of Tencent Cloud's short message service (`SendSms`,
//! 2021-01-11) to each phone number, signed with TC3-HMAC-SHA256.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::base::clock::rfc3339;
use crate::server::notify::channels::config::{Config, Field, FieldKind, some_text, text};
use crate::server::notify::channels::sms::{check_endpoint, endpoint, message, plain_number};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::template::{self, Escape};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "sms_tencent",
    recipient: RecipientKind::Phone,
    fields: &[
        Field::required("secret_id", FieldKind::Text),
        Field::required("secret_key", FieldKind::Secret),
        Field::required("sdk_app_id", FieldKind::Text),
        Field::required("sign_name", FieldKind::Text),
        Field::required("template_id", FieldKind::Text),
        Field::optional("template_params", FieldKind::Texts),
        Field::optional("region", FieldKind::Text),
        Field::optional("endpoint", FieldKind::Text).address(),
        Field::optional("provider", FieldKind::Word(&["tencent"])),
        Field::LANGUAGE,
    ],
    check,
    targets: |_, recipients| each_once(recipients.iter().cloned()),
    send,
};

/// Where the service is.
const ENDPOINT: &str = "sms.tencentcloudapi.com";
/// The service's region, where the channel names none.
const REGION: &str = "ap-guangzhou";
/// The content type, which is signed.
const CONTENT_TYPE: &str = "application/json; charset=utf-8";
/// Beginnings of the codes that pass: too much was sent, or the service failed.
const PASSING: [&str; 4] =
    ["InternalError", "LimitExceeded", "RequestLimitExceeded", "ResourceUnavailable"];

fn params(config: &Config) -> Option<Vec<&str>> {
    let params = config.get("template_params")?.as_array()?;
    Some(params.iter().filter_map(Value::as_str).collect())
}

fn check(config: &Config) -> Result<(), String> {
    check_endpoint(config)?;
    for template in params(config).into_iter().flatten() {
        template::check(template, Some(Escape::None), &[("text", "t")])
            .map_err(|why| format!("config_json: template_params: {why}"))?;
    }
    Ok(())
}

fn send(sending: &Sending<'_>, phone: &str) -> Attempt {
    let config = sending.config;
    let message = message(sending);
    let extra = [("text", message.as_str())];
    let templates = params(config).unwrap_or_else(|| vec!["{{text}}"]);
    let values: Result<Vec<String>, String> = templates
        .into_iter()
        .map(|template| template::render(template, Escape::None, sending.notification, &extra))
        .collect();
    let values = match values {
        Ok(values) => values,
        Err(why) => return Attempt::not_sent(format!("template_params: {why}")),
    };
    let body = json!({
        "PhoneNumberSet": [plain_number(phone)],
        "SmsSdkAppId": text(config, "sdk_app_id"),
        "SignName": text(config, "sign_name"),
        "TemplateId": text(config, "template_id"),
        "TemplateParamSet": values,
    });
    let body = body.to_string();
    let origin = endpoint(config, ENDPOINT);
    let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
    let key = (text(config, "secret_id"), text(config, "secret_key"));
    let headers = [
        ("Content-Type", CONTENT_TYPE.to_owned()),
        ("Authorization", authorization(key, host, &body, sending.now_ms)),
        ("X-TC-Action", "SendSms".to_owned()),
        ("X-TC-Version", "2021-01-11".to_owned()),
        ("X-TC-Timestamp", sending.now_ms.div_euclid(1_000).to_string()),
        ("X-TC-Region", some_text(config, "region").unwrap_or(REGION).to_owned()),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value));
    answered(sending.client.post(&format!("{origin}/"), &headers, &body))
}

/// The header that signs a request: a key made of the secret, the day, the service and a fixed word
/// signs the time, the scope and the sum of the canonical request.
fn authorization((id, secret): (&str, &str), host: &str, body: &str, now_ms: i64) -> String {
    let secs = now_ms.div_euclid(1_000);
    let date = rfc3339(secs * 1_000).get(..10).unwrap_or_default().to_owned();
    let headers = "content-type;host;x-tc-action";
    let canonical = format!(
        "POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-tc-action:sendsms\n\n{headers}\n{}",
        hex(&Sha256::digest(body))
    );
    let scope = format!("{date}/sms/tc3_request");
    let sum = hex(&Sha256::digest(canonical));
    let mut key = format!("TC3{secret}").into_bytes();
    for part in [date.as_str(), "sms", "tc3_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &format!("TC3-HMAC-SHA256\n{secs}\n{scope}\n{sum}")));
    format!(
        "TC3-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={headers}, Signature={signature}"
    )
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The service answers 200 whatever it thinks: an error of the request, or a code for the number.
fn answered(mut outcome: Attempt) -> Attempt {
    if outcome.unreachable || (outcome.error.is_none() && outcome.broke_off) {
        return outcome;
    }
    let answer: Value = serde_json::from_str(&outcome.response).unwrap_or(Value::Null);
    let status = answer.pointer("/Response/SendStatusSet/0");
    let result = answer.pointer("/Response/Error").or(status);
    let field = |name: &str| result?.get(name)?.as_str();
    match field("Code") {
        Some("Ok") if outcome.error.is_none() => {
            outcome.message_id = field("SerialNo").map(str::to_owned);
        }
        Some(code) => {
            let what = field("Message").unwrap_or("no Message");
            outcome.permanent = !PASSING.iter().any(|start| code.starts_with(start));
            outcome.error = Some(format!("Tencent Cloud answered {code}: {what}"));
            outcome.error_code = Some(code.to_owned());
        }
        None if outcome.error.is_none() => {
            outcome.error = Some("the answer is not Tencent Cloud's: it has no Code".to_owned());
        }
        None => {}
    }
    outcome
}
