//! What each vendor checks of a request, from the vendors' own documents, and how it answers.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use crate::support::endpoint::Request;

/// What a vendor answers: the status and the body.
pub type Answer = (u16, String);

/// A channel type with what its vendor asks.
pub struct Vendor {
    pub kind: &'static str,
    /// The channel's configuration for a vendor that is served at this address.
    pub config: fn(&str) -> Value,
    /// What of that is secret.
    pub secrets: &'static [&'static str],
    /// What is wrong with a request, or the vendor's answer.
    pub take: fn(&Request) -> Result<Answer, String>,
    /// A refusal for good, and what the delivery log has of it: code and words.
    pub refusal: (u16, &'static str, &'static str, &'static str),
}

pub const VENDORS: [Vendor; 11] = [
    Vendor {
        kind: "slack",
        config: |base| json!({"webhook_url": format!("{base}/services/T00000001/B00000001/a1b2c3d4e5f6g7h8i9j0k1l2")}),
        secrets: &["a1b2c3d4e5f6g7h8i9j0k1l2"],
        take: slack,
        refusal: (404, "no_service", "no_service", "HTTP 404: no_service"),
    },
    Vendor {
        kind: "discord",
        config: |base| json!({"webhook_url": format!("{base}/api/webhooks/11/dtok3n-0123456789abcdef")}),
        secrets: &["dtok3n-0123456789abcdef"],
        take: discord,
        refusal: (
            404,
            r#"{"message":"Unknown Webhook","code":10015}"#,
            "10015",
            "HTTP 404: 10015 Unknown Webhook",
        ),
    },
    Vendor {
        kind: "teams",
        config: |base| json!({"webhook_url": format!("{base}/workflows/1/triggers/manual?sig=teams-s1g")}),
        secrets: &["teams-s1g"],
        take: teams,
        refusal: (
            401,
            r#"{"error":{"code":"DirectApiAuthorizationRequired","message":"no"}}"#,
            "DirectApiAuthorizationRequired",
            "HTTP 401: DirectApiAuthorizationRequired no",
        ),
    },
    Vendor {
        kind: "feishu",
        config: |base| {
            json!({"webhook_url": format!("{base}/open-apis/bot/v2/hook/0f1e2d3c-aaaa-bbbb-cccc-000000000001"),
                   "secret": "feishu-s3cret"})
        },
        secrets: &["feishu-s3cret", "0f1e2d3c-aaaa-bbbb-cccc-000000000001"],
        take: feishu,
        refusal: (
            200,
            r#"{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}"#,
            "19021",
            "the robot answered code 19021: sign match fail",
        ),
    },
    Vendor {
        kind: "telegram",
        config: |base| {
            json!({"bot_token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
                   "chat_id": "-1001234567890", "api_url": base})
        },
        secrets: &["AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"],
        take: telegram,
        refusal: (
            403,
            r#"{"ok":false,"error_code":403,"description":"Forbidden: bot was kicked from the group chat"}"#,
            "403",
            "HTTP 403: 403 Forbidden: bot was kicked from the group chat",
        ),
    },
    Vendor {
        kind: "ntfy",
        config: |base| json!({"topic": "oxmon-alerts", "url": base, "token": "tk_s3cr3ts3cr3t", "tags": "web, prod"}),
        secrets: &["tk_s3cr3ts3cr3t"],
        take: ntfy,
        refusal: (
            403,
            r#"{"code":40301,"http":403,"error":"forbidden"}"#,
            "40301",
            "HTTP 403: 40301 forbidden",
        ),
    },
    Vendor {
        kind: "gotify",
        config: |base| json!({"url": base, "token": "AKgot1fyKey-"}),
        secrets: &["AKgot1fyKey-"],
        take: gotify,
        refusal: (
            401,
            r#"{"error":"Unauthorized","errorCode":401,"errorDescription":"you need to provide a valid access token"}"#,
            "401",
            "HTTP 401: 401 you need to provide a valid access token",
        ),
    },
    Vendor {
        kind: "pushover",
        config: |base| {
            json!({"token": "azGDORePK8gMaC0QOYAMyEEuzJnyUi", "retry": 60, "expire": 3_600,
                   "user_key": "uQiRzpo4DXghDmr9QzzfQu27cmVRsG", "api_url": base})
        },
        secrets: &["azGDORePK8gMaC0QOYAMyEEuzJnyUi", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"],
        take: pushover,
        refusal: (
            400,
            r#"{"user":"invalid","errors":["user identifier is invalid"],"status":0,"request":"r1"}"#,
            "",
            "HTTP 400: user identifier is invalid",
        ),
    },
    Vendor {
        kind: "matrix",
        config: |base| {
            json!({"homeserver_url": base, "access_token": "syt_matrix_t0ken",
                   "room_id": "!abc/def:example.org"})
        },
        secrets: &["syt_matrix_t0ken"],
        take: matrix,
        refusal: (
            403,
            r#"{"errcode":"M_FORBIDDEN","error":"User not in room"}"#,
            "M_FORBIDDEN",
            "HTTP 403: M_FORBIDDEN User not in room",
        ),
    },
    Vendor {
        kind: "pagerduty",
        config: |base| json!({"routing_key": "0123456789abcdef0123456789abcdef", "api_url": base}),
        secrets: &["0123456789abcdef0123456789abcdef"],
        take: pagerduty,
        refusal: (
            400,
            r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect"]}"#,
            "invalid event",
            "HTTP 400: invalid event Length of 'routing_key' is incorrect",
        ),
    },
    Vendor {
        kind: "json",
        config: |base| json!({"url": format!("{base}/events"), "token": "json-t0ken"}),
        secrets: &["json-t0ken"],
        take: json_document,
        refusal: (422, r#"{"error":"no such team"}"#, "", "HTTP 422"),
    },
];

fn need(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn is_json(request: &Request) -> Result<Value, String> {
    let kind = request.header("content-type");
    need(kind == "application/json; charset=utf-8", kind)?;
    serde_json::from_str(&request.body).map_err(|error| error.to_string())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, String> {
    let text = value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{pointer} is missing"))
}

fn slack(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target().starts_with("/services/T00000001/B00000001/"), "path")?;
    text(&body, "/text")?;
    let header = text(&body, "/blocks/0/text/text")?;
    need(text(&body, "/blocks/0/text/type")? == "plain_text", "a header is plain text")?;
    need(header.chars().count() <= 150, "a header has 150 characters at the most")?;
    let section = text(&body, "/blocks/1/text/text")?;
    need(text(&body, "/blocks/1/text/type")? == "mrkdwn", "mrkdwn")?;
    need(section.chars().count() <= 3_000, "a section has 3,000 characters at the most")?;
    let without_links = section.replace("<http", "");
    need(!without_links.contains('<'), "an unescaped `<`")?;
    for entity in section.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;"].iter().any(|known| entity.starts_with(known));
        need(known, "an unescaped `&`")?;
    }
    Ok((200, "ok".to_owned()))
}

fn discord(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/api/webhooks/11/dtok3n-0123456789abcdef?wait=true", "path")?;
    let content = text(&body, "/content")?;
    need(content.chars().count() <= 2_000, "content has 2,000 characters at the most")?;
    need(body["allowed_mentions"]["parse"] == json!([]), "mentions")?;
    Ok((200, r#"{"id":"1122334455","type":0}"#.to_owned()))
}

fn teams(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.body.encode_utf16().count() * 2 <= 28 * 1_024, "28 KB in UTF-16")?;
    need(text(&body, "/type")? == "message", "type")?;
    let kind = text(&body, "/attachments/0/contentType")?;
    need(kind == "application/vnd.microsoft.card.adaptive", kind)?;
    need(text(&body, "/attachments/0/content/type")? == "AdaptiveCard", "card")?;
    text(&body, "/attachments/0/content/version")?;
    let rows = body["attachments"][0]["content"]["body"].as_array().ok_or("body")?;
    for row in rows {
        need(row["type"] == "RichTextBlock", "only text runs know no Markdown")?;
        text(row, "/inlines/0/text")?;
    }
    Ok((202, String::new()))
}

fn feishu(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.body.len() <= 20 * 1_024, "20 KB")?;
    let at = text(&body, "/timestamp")?;
    let age = crate::support::grpc::now_ms() / 1_000 - at.parse::<i64>().map_err(|_| "time")?;
    need(age.abs() < 3_600, "timestamp is not within one hour")?;
    let key = format!("{at}\nfeishu-s3cret");
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    let sign = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    if text(&body, "/sign")? != sign {
        return Ok((200, r#"{"code":19021,"msg":"sign match fail"}"#.to_owned()));
    }
    need(body["msg_type"] == "post", "msg_type")?;
    text(&body, "/content/post/zh_cn/title")?;
    let lines = body["content"]["post"]["zh_cn"]["content"].as_array().ok_or("content")?;
    for part in lines.iter().flat_map(|line| line.as_array().into_iter().flatten()) {
        need(part["tag"] == "text" || part["tag"] == "a", "tag")?;
        text(part, "/text")?;
    }
    Ok((200, r#"{"code":0,"msg":"success","data":{}}"#.to_owned()))
}

/// The text without its tags; an error where a client could not parse it.
fn parsed_html(html: &str, tags: &[&str]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&', '>']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('&') { ';' } else { '>' };
        let (token, after) = rest.split_once(end).ok_or("a tag or entity without its end")?;
        if end == ';' {
            let known = ["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&token);
            need(known, token)?;
            out.push('?');
        } else {
            let name = token.trim_start_matches(['<', '/']).split(' ').next().unwrap_or_default();
            need(tags.contains(&name), token)?;
        }
        rest = after;
    }
    Ok(out + rest)
}

fn telegram(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    let path = "/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage";
    need(request.target() == path, "path")?;
    need(body["chat_id"] == "-1001234567890" && body["parse_mode"] == "HTML", "chat or mode")?;
    let shown = parsed_html(text(&body, "/text")?, &["b", "a"])?;
    need(shown.encode_utf16().count() <= 4_096, "4,096 characters")?;
    Ok((200, r#"{"ok":true,"result":{"message_id":42}}"#.to_owned()))
}

fn ntfy(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/" || request.target().is_empty(), "JSON is published to the root")?;
    need(request.header("authorization") == "Bearer tk_s3cr3ts3cr3t", "authorization")?;
    need(body["topic"] == "oxmon-alerts", "topic")?;
    need(text(&body, "/message")?.len() <= 4_096, "4,096 bytes, or it is an attachment")?;
    text(&body, "/title")?;
    need(body["priority"].as_u64().is_some_and(|own| (1..=5).contains(&own)), "priority")?;
    need(body["tags"].as_array().is_some_and(|tags| tags.len() == 3), "tags")?;
    Ok((200, r#"{"id":"sPs71M8A2T","event":"message","topic":"oxmon-alerts"}"#.to_owned()))
}

fn gotify(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/message", "path")?;
    need(request.header("x-gotify-key") == "AKgot1fyKey-", "key")?;
    text(&body, "/message")?;
    text(&body, "/title")?;
    need(body["priority"].as_i64().is_some(), "priority")?;
    Ok((200, r#"{"id":25,"appid":5}"#.to_owned()))
}

fn pushover(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/1/messages.json", "path")?;
    need(body["token"] == "azGDORePK8gMaC0QOYAMyEEuzJnyUi", "token")?;
    need(body["user"] == "uQiRzpo4DXghDmr9QzzfQu27cmVRsG", "user")?;
    need(text(&body, "/message")?.chars().count() <= 1_024, "1,024 characters")?;
    need(text(&body, "/title")?.chars().count() <= 250, "250 characters")?;
    let priority = body["priority"].as_i64().ok_or("priority")?;
    need((-2..=2).contains(&priority), "priority")?;
    let (retry, expire) = (body["retry"].as_u64(), body["expire"].as_u64());
    let emergency =
        retry.is_some_and(|retry| retry >= 30) && expire.is_some_and(|expire| expire <= 10_800);
    need(emergency == (priority == 2), "retry and expire")?;
    Ok((200, r#"{"status":1,"request":"647d2300-702c-4b38-8b2f-d56326ae460b"}"#.to_owned()))
}

fn matrix(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.head.starts_with("PUT "), "method")?;
    let room = "/_matrix/client/v3/rooms/%21abc%2Fdef%3Aexample%2Eorg/send/m.room.message/";
    let transaction = request.target().strip_prefix(room).ok_or("path")?;
    need(!transaction.is_empty() && !transaction.contains('/'), "transaction")?;
    need(request.header("authorization") == "Bearer syt_matrix_t0ken", "authorization")?;
    need(request.body.len() < 65_536, "65,536 bytes")?;
    need(body["msgtype"] == "m.text" && body["m.mentions"] == json!({}), "type or mentions")?;
    need(body["format"] == "org.matrix.custom.html", "format")?;
    text(&body, "/body")?;
    parsed_html(text(&body, "/formatted_body")?, &["strong", "br", "a"])?;
    Ok((200, r#"{"event_id":"$143273582443PhrSn:example.org"}"#.to_owned()))
}

fn pagerduty(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/v2/enqueue", "path")?;
    need(body["routing_key"] == "0123456789abcdef0123456789abcdef", "routing_key")?;
    let key = text(&body, "/dedup_key")?;
    need(key.len() <= 255, "a dedup_key has 255 characters at the most")?;
    match text(&body, "/event_action")? {
        "resolve" => {}
        "trigger" => {
            need(text(&body, "/payload/summary")?.chars().count() <= 1_024, "summary")?;
            text(&body, "/payload/source")?;
            let severity = text(&body, "/payload/severity")?;
            need(["info", "warning", "error", "critical"].contains(&severity), severity)?;
            let at = text(&body, "/payload/timestamp")?;
            need(oxmon::base::clock::parse_rfc3339(at).is_some(), at)?;
        }
        other => return Err(format!("event_action {other}")),
    }
    Ok((
        202,
        json!({"status": "success", "message": "Event processed", "dedup_key": key}).to_string(),
    ))
}

fn json_document(request: &Request) -> Result<Answer, String> {
    let body = is_json(request)?;
    need(request.target() == "/events", "path")?;
    need(request.header("authorization") == "Bearer json-t0ken", "authorization")?;
    need(body["version"] == 1, "version")?;
    for alert in body["alerts"].as_array().ok_or("alerts")? {
        for field in ["dedup_key", "id", "status", "severity", "host", "metric", "started_at"] {
            text(alert, &format!("/{field}"))?;
        }
    }
    Ok((204, String::new()))
}
