//! Each HTTP channel's message as the endpoint received it.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;

use super::Rig;
use super::endpoint::{Act, Endpoint, Request};
use crate::base::clock::Clock as _;
use crate::server::notify::NotifyError;

const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

fn rig() -> Rig {
    Rig::new(|config| config.aggregation_window_secs = 0)
}

#[test]
fn a_webhook_without_a_template_gets_the_documented_json() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = rig();
    rig.channel("webhook", json!({"url": endpoint.url("/hook?a=b")}), &[]);
    rig.fire("web-1");
    let request = &endpoint.wait(1)[0];
    rig.wait_empty();
    assert!(request.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("oxmon/"));
    let body = request.json();
    assert_eq!(
        body,
        json!({
            "alert_id": "event-web-1",
            "agent_id": "web-1",
            "metric": "disk.used_percent",
            "value": 96.5,
            "threshold": 90.0,
            "timestamp": "2026-02-09T08:30:00Z",
            "labels": {"mount": "/"},
            "notification_id": body["notification_id"],
            "status": "firing",
            "severity": "critical",
            "rule_id": "rule-1",
            "rule_name": "Disk full",
            "title": "[CRITICAL] Disk full: web-1 /",
            "message": "96.5 % of / on web-1 is used",
            "count": 1,
            "sent_at": "2026-02-09T08:30:00Z",
            "alerts": [{
                "id": "event-web-1",
                "agent_id": "web-1",
                "metric_name": "disk.used_percent",
                "labels": {"mount": "/"},
                "value": 96.5,
                "threshold": 90.0,
                "message": "96.5 % of / on web-1 is used",
                "timestamp": "2026-02-09T08:30:00Z",
                "first_triggered_at": "2026-02-09T08:29:00Z",
                "predicted_breach": null,
            }],
        })
    );
    let row = &rig.logs()[0];
    assert_eq!((row.http_status_code, row.response_body.as_deref()), (Some(200), Some("thanks")));
}

#[test]
fn a_webhook_with_a_template_gets_it_filled_in_byte_for_byte() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = rig();
    let template = "{\"text\":\"{{status}} {{rule_name}} {{agent_id}} {{metric}}={{value}}/{{threshold}} \
                    {{labels.mount}} {{severity}} {{message}} {{timestamp}}\"}";
    let headers = json!({"Authorization": "Bearer t0ken", "Content-Type": "application/json"});
    let config = json!({"body_template": template, "headers": headers});
    rig.channel("webhook", config, &[&endpoint.url("/a"), &endpoint.url("/b")]);
    rig.fire("web-\"1\"");
    let requests = endpoint.wait(2);
    let targets: Vec<&str> = requests.iter().map(Request::target).collect();
    assert_eq!(targets, ["/a", "/b"]);
    for request in &requests {
        assert_eq!(request.header("authorization"), "Bearer t0ken");
        assert_eq!(
            request.body,
            r#"{"text":"firing Disk full web-\"1\" disk.used_percent=96.5/90 / critical 96.5 % of / on web-\"1\" is used 2026-02-09T08:30:00Z"}"#
        );
    }
}

#[test]
fn an_sms_gateway_gets_one_request_for_each_number() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = rig();
    let gateway = json!({"gateway_url": endpoint.url("/sms"), "api_key": "key-123456"});
    rig.channel("sms", gateway, &["+8613800138000", "10086"]);
    rig.fire("web-1");
    let requests = endpoint.wait(2);
    rig.wait_empty();
    assert_eq!(requests[0].header("authorization"), "Bearer key-123456");
    assert_eq!(
        requests[0].body,
        r#"{"message":"[CRITICAL] Disk full: web-1 /: disk usage of / on web-1: 96.5 % of / on web-1 is used (since 2026-02-09 08:29:00 +00:00)","phone":"+8613800138000","to":"+8613800138000"}"#
    );
    assert_eq!(requests[1].json()["phone"], "10086");
}

#[test]
fn another_gateway_gets_what_its_template_says() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = rig();
    let gateway = json!({
        "gateway_url": endpoint.url("/send"),
        "api_key": "key&123456",
        "body_template": "key={{api_key}}&to={{phone}}&text={{severity}}%20{{agent_id}}",
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    });
    rig.channel("sms", gateway, &["10086"]);
    rig.fire("web 1");
    let request = &endpoint.wait(1)[0];
    assert_eq!(request.body, "key=key%26123456&to=10086&text=critical%20web%201");
    assert_eq!(request.header("authorization"), "", "the key goes where the template puts it");
    let rows = rig.wait_logs(1);
    assert!(!format!("{rows:?}").contains("123456"), "{rows:?}");
}

/// What DingTalk's documents ask of a robot with a signature.
fn dingtalk(secret: &'static str) -> impl Fn(&Request, usize) -> Act {
    move |request, _| {
        let target = request.target().to_owned();
        let value = |name: &str| {
            let query = target.split_once('?').map_or("", |(_, query)| query);
            let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            let text = found.unwrap_or_default();
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}\n{secret}", value("timestamp")).as_bytes());
        let sign = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        if value("sign") != sign || value("access_token") != "tok-123456" {
            let refusal = r#"{"errcode":310000,"errmsg":"sign not match"}"#;
            return Act::Answer(200, refusal.to_owned());
        }
        Act::Answer(200, OK.to_owned())
    }
}

#[test]
fn a_dingtalk_robot_gets_signed_markdown() {
    let endpoint = Endpoint::start(dingtalk("SECgood-secret"));
    let rig = rig();
    let url = endpoint.url("/robot/send?access_token=tok-123456");
    rig.channel("dingtalk", json!({"webhook_url": url, "secret": "SECgood-secret"}), &[]);
    rig.fire("web-1");
    let request = &endpoint.wait(1)[0];
    rig.wait_empty();
    let now_ms = rig.clock.now_ms();
    let start = format!("/robot/send?access_token=tok-123456&timestamp={now_ms}&sign=");
    assert!(request.target().starts_with(&start), "{}", request.target());
    assert_eq!(
        request.body,
        r####"{"markdown":{"text":"### [CRITICAL] Disk full: web-1 /\n\ndisk usage of / on web-1: 96.5 % of / on web-1 is used (since 2026-02-09 08:29:00 +00:00)","title":"[CRITICAL] Disk full: web-1 /"},"msgtype":"markdown"}"####
    );
    assert_eq!(rig.logs()[0].status, "success");
}

#[test]
fn a_robots_refusal_is_a_failure_although_http_says_200() {
    let endpoint = Endpoint::start(dingtalk("SECgood-secret"));
    let rig = rig();
    let url = endpoint.url("/robot/send?access_token=tok-123456");
    let channel =
        rig.channel("dingtalk", json!({"webhook_url": url, "secret": "SECbad-secret"}), &[]);
    let NotifyError::Refused(message) = rig.notifier.test(&channel.id).unwrap_err() else {
        panic!("a far side's error")
    };
    assert!(message.contains("errcode 310000: sign not match"), "{message}");
    let row = &rig.logs()[0];
    assert_eq!((row.status.as_str(), row.http_status_code), ("failed", Some(200)));
    assert_eq!(row.api_error_code.as_deref(), Some("310000"));
    let shown = format!("{row:?}");
    assert!(!shown.contains("tok-123456") && !shown.contains("SECbad-secret"), "{shown}");
}

#[test]
fn a_weixin_robot_gets_markdown_and_its_errcode_counts() {
    let endpoint = Endpoint::start(|request, number| match number {
        0 => Act::Answer(200, r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#.to_owned()),
        _ if request.target() == "/cgi-bin/webhook/send?key=key-123456" => {
            Act::Answer(200, OK.to_owned())
        }
        _ => Act::Answer(404, String::new()),
    });
    let rig = rig();
    let url = endpoint.url("/cgi-bin/webhook/send?key=key-123456");
    rig.channel("weixin", json!({"webhook_url": url}), &[]);
    rig.fire("web-1");
    rig.wait_logs(1);
    rig.advance_secs(5);
    let requests = endpoint.wait(2);
    rig.wait_empty();
    assert_eq!(
        requests[1].body,
        r####"{"markdown":{"content":"### [CRITICAL] Disk full: web-1 /\n\ndisk usage of / on web-1: 96.5 % of / on web-1 is used (since 2026-02-09 08:29:00 +00:00)"},"msgtype":"markdown"}"####
    );
    let rows = rig.logs();
    assert_eq!(rows[0].api_error_code.as_deref(), Some("45009"));
    assert_eq!(rows[1].status, "success");
}

#[test]
fn an_answer_that_is_no_robots_is_a_failure() {
    let endpoint = Endpoint::start(|_, _| Act::Answer(200, "<html>log in</html>".to_owned()));
    let rig = rig();
    let channel =
        rig.channel("weixin", json!({"webhook_url": endpoint.url("/send?key=k1234")}), &[]);
    let error = rig.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(error.contains("no errcode"), "{error}");
}
