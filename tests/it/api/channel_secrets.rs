//! What a channel keeps secret: nobody reads it, and it goes to no address that it was not made
//! for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::server::{Answer, Server};
use crate::support::wait_for;

const CONFIG: &str = "/v1/notifications/channels/config";
const LOGS: &str = "/v1/notifications/logs";

fn make(server: &mut Server, kind: &str, config: Value, recipients: &[&str]) -> Value {
    let body = json!({"name": "c", "channel_type": kind, "config_json": config,
        "recipients": recipients});
    server.post(CONFIG, body)
}

fn put(server: &mut Server, change: Value) -> Answer {
    server.call("PUT", &format!("{CONFIG}/c"), Some(change))
}

fn test(server: &mut Server) -> Answer {
    server.call("POST", "/v1/notifications/channels/c/test", None)
}

fn refused(answer: &Answer, words: &[&str]) {
    assert_eq!((answer.status, answer.code()), (400, 1001), "{answer:?}");
    let said = answer.body["err_msg"].as_str().unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn an_address_that_changes_wants_the_secrets_again() {
    let (good, thief) = (Endpoint::start(|_, _| Act::ok()), Endpoint::start(|_, _| Act::ok()));
    let mut server = Server::start("");
    let gateway = json!({"gateway_url": good.url("/sms?id=7"), "api_key": "key-123456"});
    let made = make(&mut server, "sms", gateway, &["10086"]);
    let masked = format!(r#"{{"api_key":"***","gateway_url":"{}?id=***"}}"#, good.url("/sms"));
    assert_eq!(made["config_json"], masked);
    for elsewhere in
        [thief.url("/sms"), good.url("/other"), good.url("/sms").replace("http", "https")]
    {
        let config = json!({"gateway_url": elsewhere, "api_key": "***"});
        let answer = put(&mut server, json!({"config_json": config}));
        refused(&answer, &["api_key: must be given again", "gateway_url changes"]);
    }
    // What was refused changed nothing: the masked text is still the stored one.
    assert_eq!(put(&mut server, json!({"config_json": masked})).status, 200);
    assert_eq!(test(&mut server).status, 200);
    assert_eq!(good.requests()[0].header("authorization"), "Bearer key-123456");
    assert_eq!(good.requests()[0].target(), "/sms?id=7");
    let config = json!({"gateway_url": thief.url("/sms"), "api_key": "key-654321"});
    assert_eq!(put(&mut server, json!({"config_json": config})).status, 200);
    assert_eq!(test(&mut server).status, 200);
    assert_eq!(thief.requests().len(), 1);
    assert_eq!(thief.requests()[0].header("authorization"), "Bearer key-654321");
}

#[test]
fn a_mail_server_that_changes_wants_its_password_again() {
    let mut server = Server::start("");
    let config = json!({"smtp_host": "mail.example.com", "smtp_port": 587, "from_name": "oxmon",
        "from_email": "a@example.com", "smtp_username": "a", "smtp_password": "pass-w0rd"});
    make(&mut server, "email", config.clone(), &["ops@example.com"]);
    let mut change = |field: &str, value: Value, password: &str| {
        let mut config = config.clone();
        config["smtp_password"] = json!(password);
        config[field] = value;
        put(&mut server, json!({"config_json": config}))
    };
    for (field, value) in [
        ("smtp_host", json!("mail.example.net")),
        ("smtp_port", json!(2_525)),
        ("tls", json!("none")),
    ] {
        let answer = change(field, value, "***");
        refused(&answer, &["smtp_password: must be given again", field]);
    }
    assert_eq!(change("from_name", json!("monitor"), "***").status, 200);
    assert_eq!(change("smtp_host", json!("mail.example.net"), "pass-w0rd").status, 200);
}

#[test]
fn recipients_of_another_host_get_no_stored_header() {
    let (good, thief) = (Endpoint::start(|_, _| Act::ok()), Endpoint::start(|_, _| Act::ok()));
    let mut server = Server::start("");
    let headers = json!({"headers": {"Authorization": "Bearer top-secret-1"}});
    make(&mut server, "webhook", headers.clone(), &[&good.url("/a")]);
    let (recipients, theirs) = ("/v1/notifications/channels/c/recipients", thief.url("/steal"));
    let set = |server: &mut Server, list: Value| {
        server.call("PUT", recipients, Some(json!({"recipients": list})))
    };
    let answer = set(&mut server, json!([good.url("/a"), theirs]));
    refused(&answer, &["headers: must be given again", "new recipient"]);
    let masked = json!({"headers": {"Authorization": "***"}});
    let both = json!({"config_json": masked, "recipients": [theirs]});
    refused(&put(&mut server, both), &["headers: must be given again"]);
    assert_eq!(set(&mut server, json!([good.url("/b")])).status, 200, "the same host");
    let both = json!({"config_json": headers, "recipients": [theirs]});
    assert_eq!(put(&mut server, both).status, 200);
    assert_eq!(thief.requests().len(), 0);
}

#[test]
fn a_masked_url_keeps_the_stored_one_or_is_refused_and_is_never_stored() {
    let robot = Endpoint::start(|_, _| Act::Answer(200, r#"{"errcode":0}"#.to_owned()));
    let mut server = Server::start("");
    let url = robot.url("/robot?access_token=tok-123456");
    make(&mut server, "dingtalk", json!({"webhook_url": url}), &[]);
    let masked = robot.url("/robot?access_token=***");
    let with = |url: &str| json!({"config_json": {"webhook_url": url}});
    assert_eq!(put(&mut server, with(&format!("{masked}&x=1"))).status, 200);
    assert_eq!(test(&mut server).status, 200);
    assert_eq!(robot.requests()[0].target(), "/robot?access_token=tok-123456&x=1");
    for other in [
        masked.replace("/robot", "/robots"),
        masked.replace("access_token", "token"),
        "https://oapi.example.com/robot?access_token=***".to_owned(),
    ] {
        refused(&put(&mut server, with(&other)), &["webhook_url", "nothing is stored"]);
    }
    let body =
        json!({"name": "d", "channel_type": "weixin", "config_json": {"webhook_url": masked}});
    refused(&server.call("POST", CONFIG, Some(body)), &["webhook_url", "nothing is stored"]);

    // Recipients are URLs too; those that read alike keep their order.
    let (one, two) = (robot.url("/r?access_token=one-11"), robot.url("/r?access_token=two-22"));
    let set = |server: &mut Server, list: Value| put(server, json!({"recipients": list}));
    let shown = set(&mut server, json!([one, two])).data()["recipients"].clone();
    let same = robot.url("/r?access_token=***");
    assert_eq!(shown, json!([same, same]));
    assert_eq!(server.get("/v1/notifications/channels/c/recipients"), shown);
    let more = robot.url("/r?access_token=new-33");
    assert_eq!(set(&mut server, json!([same, same, more])).status, 200);
    refused(&set(&mut server, json!([same])), &["recipients", "in full"]);
    refused(&set(&mut server, json!([same, same, same, same])), &["nothing is stored"]);
    assert_eq!(test(&mut server).status, 200);
    let targets: Vec<String> =
        robot.requests()[1..].iter().map(|request| request.target().to_owned()).collect();
    let wanted = ["one-11", "two-22", "new-33"].map(|token| format!("/r?access_token={token}"));
    assert_eq!(targets, wanted);
}

#[test]
fn the_delivery_log_shows_no_signature_and_no_literal_of_a_template() {
    // An endpoint that says what it was sent.
    let echo = Endpoint::start(|request, _| {
        let said = format!("{} {}", request.target(), request.body.replace('"', "'"));
        Act::Answer(200, json!({"errcode": 0, "errmsg": said}).to_string())
    });
    let mut server = Server::start("aggregation_window_secs = 0\n");
    let url = echo.url("/robot?access_token=tok-123456");
    make(&mut server, "dingtalk", json!({"webhook_url": url, "secret": "SEC-very"}), &[]);
    assert_eq!(test(&mut server).status, 200);
    let target = echo.requests()[0].target().to_owned();
    let sign = target.split("sign=").nth(1).unwrap().to_owned();
    let answer = server.get(LOGS)["items"][0]["response_body"].as_str().unwrap().to_owned();
    assert!(answer.contains("sign=***") && !answer.contains(&sign), "{answer}");

    let template =
        r#"{"token": "lit-4711", "to": "xoxb-0123456789-abcdefghij", "m": "{{message}}"}"#;
    let hook = json!({"name": "t", "channel_type": "webhook",
        "config_json": {"url": echo.url("/hook"), "body_template": template}});
    let made = server.post(CONFIG, hook);
    let shown = made["config_json"].as_str().unwrap();
    assert!(shown.contains("***") && !shown.contains("lit-4711"), "{shown}");
    // Given back as it was shown, it is the stored one.
    let back = json!({"config_json": shown});
    assert_eq!(server.call("PUT", &format!("{CONFIG}/t"), Some(back)).status, 200);
    assert_eq!(server.call("POST", "/v1/notifications/channels/t/test", None).status, 200);
    assert!(echo.requests()[1].body.contains(r#""token": "lit-4711""#));
    let rows = wait_for("two rows", Duration::from_secs(20), || {
        Some(server.get(LOGS)).filter(|logs| logs["total"] == 2)
    });
    let body = rows["items"][0]["request_body"].as_str().unwrap();
    assert!(body.contains("A test of the channel"), "{body}");
    let all = rows.to_string() + &server.log();
    for secret in ["lit-4711", "xoxb-0123456789", "tok-123456", sign.as_str()] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }

    // Bodies are for administrators.
    server.post("/v1/users", json!({"username": "eve", "password": "only looking"}));
    let eve = server.log_in("eve", "only looking");
    let logs = server.call_as(Some(&eve), "GET", LOGS, None);
    for row in logs.data()["items"].as_array().unwrap() {
        assert_eq!((&row["request_body"], &row["response_body"]), (&Value::Null, &Value::Null));
        assert_eq!(row["status"], "success");
    }
}

#[test]
fn a_redirect_and_an_error_show_no_token_of_a_url() {
    let endpoint =
        Endpoint::start(|_, _| Act::Redirect("https://x.example/?token=tok-999".to_owned()));
    let mut server = Server::start("");
    make(&mut server, "webhook", json!({"url": endpoint.url("/?k=tok-123456")}), &[]);
    let answer = test(&mut server);
    assert_eq!(answer.status, 424, "{answer:?}");
    let said = answer.body["err_msg"].as_str().unwrap();
    assert!(said.contains("token=***") && !said.contains("tok-"), "{said}");
    let bad = json!({"config_json": {"url": "https://a b.example/?k=tok-123456"}});
    let said = put(&mut server, bad).body["err_msg"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("k=***") && !said.contains("tok-"), "{said}");
    assert!(!server.log().contains("tok-"));
}
