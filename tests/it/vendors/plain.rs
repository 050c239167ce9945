//! Names of hosts, mounts and rules are plain text to the readers of every channel type: no
//! markup, no mention, no image and no link comes of them. A type that is not in the table fails.

use std::collections::BTreeSet;

use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;
use serde_json::{Value, json};

use super::checks::VENDORS;
use super::{CONFIG, LIMIT};
use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const AGENT: &str = "@everyone <!channel> **b** ![i](http://evil.example/i.png) @room";
const MOUNT: &str = "/<@U1> [x](https://evil.example) <img src=x> `c` @all <at user_id=\"all\">";
const RULE: &str = "Hot <b>_i_</b> ~s~ ||p|| @here <a href=\"//evil.example\">x</a> &lt;";

/// What reads a text.
#[derive(Clone, Copy)]
enum Reader {
    /// Shows it as it is, and makes links and mentions of what looks like one.
    Plain,
    /// Slack's mrkdwn.
    Mrkdwn,
    /// Markdown with a backslash before what is none of it; `**` is around the title.
    Backslashes,
    /// HTML with these tags.
    Html(&'static [&'static str]),
    /// Markdown without an escape; `###` is before the title.
    Markdown,
}

/// Where the texts of a type's message are, and what reads each.
const TEXTS: [(&str, &[(&str, Reader)]); 11] = [
    (
        "slack",
        &[
            ("/text", Reader::Mrkdwn),
            ("/blocks/0/text/text", Reader::Plain),
            ("/blocks/1/text/text", Reader::Mrkdwn),
        ],
    ),
    ("discord", &[("/content", Reader::Backslashes)]),
    (
        "teams",
        &[
            ("/attachments/0/content/body/0/inlines/0/text", Reader::Plain),
            ("/attachments/0/content/body/1/inlines/0/text", Reader::Plain),
        ],
    ),
    (
        "feishu",
        &[
            ("/content/post/zh_cn/title", Reader::Plain),
            ("/content/post/zh_cn/content/0/0/text", Reader::Plain),
        ],
    ),
    ("telegram", &[("/text", Reader::Html(&["b"]))]),
    ("ntfy", &[("/title", Reader::Plain), ("/message", Reader::Plain)]),
    ("gotify", &[("/title", Reader::Plain), ("/message", Reader::Plain)]),
    ("pushover", &[("/title", Reader::Plain), ("/message", Reader::Plain)]),
    ("matrix", &[("/body", Reader::Plain), ("/formatted_body", Reader::Html(&["strong", "br"]))]),
    ("dingtalk", &[("/markdown/title", Reader::Markdown), ("/markdown/text", Reader::Markdown)]),
    ("weixin", &[("/markdown/content", Reader::Markdown)]),
];
/// Types whose receivers get data, which they show by rules of their own. A mail and a template
/// escape by the type of their body: `chat_text` and `mail` have their tests.
const DATA: [&str; 7] =
    ["webhook", "json", "pagerduty", "email", "sms", "sms_aliyun", "sms_tencent"];

impl Reader {
    /// What of a text would be more than text.
    fn found(self, text: &str) -> Option<&'static str> {
        let (text, never): (String, &[&str]) = match self {
            Self::Plain => (text.to_owned(), &["@", "://"]),
            Self::Mrkdwn => (text.to_owned(), &["@", "://", "<", ">", "*", "`", "~", "_i_"]),
            Self::Markdown => {
                let bare = text.strip_prefix("### ").unwrap_or(text);
                (bare.to_owned(), &["@", "://", "<", ">", "](", "![", "**", "`", "_i_"])
            }
            Self::Backslashes => {
                let title = text.strip_prefix("**").and_then(|rest| rest.split_once("**\n"));
                let (title, rest) = title.expect("a title in bold");
                let mut bare = String::new();
                let all = format!("{title}\n{rest}");
                let mut letters = all.chars();
                while let Some(letter) = letters.next() {
                    if letter == '\\' {
                        letters.next();
                    } else {
                        bare.push(letter);
                    }
                }
                (bare, &["@", "://", "<", ">", "[", "]", "(", "*", "`", "~", "_", "|", "#"])
            }
            Self::Html(tags) => {
                let mut bare = text.to_owned();
                for tag in tags {
                    bare = bare.replace(&format!("<{tag}>"), "").replace(&format!("</{tag}>"), "");
                }
                (bare, &["@", "://", "<", ">"])
            }
        };
        never.iter().find(|markup| text.contains(**markup)).copied()
    }
}

#[test]
fn no_name_is_more_than_text_to_the_readers_of_any_channel_type() {
    let mut server = Server::start("aggregation_window_secs = 0\n");
    let types = server.get("/v1/notifications/channel-types");
    let there: BTreeSet<&str> =
        types.as_array().unwrap().iter().map(|it| it["channel_type"].as_str().unwrap()).collect();
    let known: BTreeSet<&str> = TEXTS.iter().map(|(kind, _)| *kind).chain(DATA).collect();
    assert_eq!(there, known, "a new type needs a row");
    let mut endpoints = Vec::new();
    for (kind, texts) in TEXTS {
        let endpoint = Endpoint::start(|_, _| {
            Act::Answer(200, r#"{"ok":true,"status":1,"code":0,"errcode":0}"#.to_owned())
        });
        let vendor = VENDORS.iter().find(|vendor| vendor.kind == kind);
        let config = vendor.map_or_else(
            || json!({"webhook_url": endpoint.url("/")}),
            |vendor| (vendor.config)(&endpoint.url("")),
        );
        let body = json!({"name": kind, "channel_type": kind, "config_json": config});
        server.post(CONFIG, body);
        endpoints.push((kind, texts, endpoint));
    }
    let config = json!({"operator": "greater_than", "value": 90.0});
    server.post(
        "/v1/alerts/rules",
        json!({"name": RULE, "rule_type": "threshold", "metric": "disk.used_percent",
               "severity": "critical", "config_json": config, "silence_secs": 0}),
    );
    let at = now_ms();
    let points = vec![Point::labelled("disk.used_percent", "mount", MOUNT, at, 95.0)];
    let sent = Batch { agent_id: AGENT.into(), timestamp_ms: at, points };
    assert!(Client::to(server.grpc_port).report(&batch_to_proto(&sent)).unwrap().success);
    for (kind, texts, endpoint) in &endpoints {
        wait_for(kind, LIMIT, || (!endpoint.requests().is_empty()).then_some(()));
        let body: Value = endpoint.requests()[0].json();
        for (at, reader) in *texts {
            let text = body.pointer(at).and_then(Value::as_str);
            let text = text.unwrap_or_else(|| panic!("{kind} has no {at}: {body}"));
            assert!(text.contains("evil"), "{kind}{at} names the host or the mount: {text}");
            assert_eq!(reader.found(text), None, "{kind}{at}: {text}");
        }
    }
}
