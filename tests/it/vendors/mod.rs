//! Chats, push services and incident tools: each vendor's checks of what it receives, over TLS,
//! from a point on the wire to the message and its recovery.

mod checks;
mod plain;
mod words;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint, Request};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::wait_for;
use checks::{VENDORS, Vendor};

const LIMIT: Duration = Duration::from_secs(30);
const CONFIG: &str = "/v1/notifications/channels/config";

/// A vendor's server over TLS, and what it found wrong with requests.
struct Served {
    endpoint: Endpoint,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn start(vendor: &'static Vendor, identity: &(PathBuf, PathBuf)) -> Self {
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        let identity =
            native_tls::Identity::from_pkcs8(&read(&identity.0), &read(&identity.1)).unwrap();
        let tls = native_tls::TlsAcceptor::new(identity).unwrap();
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&wrong);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::start_on(listener, Some(tls), move |request, _| {
            match (vendor.take)(request) {
                Ok((status, body)) => Act::Answer(status, body),
                Err(why) => {
                    let why = format!("{}: {why}: {request:?}", vendor.kind);
                    found.lock().unwrap().push(why);
                    Act::Answer(400, String::new())
                }
            }
        });
        Self { endpoint, wrong }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.endpoint.port)
    }

    fn requests(&self) -> Vec<Request> {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        self.endpoint.requests()
    }
}

/// A server and every vendor, each with its channel.
fn all(pki: &Pki, head: &str) -> (Server, Vec<(&'static Vendor, Served)>) {
    let identity = pki.issue("vendor", "IP:127.0.0.1", 10);
    let ca = pki.dir.path().join("ca.pem");
    let mut server = Server::start(&format!("{head}\n[notify]\nca_file = {ca:?}\n"));
    let mut served = Vec::new();
    for vendor in &VENDORS {
        let one = Served::start(vendor, &identity);
        make(&mut server, vendor, &one.url());
        served.push((vendor, one));
    }
    (server, served)
}

fn make(server: &mut Server, vendor: &Vendor, base: &str) {
    let body = json!({"name": format!("ops-{}", vendor.kind), "channel_type": vendor.kind,
                      "config_json": (vendor.config)(base)});
    let made = server.post(CONFIG, body);
    for secret in vendor.secrets {
        assert!(!made.to_string().contains(secret), "{secret} is in {made}");
    }
}

fn hot_rule(server: &mut Server) {
    let config = json!({"operator": "greater_than", "value": 90.0});
    server.post(
        "/v1/alerts/rules",
        json!({"name": "Hot <b>&</b>", "rule_type": "threshold", "metric": "cpu.usage",
               "severity": "critical", "config_json": config, "silence_secs": 0}),
    );
}

fn report(server: &Server, agent: &str, value: f64) {
    let reply =
        Client::to(server.grpc_port).report(&batch(agent, now_ms(), &[("cpu.usage", value)]));
    assert!(reply.unwrap().success);
}

/// Waits for so many rows of the delivery log of a channel type and status; gives the newest.
fn wait_log(server: &mut Server, kind: &str, status: &str, count: u64) -> Value {
    let path = format!("/v1/notifications/logs?status={status}&channel_type={kind}");
    wait_for(&format!("{count} rows of {kind}, {status}"), LIMIT, || {
        let logs = server.get(&path);
        (logs["total"].as_u64()? >= count).then(|| logs["items"][0].clone())
    })
}

#[test]
fn each_vendor_takes_the_firing_and_the_recovery() {
    let pki = Pki::new();
    let (mut server, vendors) = all(&pki, "aggregation_window_secs = 0\ntime_zone = 'UTC'");
    hot_rule(&mut server);
    report(&server, "web-1", 95.0);
    for (vendor, served) in &vendors {
        wait_for(vendor.kind, LIMIT, || (!served.requests().is_empty()).then_some(()));
    }
    report(&server, "web-1", 10.0);
    let mut ids = Vec::new();
    for (vendor, served) in &vendors {
        let row = wait_log(&mut server, vendor.kind, "success", 2);
        ids.push((vendor.kind, row["api_message_id"].as_str().unwrap_or_default().to_owned()));
        let requests = served.requests();
        assert_eq!(requests.len(), 2, "{}", vendor.kind);
        assert!(requests[0].body.contains("web-1"), "{}", requests[0].body);
        assert_ne!(requests[0].body, requests[1].body);
    }
    let sent = |kind: &str| -> Vec<Value> {
        let found = vendors.iter().find(|(vendor, _)| vendor.kind == kind).unwrap();
        found.1.requests().iter().map(Request::json).collect()
    };
    let (events, documents) = (sent("pagerduty"), sent("json"));
    assert_eq!(
        (&events[0]["event_action"], &events[1]["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"], "the same alert");
    assert_eq!(events[0]["dedup_key"], documents[0]["alerts"][0]["dedup_key"]);
    assert_eq!(
        (&documents[0]["status"], &documents[1]["status"]),
        (&json!("firing"), &json!("resolved"))
    );
    assert!(documents[1]["alerts"][0]["ended_at"].is_string());
    let priorities = |kind| -> Vec<i64> {
        sent(kind).iter().map(|body| body["priority"].as_i64().unwrap()).collect()
    };
    assert_eq!(priorities("ntfy"), [5, 3]);
    assert_eq!(priorities("gotify"), [8, 4]);
    assert_eq!(priorities("pushover"), [2, 0]);
    assert_eq!(sent("ntfy")[1]["tags"], json!(["white_check_mark", "web", "prod"]));
    let known = ids.iter().filter(|(_, id)| !id.is_empty()).map(|(kind, _)| *kind);
    assert_eq!(
        known.collect::<Vec<_>>(),
        ["discord", "telegram", "ntfy", "gotify", "pushover", "matrix", "pagerduty"]
    );
    let shown = server.get("/v1/notifications/logs?limit=100").to_string() + &server.log();
    for secret in VENDORS.iter().flat_map(|vendor| vendor.secrets) {
        assert!(!shown.contains(secret), "{secret} is in a log");
    }
}

#[test]
fn many_alerts_of_hosts_with_bad_names_stay_within_each_vendors_limits() {
    let pki = Pki::new();
    let (mut server, vendors) = all(&pki, "aggregation_window_secs = 2\ntime_zone = 'UTC'");
    hot_rule(&mut server);
    for index in 0..40 {
        report(
            &server,
            &format!("主机-{index:02}-<@all>&\"*_`~[x](http://evil)-{}", "长".repeat(20)),
            95.0,
        );
    }
    let mut keys = BTreeSet::new();
    for (vendor, served) in &vendors {
        wait_for(vendor.kind, LIMIT, || {
            let bodies: Vec<Value> = served.requests().iter().map(Request::json).collect();
            if vendor.kind != "pagerduty" {
                return (!bodies.is_empty()).then_some(());
            }
            keys.extend(bodies.iter().map(|body| body["dedup_key"].to_string()));
            (keys.len() == 40).then_some(())
        });
        wait_log(&mut server, vendor.kind, "success", 1);
        let failed = server
            .get(&format!("/v1/notifications/logs?status=failed&channel_type={}", vendor.kind));
        assert_eq!(failed["total"], 0, "{failed}");
        for request in served.requests() {
            let is_data = ["pagerduty", "json"].contains(&vendor.kind);
            assert!(is_data || !request.body.contains("<@all>"), "{}", request.body);
        }
    }
}

#[test]
fn a_refusal_for_good_is_not_retried_and_says_what_the_vendor_said() {
    let mut server = Server::start("aggregation_window_secs = 0");
    let mut endpoints = Vec::new();
    for vendor in &VENDORS {
        let (status, body, ..) = vendor.refusal;
        let endpoint = Endpoint::start(move |_, _| Act::Answer(status, body.to_owned()));
        make(&mut server, vendor, &endpoint.url(""));
        endpoints.push(endpoint);
    }
    hot_rule(&mut server);
    report(&server, "web-1", 95.0);
    for (vendor, endpoint) in VENDORS.iter().zip(&endpoints) {
        let (_, _, code, words) = vendor.refusal;
        let row = wait_log(&mut server, vendor.kind, "failed", 1);
        let error = row["error_message"].as_str().unwrap();
        assert!(error.contains(words) && error.ends_with("; not retried"), "{error}");
        assert_eq!(row["api_error_code"].as_str().unwrap_or_default(), code, "{row}");
        assert_eq!(endpoint.requests().len(), 1, "{}", vendor.kind);
    }
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_the_answer_says() {
    let refusals = [
        ("telegram", r#"{"ok":false,"error_code":429,"parameters":{"retry_after":3}}"#),
        ("discord", r#"{"message":"You are being rate limited.","retry_after":2.8}"#),
        ("matrix", r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many","retry_after_ms":2800}"#),
    ];
    let mut server = Server::start("aggregation_window_secs = 0");
    let mut all = Vec::new();
    for (kind, refusal) in refusals {
        let vendor = VENDORS.iter().find(|vendor| vendor.kind == kind).unwrap();
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let endpoint = Endpoint::start(move |request, number| {
            seen.lock().unwrap().push(Instant::now());
            match (number, (vendor.take)(request)) {
                (0, _) => Act::Answer(429, refusal.to_owned()),
                (_, Ok((status, body))) => Act::Answer(status, body),
                (_, Err(why)) => Act::Answer(400, why),
            }
        });
        make(&mut server, vendor, &endpoint.url(""));
        all.push((kind, endpoint, times));
    }
    hot_rule(&mut server);
    report(&server, "web-1", 95.0);
    for (kind, endpoint, times) in &all {
        wait_log(&mut server, kind, "success", 1);
        let requests = endpoint.requests();
        assert_eq!(requests.len(), 2, "{kind}");
        assert_eq!(requests[0].target(), requests[1].target(), "the same transaction");
        let times = times.lock().unwrap();
        let waited = times[1] - times[0];
        assert!(waited >= Duration::from_millis(2_700), "{kind} was asked again after {waited:?}");
    }
}

#[test]
fn a_test_message_leaves_no_incident_and_recipients_take_the_configured_ones_place() {
    let pagerduty = Endpoint::start(|_, _| Act::Answer(202, r#"{"status":"success"}"#.to_owned()));
    let ntfy = Endpoint::start(|_, _| Act::Answer(200, "{}".to_owned()));
    let mut server = Server::start("aggregation_window_secs = 0");
    let config = json!({"routing_key": "0123456789abcdef0123456789abcdef",
                        "api_url": pagerduty.url("")});
    server.post(CONFIG, json!({"name": "pd", "channel_type": "pagerduty", "config_json": config}));
    server.post("/v1/notifications/channels/pd/test", json!({}));
    let events: Vec<Value> = pagerduty.requests().iter().map(Request::json).collect();
    let actions: Vec<&Value> = events.iter().map(|event| &event["event_action"]).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);
    let taken = server.call("PUT", &format!("{CONFIG}/pd"), Some(json!({"recipients": ["x"]})));
    assert!(taken.body["err_msg"].as_str().unwrap().contains("takes no recipients"), "{taken:?}");
    let config = json!({"url": ntfy.url(""), "username": "phil", "password": "mypass"});
    let topicless = json!({"name": "n", "channel_type": "ntfy", "config_json": config});
    let refused = server.call("POST", CONFIG, Some(topicless.clone()));
    let said = refused.body["err_msg"].as_str().unwrap();
    assert!(said.contains("config_json: topic: is missing"), "{said}");
    let mut body = topicless;
    body["recipients"] = json!(["one", "two"]);
    assert_eq!(server.post(CONFIG, body)["recipient_type"], "id");
    server.post("/v1/notifications/channels/n/test", json!({}));
    let topics: Vec<Value> =
        ntfy.requests().iter().map(|request| request.json()["topic"].clone()).collect();
    assert_eq!(topics, ["one", "two"]);
    // `phil:mypass` in Base64.
    assert_eq!(ntfy.requests()[0].header("authorization"), "Basic cGhpbDpteXBhc3M=");
}
