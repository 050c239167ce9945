//! `sms`: a POST to a gateway for each phone number.

use serde_json::json;

use crate::server::notify::channels::config::{
    Config, Field, FieldKind, check_url, headers, some_text, text,
};
use crate::server::notify::channels::webhook::content_type;
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::cut;
use crate::server::notify::template::{self, Escape};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "sms",
    recipient: RecipientKind::Phone,
    fields: &[
        Field::required("gateway_url", FieldKind::Url),
        Field::required("api_key", FieldKind::Secret),
        Field::optional("body_template", FieldKind::Template),
        Field::optional("headers", FieldKind::Headers),
        Field::LANGUAGE,
    ],
    check,
    targets: |_, recipients| each_once(recipients.iter().cloned()),
    send,
};

/// Bytes of a message's text: what gateways join into one message of three or four parts.
const TEXT_BYTES_MAX: usize = 480;

fn check(config: &Config) -> Result<(), String> {
    let Some(template) = some_text(config, "body_template") else { return Ok(()) };
    let extra = [("phone", "1"), ("to", "1"), ("text", "t"), ("api_key", "k")];
    template::check(template, escape(config), &extra)
        .map_err(|why| format!("config_json: body_template: {why}"))
}

fn escape(config: &Config) -> Option<Escape> {
    let headers = headers(config);
    content_type(&headers).map(Escape::of_type)
}

/// Where a service is reached: its usual host, or what the channel names instead, a host or a URL
/// without a path.
pub(crate) fn endpoint(config: &Config, usual: &str) -> String {
    let named = some_text(config, "endpoint").unwrap_or(usual).trim_end_matches('/');
    if named.contains("://") { named.to_owned() } else { format!("https://{named}") }
}

/// Checks the field `endpoint`.
///
/// # Errors
///
/// Says what it should look like.
pub(crate) fn check_endpoint(config: &Config) -> Result<(), String> {
    let Some(named) = some_text(config, "endpoint") else { return Ok(()) };
    let url = endpoint(config, named);
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']));
    if has_path {
        return Err("config_json: endpoint: must be a host or a URL without a path".to_owned());
    }
    check_url(&url).map_err(|why| format!("config_json: endpoint: {why}"))
}

/// A phone number without what people write between its digits.
pub(crate) fn plain_number(phone: &str) -> String {
    phone.chars().filter(|letter| letter.is_ascii_digit() || *letter == '+').collect()
}

/// The title, and of one alert the sentence: what a phone shows is short.
pub(crate) fn message(sending: &Sending<'_>) -> String {
    let title = sending.title(TEXT_BYTES_MAX);
    let [one] = sending.notification.items.as_slice() else { return title };
    let sentence = sending.voice.sentence(one, sending.notification.kind);
    cut(&format!("{title}: {sentence}"), TEXT_BYTES_MAX).to_owned()
}

fn send(sending: &Sending<'_>, phone: &str) -> Attempt {
    let key = text(sending.config, "api_key");
    let message = message(sending);
    let mut headers = headers(sending.config);
    let mut default_type = "application/json";
    let body = match some_text(sending.config, "body_template") {
        None => json!({"phone": phone, "to": phone, "message": message}).to_string(),
        Some(template) => {
            let extra = [("phone", phone), ("to", phone), ("text", &message), ("api_key", key)];
            match template::fill(template, escape(sending.config), sending.notification, &extra) {
                Ok((body, escape)) => {
                    default_type = escape.content_type();
                    body
                }
                Err(why) => return Attempt::not_sent(format!("body_template: {why}")),
            }
        }
    };
    if content_type(&headers).is_none() {
        headers.push(("Content-Type".to_owned(), default_type.to_owned()));
    }
    // A gateway of another kind takes its key where its template or its headers put it.
    let own_auth = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if !own_auth && some_text(sending.config, "body_template").is_none() {
        headers.push(("Authorization".to_owned(), format!("Bearer {key}")));
    }
    sending.client.post(text(sending.config, "gateway_url"), &headers, &body)
}
