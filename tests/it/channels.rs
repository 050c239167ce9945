//! Every channel type from a point on the wire to the message as its receiver got it, and
//! receivers that fail in the middle.

use std::time::Duration;

use oxmon::base::clock::{MINUTE_MS, SECOND_MS};
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::mail_server::MailServer;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(30);
const CONFIG: &str = "/v1/notifications/channels/config";
const HEAD: &str = "aggregation_window_secs = 0\ntime_zone = 'UTC'\n";

fn make(server: &mut Server, kind: &str, config: Value, recipients: &[&str]) {
    let body = json!({
        "name": format!("ops-{kind}"), "channel_type": kind, "config_json": config.to_string(),
        "recipients": recipients,
    });
    server.post(CONFIG, body);
}

fn hot_rule(server: &mut Server) {
    let config = json!({"operator": "greater_than", "value": 90.0});
    server.post(
        "/v1/alerts/rules",
        json!({
            "name": "Hot", "rule_type": "threshold", "metric": "cpu.usage",
            "severity": "critical", "config_json": config.to_string(), "silence_secs": 0,
        }),
    );
}

/// A time some minutes ago, on a second.
fn some_time() -> i64 {
    let ago = now_ms() - 5 * MINUTE_MS;
    ago - ago % SECOND_MS
}

fn report(server: &Server, agent: &str, at_ms: i64, value: f64) {
    let reply = Client::to(server.grpc_port).report(&batch(agent, at_ms, &[("cpu.usage", value)]));
    assert!(reply.unwrap().success);
}

/// `2026-02-09 08:30:00 +00:00`
fn shown(at_ms: i64) -> String {
    oxmon::base::clock::rfc3339(at_ms).replace('T', " ").replace('Z', " +00:00")
}

/// Waits for so many rows of the delivery log of a status; gives the newest.
fn wait_log(server: &mut Server, status: &str, count: u64) -> Value {
    let path = format!("/v1/notifications/logs?status={status}");
    wait_for(&format!("{count} rows of {status}"), LIMIT, || {
        let logs = server.get(&path);
        (logs["total"].as_u64()? >= count).then(|| logs["items"][0].clone())
    })
}

/// What of an SMTP server's message is fixed: its headers of transport, and both texts.
fn check_mail(mail: &Value, subject: &str) {
    assert_eq!((&mail["tls"], &mail["from"]), (&json!(true), &json!("alerts@example.com")));
    assert_eq!(mail["to"], json!(["ops@example.com"]));
    let data = mail["data"].as_str().unwrap();
    assert!(data.contains(&format!("\r\nSubject: {subject}\r\n")), "{data}");
    assert!(data.contains("\r\nContent-Type: multipart/alternative;"), "{data}");
    for kind in ["text/plain", "text/html"] {
        assert!(data.contains(&format!("Content-Type: {kind}; charset=utf-8")), "{data}");
    }
}

#[test]
fn mail_goes_over_starttls_with_a_login_and_over_tls_from_the_first_byte() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("mail", "DNS:localhost", 10);
    let (pem, key) = (pem.to_str().unwrap(), key.to_str().unwrap());
    let login = ["--user", "oxmon", "--password", "pass-w0rd"];
    let start = |how: &str| {
        let tls = ["--tls", how, "--cert", pem, "--key", key];
        MailServer::start(&[&tls[..], &login[..]].concat())
    };
    let (upgraded, wrapped) = (start("starttls"), start("tls"));
    let ca = pki.dir.path().join("ca.pem");
    let mut server = Server::start(&format!("{HEAD}[notify]\nca_file = {ca:?}\n"));
    for (name, mails) in [("starttls", &upgraded), ("tls", &wrapped)] {
        let config = json!({
            "smtp_host": "localhost", "smtp_port": mails.port, "from_name": "oxmon",
            "from_email": "alerts@example.com", "smtp_username": "oxmon",
            "smtp_password": "pass-w0rd", "tls": name,
        });
        let body = json!({"name": name, "channel_type": "email", "config_json": config,
            "recipients": ["ops@example.com"]});
        let made = server.post(CONFIG, body);
        assert!(!made.to_string().contains("pass-w0rd"), "{made}");
    }
    hot_rule(&mut server);
    let at = some_time();
    report(&server, "web-1", at, 95.0);
    report(&server, "web-1", at + 60_000, 10.0);
    for mails in [&upgraded, &wrapped] {
        let taken = mails.wait(2);
        check_mail(&taken[0], "[CRITICAL] Hot: web-1");
        check_mail(&taken[1], "[RESOLVED] Hot: web-1");
        assert_eq!(taken[0]["user"], "oxmon");
    }
    let row = wait_log(&mut server, "success", 4);
    assert_eq!(row["response_body"], "250 2.0.0 OK: queued as TEST1");
    assert!(!server.log().contains("pass-w0rd"), "a password is in the log");
}

#[test]
fn https_with_a_private_authority_needs_its_file() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("hook", "IP:127.0.0.1", 10);
    let sink = Sink::tls(&pem, &key);
    let ca = pki.dir.path().join("ca.pem");
    let mut trusting = Server::start(&format!("{HEAD}[notify]\nca_file = {ca:?}\n"));
    let mut doubting = Server::start(HEAD);
    for server in [&mut trusting, &mut doubting] {
        make(server, "webhook", json!({}), &[&sink.url("/ok")]);
        hot_rule(server);
        report(server, "web-1", some_time(), 95.0);
    }
    wait_log(&mut trusting, "success", 1);
    let row = wait_log(&mut doubting, "failed", 1);
    let error = row["error_message"].as_str().unwrap();
    assert!(error.contains("certificate verify failed"), "{error}");
    let bodies = sink.bodies();
    assert_eq!((bodies.len(), &bodies[0]["status"]), (1, &json!("firing")));
}

#[test]
fn robots_and_gateways_get_what_their_documents_say_byte_for_byte() {
    let dingtalk = Sink::robot("SEC-very-secret");
    let (weixin, sms) = (Sink::start(), Endpoint::start(|_, _| Act::ok()));
    let mut server = Server::start(HEAD);
    let url = dingtalk.url("/robot?access_token=tok-123456");
    make(&mut server, "dingtalk", json!({"webhook_url": url, "secret": "SEC-very-secret"}), &[]);
    let url = weixin.url("/robot?key=key-123456");
    make(&mut server, "weixin", json!({"webhook_url": url}), &[]);
    let config = json!({"gateway_url": sms.url("/sms"), "api_key": "api-123456"});
    make(&mut server, "sms", config, &["+8613800138000"]);
    hot_rule(&mut server);
    let at = some_time();
    report(&server, "web-1", at, 95.0);
    wait_log(&mut server, "success", 3);
    let line = format!(
        "### [CRITICAL] Hot: web-1\\n\\nCPU usage on web-1 is 95%, over 90%, since {}",
        shown(at)
    );
    let request = &dingtalk.requests()[0];
    assert_eq!(
        request["body"],
        format!(
            "{{\"markdown\":{{\"text\":\"{line}\",\"title\":\"[CRITICAL] Hot: web-1\"}},\
             \"msgtype\":\"markdown\"}}"
        )
    );
    assert_eq!(request["query"]["access_token"], json!(["tok-123456"]));
    assert!(request["query"]["sign"].is_array() && request["query"]["timestamp"].is_array());
    assert_eq!(
        weixin.requests()[0]["body"],
        format!("{{\"markdown\":{{\"content\":\"{line}\"}},\"msgtype\":\"markdown\"}}")
    );
    let request = &sms.requests()[0];
    assert_eq!(request.header("authorization"), "Bearer api-123456");
    assert_eq!(
        request.body,
        format!(
            "{{\"message\":\"[CRITICAL] Hot: web-1: CPU usage on web-1 is 95%, over 90%, since {}\",\
             \"phone\":\"+8613800138000\",\"to\":\"+8613800138000\"}}",
            shown(at)
        )
    );
    let logs = server.get("/v1/notifications/logs").to_string() + &server.log();
    for secret in ["very-secret", "tok-123456", "key-123456", "api-123456"] {
        assert!(!logs.contains(secret), "{secret} is in a log");
    }
}

fn aliyun(endpoint: &str) -> Value {
    json!({"provider": "aliyun", "access_key_id": "LTAI-id", "access_key_secret": "ali-123456",
           "sign_name": "测试 签名", "template_code": "SMS_123456789", "endpoint": endpoint})
}

fn tencent(endpoint: &str) -> Value {
    json!({"provider": "tencent", "secret_id": "AKID-id", "secret_key": "ten-123456",
           "sdk_app_id": "1400123456", "sign_name": "测试", "template_id": "123456",
           "template_params": ["{{agent_id}}", "{{text}}"], "endpoint": endpoint})
}

#[test]
fn the_messages_of_two_clouds_are_signed_as_their_documents_say() {
    let (ali, ten) = (Sink::sms("LTAI-id", "ali-123456"), Sink::sms("AKID-id", "ten-123456"));
    let mut server = Server::start(HEAD);
    let mut config = aliyun(&ali.url(""));
    config["template_param"] = json!(r#"{"who": "{{agent_id}}", "what": "{{text}}"}"#);
    make(&mut server, "sms_aliyun", config, &["+86 138-0013-8000", "13800130000"]);
    make(&mut server, "sms_tencent", tencent(&ten.url("")), &["+8613800138000", "13800130000"]);
    hot_rule(&mut server);
    let at = some_time();
    report(&server, "web-1 \"ä\"", at, 95.0);
    wait_log(&mut server, "failed", 2);
    let text = format!(
        "[CRITICAL] Hot: web-1 \"ä\": CPU usage on web-1 \"ä\" is 95%, over 90%, since {}",
        shown(at)
    );
    let requests = ali.requests();
    assert_eq!(requests.len(), 2, "a lasting refusal is not tried again: {requests:?}");
    let ok = |request: &&Value| request["body"].as_str().unwrap().contains("8613800138000");
    let body = requests.iter().find(ok).unwrap()["body"].as_str().unwrap().to_owned();
    let pairs = body.split('&').map(|pair| pair.split_once('=').unwrap());
    let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8().unwrap();
    let field = |name: &str| pairs.clone().find(|(key, _)| *key == name).map(|(_, v)| decoded(v));
    assert_eq!(field("PhoneNumbers").as_deref(), Some("8613800138000"));
    assert_eq!(field("SignName").as_deref(), Some("测试 签名"));
    let values: Value = serde_json::from_str(&field("TemplateParam").unwrap()).unwrap();
    assert_eq!(values, json!({"who": "web-1 \"ä\"", "what": text}));
    let requests = ten.requests();
    let of = |request: &Value| -> Value {
        serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
    };
    let body = requests.iter().map(of).find(|body| body["PhoneNumberSet"][0] == "+8613800138000");
    let body = body.unwrap();
    assert_eq!(body["TemplateParamSet"], json!(["web-1 \"ä\"", text]));
    assert_eq!(
        (&body["SmsSdkAppId"], &body["TemplateId"]),
        (&json!("1400123456"), &json!("123456"))
    );
    let logs = server.get("/v1/notifications/logs?limit=100");
    let rows = logs["items"].as_array().unwrap();
    for (kind, code) in [
        ("sms_aliyun", "isv.MOBILE_NUMBER_ILLEGAL"),
        ("sms_tencent", "FailedOperation.PhoneNumberInBlacklist"),
    ] {
        let row = rows.iter().find(|row| row["channel_type"] == kind).unwrap();
        assert_eq!(row["api_error_code"], code);
        let details: Value =
            serde_json::from_str(row["recipient_details"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&details[0]["status"], &details[1]["status"]),
            (&json!("success"), &json!("failed"))
        );
    }
    let logs = logs.to_string() + &server.log();
    for secret in ["ali-123456", "ten-123456"] {
        assert!(!logs.contains(secret), "{secret} is in a log");
    }
}

#[test]
fn a_wrong_key_of_a_cloud_is_named_and_its_fields_are_checked() {
    let (ali, ten) = (Sink::sms("LTAI-id", "another"), Sink::sms("AKID-id", "another"));
    let mut server = Server::start(HEAD);
    for (kind, config, said) in [
        ("sms_aliyun", aliyun(&ali.url("")), "SignatureDoesNotMatch"),
        ("sms_tencent", tencent(&ten.url("")), "AuthFailure.SignatureFailure"),
    ] {
        // The first release wrote `config` for `config_json`.
        let body = json!({"name": kind, "channel_type": kind, "config": config,
                          "recipients": ["13800138000"]});
        let made = server.post(CONFIG, body);
        assert_eq!(made["recipient_type"], "phone");
        let answer = server.call("POST", &format!("/v1/notifications/channels/{kind}/test"), None);
        assert_eq!((answer.status, answer.code()), (424, 1013), "{answer:?}");
        assert!(answer.body["err_msg"].as_str().unwrap().contains(said), "{answer:?}");
        let shown = server.get(&format!("{CONFIG}?limit=100")).to_string();
        assert!(!shown.contains("-123456"), "a secret is shown: {shown}");
    }
    for (field, value, why) in [
        ("access_key_secret", Value::Null, "is missing"),
        ("endpoint", json!("https://sms.example.com/path"), "without a path"),
        ("endpoint", json!("http://u:p@sms.example.com"), "no user"),
        ("template_param", json!("{\"a\": \"{{nobody}}\"}"), "is not one of"),
        ("provider", json!("tencent"), "must be one of aliyun"),
    ] {
        let mut config = aliyun("dysmsapi.aliyuncs.com");
        config[field] = value;
        let body = json!({"name": "x", "channel_type": "sms_aliyun", "config_json": config,
                          "recipients": ["13800138000"]});
        let answer = server.call("POST", CONFIG, Some(body));
        let said = answer.body["err_msg"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && said.contains(field) && said.contains(why), "{said}");
    }
    let mut config = tencent("sms.tencentcloudapi.com");
    config["template_params"] = json!("one");
    let body = json!({"name": "x", "channel_type": "sms_tencent", "config_json": config});
    let answer = server.call("POST", CONFIG, Some(body));
    assert!(answer.body["err_msg"].as_str().unwrap().contains("a list of strings"), "{answer:?}");
}

#[test]
fn a_robots_errcode_is_a_failure_that_is_tried_again() {
    let robot = Endpoint::start(|_, number| match number {
        0 => Act::Answer(200, r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#.to_owned()),
        _ => Act::Answer(200, r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()),
    });
    let mut server = Server::start(HEAD);
    make(&mut server, "weixin", json!({"webhook_url": robot.url("/send?key=key-123456")}), &[]);
    hot_rule(&mut server);
    report(&server, "web-1", some_time(), 95.0);
    let row = wait_log(&mut server, "failed", 1);
    assert_eq!((&row["api_error_code"], &row["http_status_code"]), (&json!("45009"), &json!(200)));
    let row = wait_log(&mut server, "success", 1);
    assert_eq!(row["retry_count"], 1);
    assert_eq!(robot.requests().len(), 2);
}

#[test]
fn a_endpoint_that_answers_500_then_503_then_nothing_has_the_message_in_the_end() {
    let endpoint = Endpoint::start(|_, number| match number {
        0 => Act::Answer(500, "out of order".to_owned()),
        1 => Act::Answer(503, "soon".to_owned()),
        2 => Act::Close,
        _ => Act::ok(),
    });
    let mut server = Server::start(HEAD);
    make(&mut server, "webhook", json!({}), &[&endpoint.url("/")]);
    hot_rule(&mut server);
    report(&server, "web-1", some_time(), 95.0);
    let row = wait_log(&mut server, "success", 1);
    assert_eq!((&row["retry_count"], &row["response_body"]), (&json!(3), &json!("thanks")));
    let failed = server.get("/v1/notifications/logs?status=failed");
    let errors: Vec<&str> = failed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["error_message"].as_str())
        .collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert_eq!(errors[1], "the endpoint answered HTTP 503");
    assert_eq!(errors[2], "the endpoint answered HTTP 500");
    let ids =
        endpoint.requests().iter().map(|r| r.json()["notification_id"].clone()).collect::<Vec<_>>();
    assert!(ids.iter().all(|id| *id == ids[0]), "a receiver can tell a repeat: {ids:?}");
}

#[test]
fn a_kill_in_the_middle_of_a_delivery_loses_nothing_and_repeats_only_what_was_not_noted() {
    let cut = Endpoint::start(|_, number| if number == 0 { Act::Hang } else { Act::ok() });
    let done = Endpoint::start(|_, _| Act::ok());
    let mut server = Server::start(HEAD);
    make(&mut server, "webhook", json!({}), &[&done.url("/done"), &cut.url("/cut")]);
    hot_rule(&mut server);
    report(&server, "web-1", some_time(), 95.0);
    done.wait(1);
    cut.wait(1);
    // The receiver has the message and does not answer; what was noted is that the other took it.
    server.kill_and_restart();
    let sent = cut.wait(2);
    let id = |number: usize| sent[number].json()["notification_id"].clone();
    assert_eq!(id(0), id(1));
    wait_log(&mut server, "success", 1);
    server.kill_and_restart();
    report(&server, "web-2", some_time(), 95.0);
    assert_eq!(cut.wait(3)[2].json()["alerts"][0]["agent_id"], "web-2");
    let told = done.wait(2);
    assert_eq!(told[1].json()["alerts"][0]["agent_id"], "web-2", "nobody was notified twice");
}

#[test]
fn a_redirect_takes_no_secret_anywhere() {
    let thief = Endpoint::start(|_, _| Act::ok());
    let to = thief.url("/steal");
    let endpoint = Endpoint::start(move |_, _| Act::Redirect(to.clone()));
    let mut server = Server::start(HEAD);
    let config = json!({"headers": {"Authorization": "Bearer top-secret-1"}});
    make(&mut server, "webhook", config, &[&endpoint.url("/")]);
    let answer = server.call("POST", "/v1/notifications/channels/ops-webhook/test", None);
    assert_eq!((answer.status, answer.code()), (424, 1013), "{answer:?}");
    let said = answer.body["err_msg"].as_str().unwrap();
    assert!(said.contains("302") && said.contains("not followed"), "{said}");
    assert_eq!((endpoint.requests().len(), thief.requests().len()), (1, 0));
    assert_eq!(endpoint.requests()[0].header("authorization"), "Bearer top-secret-1");
    assert!(!server.log().contains("top-secret-1"));
}
