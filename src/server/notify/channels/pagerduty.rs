//! `pagerduty`: an event of the Events API v2 for each alert. A recovery resolves what its firing
//! triggered, because both have the alert's `dedup_key`.

use serde_json::{Value, json};

use crate::base::clock::rfc3339;
use crate::model::alert::AlertEvent;
use crate::server::notify::channels::config::{Field, FieldKind, text};
use crate::server::notify::channels::post::{self, Answers};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{Kind, cut, dedup_key, domain};

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "pagerduty",
    recipient: RecipientKind::None,
    fields: &[
        Field::required("routing_key", FieldKind::Secret),
        Field::optional("api_url", FieldKind::Url),
        Field::LANGUAGE,
    ],
    check: |_| Ok(()),
    targets: |config, _| vec![post::at(config, "api_url", API, "")],
    send,
};

/// Where events are sent; accounts in Europe have `https://events.eu.pagerduty.com`.
const API: &str = "https://events.pagerduty.com";
/// Characters of a summary (developer.pagerduty.com, "Send an Alert Event"), and those kept of a
/// source. A payload has 512 KB at the most, which labels and names are far below; a 400 is final,
/// 429 and 5xx pass ("Events API v2 Overview", "Response Codes & Retry Logic", "Size Limits"). Only
/// the first trigger of a `dedup_key` opens an incident, and a resolve with the same routing key
/// ends it.
const SUMMARY_MAX: usize = 1_024;
const SOURCE_MAX: usize = 255;
const ANSWERS: Answers =
    Answers { code: "/status", text: "/errors", id: "/dedup_key", ..Answers::STATUS };

fn send(sending: &Sending<'_>, api: &str) -> Attempt {
    let [event] = sending.notification.items.as_slice() else {
        return Attempt::one_at_a_time();
    };
    let url = format!("{api}/v2/enqueue");
    let call = |action| post::json(sending, &url, &[], &body(sending, event, action), &ANSWERS);
    match sending.notification.kind {
        Kind::Firing => call("trigger"),
        Kind::Resolved => call("resolve"),
        Kind::Test => {
            let triggered = call("trigger");
            // A test leaves no open incident behind.
            if triggered.error.is_none() { call("resolve") } else { triggered }
        }
    }
}

fn body(sending: &Sending<'_>, event: &AlertEvent, action: &str) -> Value {
    let mut body = json!({
        "routing_key": text(sending.config, "routing_key"),
        "event_action": action,
        "dedup_key": dedup_key(event),
    });
    if action == "resolve" {
        return body;
    }
    let source = domain(event).unwrap_or_else(|| event.agent_id.clone());
    let summary = sending.voice.sentence(event, sending.notification.kind);
    body["client"] = "oxmon".into();
    body["payload"] = json!({
        "summary": cut(&summary, SUMMARY_MAX),
        "source": cut(&source, SOURCE_MAX),
        "severity": event.severity.name(),
        "timestamp": rfc3339(event.timestamp_ms),
        "component": event.metric_name,
        "class": event.rule_name,
        "custom_details": {
            "labels": event.labels,
            "value": event.value,
            "threshold": event.threshold,
            "since": rfc3339(event.first_triggered_at_ms),
        },
    });
    if let Some((link, words)) = sending.link() {
        body["links"] = json!([{"href": link, "text": words}]);
        body["client_url"] = link.into();
    }
    body
}
