//! The endpoints of domains and certificates: what they give, and what they refuse.

use std::time::Duration;

use oxmon::base::clock::parse_rfc3339;
use serde_json::{Value, json};

use super::{Tls, check, server_with};
use crate::support::free_port;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::wait_for;

const QUIET: &str = "[cert_check]\nenabled = false\nconnect_timeout_secs = 3\n";

fn refused(server: &mut Server, method: &str, path: &str, body: Option<Value>) -> (u16, i64) {
    let answer = server.call(method, path, body);
    let said = answer.body["err_msg"].as_str().unwrap_or_default();
    assert!(said.len() > 10, "{method} {path}: {}", answer.body);
    (answer.status, answer.code())
}

/// The status of a call with this token.
fn status_with(server: &Server, token: &str, method: &str, path: &str) -> u16 {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.url()))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body("{}")
        .unwrap();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    agent.run(request).unwrap().status().as_u16()
}

#[test]
fn every_endpoint_wants_a_login_and_a_reader_changes_nothing() {
    let mut server = Server::start(QUIET);
    let endpoints = [
        ("GET", "/v1/certs/domains"),
        ("POST", "/v1/certs/domains"),
        ("POST", "/v1/certs/domains/batch"),
        ("GET", "/v1/certs/domains/x"),
        ("PUT", "/v1/certs/domains/x"),
        ("DELETE", "/v1/certs/domains/x"),
        ("POST", "/v1/certs/domains/x/check"),
        ("GET", "/v1/certs/domains/x/history"),
        ("POST", "/v1/certs/check"),
        ("GET", "/v1/certs/status"),
        ("GET", "/v1/certs/status/x"),
        ("GET", "/v1/certs/summary"),
        ("GET", "/v1/certificates"),
        ("GET", "/v1/certificates/x"),
        ("GET", "/v1/certificates/x/chain"),
    ];
    for (method, path) in endpoints {
        let body = (method != "GET").then(|| json!({}));
        let answer = server.try_call(method, path, body).unwrap();
        assert_eq!((answer.status, answer.code()), (401, 1002), "{method} {path}");
        assert_eq!(status_with(&server, "not.a.token", method, path), 401, "{method} {path}");
    }
    let body = json!({"name": "reader", "read_only": true});
    server.call("GET", "/v1/health", None);
    let reader = server.post("/v1/auth/tokens", body)["token"].as_str().unwrap().to_owned();
    for (method, path) in endpoints {
        let status = status_with(&server, &reader, method, path);
        let wanted = if method == "GET" { status != 403 } else { status == 403 };
        assert!(wanted, "{method} {path}: {status}");
    }
}

#[test]
fn domains_are_made_read_changed_and_removed() {
    let mut server = Server::start(QUIET);
    let body = json!({"domain": "Bücher.Example.", "note": "shop", "check_interval_secs": 3600});
    let made = server.post("/v1/certs/domains", body);
    assert_eq!(made["domain"], "xn--bcher-kva.example");
    assert_eq!((&made["port"], &made["enabled"]), (&json!(443), &json!(true)));
    assert_eq!((&made["note"], &made["check_interval_secs"]), (&json!("shop"), &json!(3600)));
    assert_eq!((&made["last_checked_at"], &made["starttls"]), (&Value::Null, &Value::Null));
    let id = made["id"].as_str().unwrap().to_owned();
    for key in
        [id.as_str(), "xn--bcher-kva.example", "b%C3%BCcher.example", "XN--BCHER-KVA.example."]
    {
        assert_eq!(server.get(&format!("/v1/certs/domains/{key}")), made, "{key}");
    }
    let path = format!("/v1/certs/domains/{id}");
    let mut put = |body: Value| {
        let answer = server.call("PUT", &path, Some(body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.data().clone()
    };
    let changed = put(json!({"port": 8443, "enabled": false}));
    assert_eq!((&changed["port"], &changed["enabled"]), (&json!(8443), &json!(false)));
    assert_eq!(changed["check_interval_secs"], 3600, "what is left out stays");
    let changed = put(json!({"check_interval_secs": null, "note": null}));
    assert_eq!((&changed["check_interval_secs"], &changed["note"]), (&Value::Null, &Value::Null));
    assert_eq!(changed["port"], 8443);

    server.post("/v1/certs/domains", json!({"domain": "192.0.2.7", "port": 636}));
    let mut names = |query: &str| -> Vec<String> {
        let answer = server.call("GET", &format!("/v1/certs/domains{query}"), None);
        let rows = answer.data().as_array().unwrap().clone();
        assert!(answer.total.unwrap() >= rows.len() as u64);
        rows.iter().map(|row| row["domain"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["192.0.2.7", "xn--bcher-kva.example"]);
    assert_eq!(names("?limit=1&offset=1"), ["xn--bcher-kva.example"]);
    assert_eq!(names("?enabled__eq=true"), ["192.0.2.7"]);
    assert_eq!(names("?domain__contains=BCHER"), ["xn--bcher-kva.example"]);
    assert!(names("?domain__contains=%25").is_empty(), "a percent sign is itself");

    let gone = server.call("DELETE", &path, None);
    assert_eq!((gone.status, &gone.data()["id"]), (200, &json!(id)));
    assert_eq!(refused(&mut server, "DELETE", &path, None), (404, 1004));
}

#[test]
fn what_can_not_be_is_refused_by_its_code() {
    let mut server = Server::start(QUIET);
    let long = "x".repeat(2_000);
    let cases = [
        (json!({"domain": "not a host"}), 1102),
        (json!({"domain": ""}), 1102),
        (json!({"domain": "https://a.example/"}), 1102),
        (json!({"domain": "*.a.example"}), 1102),
        (json!({"domain": "a.example", "port": 0}), 1103),
        (json!({"domain": "a.example", "port": 65_536}), 1103),
        (json!({"domain": "a.example:1", "port": 2}), 1103),
        (json!({"domain": "a.example", "check_interval_secs": 0}), 1001),
        (json!({"domain": "a.example", "starttls": "ftp"}), 1001),
        (json!({"domain": "a.example", "note": long}), 1001),
        (json!({"domain": "a.example", "colour": "red"}), 1001),
        (json!({"port": 443}), 1001),
        (json!({"domain": 7}), 1001),
        (json!([]), 1001),
    ];
    for (body, code) in cases {
        let got = refused(&mut server, "POST", "/v1/certs/domains", Some(body.clone()));
        assert_eq!(got, (400, code), "{body}");
    }
    server.post("/v1/certs/domains", json!({"domain": "a.example"}));
    let other = server.post("/v1/certs/domains", json!({"domain": "a.example", "port": 8443}));
    assert_eq!(server.get("/v1/certs/domains/a.example:8443")["id"], other["id"]);
    let taken = Some(json!({"port": 443}));
    let id = other["id"].as_str().unwrap();
    let answer = server.call("PUT", &format!("/v1/certs/domains/{id}"), taken);
    assert_eq!((answer.status, answer.code()), (409, 1101), "{answer:?}");
    assert_eq!(server.call("DELETE", &format!("/v1/certs/domains/{id}"), None).status, 200);
    let again = Some(json!({"domain": "A.example.", "port": 443}));
    assert_eq!(refused(&mut server, "POST", "/v1/certs/domains", again), (409, 1101));
    let path = "/v1/certs/domains/a.example";
    for (body, code) in [
        (json!({"port": 0}), 1103),
        (json!({"check_interval_secs": -1}), 1001),
        (json!({"domain": "b.example"}), 1001),
        (json!({"starttls": "ftp"}), 1001),
    ] {
        assert_eq!(refused(&mut server, "PUT", path, Some(body)), (400, code));
    }
    for (method, path) in [
        ("GET", "/v1/certs/domains/b.example"),
        ("POST", "/v1/certs/domains/b.example/check"),
        ("GET", "/v1/certs/domains/b.example/history"),
        ("GET", "/v1/certs/status/b.example"),
        ("GET", "/v1/certificates/b.example"),
        ("GET", "/v1/certificates/b.example/chain"),
    ] {
        assert_eq!(refused(&mut server, method, path, None), (404, 1004), "{method} {path}");
    }
    let put = Some(json!({"enabled": true}));
    assert_eq!(refused(&mut server, "PUT", "/v1/certs/domains/b.example", put), (404, 1004));
    assert_eq!(refused(&mut server, "GET", "/v1/certs/status/a.example", None), (404, 1105));
    assert_eq!(refused(&mut server, "GET", "/v1/certificates/a.example", None), (404, 1105));
    assert_eq!(refused(&mut server, "GET", "/v1/certificates/a.example/chain", None), (404, 1105));
    for path in [
        "/v1/certs/domains?enabled__eq=yes",
        "/v1/certs/domains?name=a",
        "/v1/certs/status?limit=-1",
        "/v1/certs/domains/a.example/history?limit=many",
        "/v1/certificates?not_after__lte=soon",
    ] {
        assert_eq!(refused(&mut server, "GET", path, None), (400, 1001), "{path}");
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    let mut server = Server::start(QUIET);
    let batch = |names: &[&str]| {
        let domains: Vec<Value> = names.iter().map(|name| json!({"domain": name})).collect();
        json!({"domains": domains})
    };
    let made = server.post("/v1/certs/domains/batch", batch(&["a.example", "B.example"]));
    assert_eq!(
        (&made[0]["domain"], &made[1]["domain"]),
        (&json!("a.example"), &json!("b.example"))
    );
    let path = "/v1/certs/domains/batch";
    for (body, status, code) in [
        (batch(&[]), 400, 1104),
        (batch(&["c.example", "not a host"]), 400, 1102),
        (
            json!({"domains": [{"domain": "c.example"}, {"domain": "d.example", "port": 0}]}),
            400,
            1103,
        ),
        (batch(&["c.example", "a.example"]), 409, 1101),
        (batch(&["c.example", "C.example."]), 409, 1101),
        (json!({"domains": [{"domain": "c.example", "colour": 1}]}), 400, 1001),
        (batch(&vec!["c.example"; 1_001]), 400, 1001),
    ] {
        assert_eq!(refused(&mut server, "POST", path, Some(body)), (status, code));
    }
    let answer = server.call("POST", path, Some(batch(&["c.example", "not a host"])));
    assert!(answer.body["err_msg"].as_str().unwrap().starts_with("domains[1]: `not a host`"));
    assert_eq!(server.get("/v1/certs/domains").as_array().unwrap().len(), 2, "nothing of them");
}

#[test]
fn checks_of_all_stand_in_history_status_and_lists() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("soon", "DNS:localhost", 5);
    let soon = Tls::start(&pem, &key);
    let (pem, key) = pki.issue("late", "IP:127.0.0.9", 25);
    let late = Tls::start_at("127.0.0.9", &pem, &key, &[]);
    let ca = pki.ca().display().to_string();
    let mut server = Server::start(&format!("[cert_check]\nenabled = false\nca_file = {ca:?}\n"));
    assert_eq!(server.post("/v1/certs/check", json!({})), json!([]), "no domain, no check");
    let body = json!({"domains": [
        {"domain": "localhost", "port": soon.port},
        {"domain": "127.0.0.9", "port": late.port},
        {"domain": "127.0.0.10", "port": free_port(), "enabled": false},
    ]});
    server.post("/v1/certs/domains/batch", body);
    assert_eq!(server.get("/v1/certs/status"), json!([]), "nothing is checked by itself");
    for _ in 0..2 {
        let checks = server.post("/v1/certs/check", json!({}));
        let valid: Vec<(&str, bool)> = checks
            .as_array()
            .unwrap()
            .iter()
            .map(|check| (check["domain"].as_str().unwrap(), check["is_valid"].as_bool().unwrap()))
            .collect();
        assert_eq!(valid, [("127.0.0.9", true), ("localhost", true)], "{checks}");
    }
    let one = server.post("/v1/certs/domains/127.0.0.10/check", json!({}));
    assert_eq!(one["error_kind"], "connection_refused", "one that is not enabled can be asked for");

    let history = server.call("GET", "/v1/certs/domains/localhost/history?limit=1", None);
    assert_eq!(history.total, Some(2));
    assert_eq!(history.data()[0], server.get("/v1/certs/status/localhost"));
    let older = server.get("/v1/certs/domains/localhost/history?offset=1");
    // As times: texts of them have as many decimals as they need.
    let checked_ms = |row: &Value| parse_rfc3339(row["checked_at"].as_str().unwrap()).unwrap();
    assert!(checked_ms(&older[0]) <= checked_ms(&history.data()[0]));
    assert_ne!(older[0]["id"], history.data()[0]["id"]);
    let status = server.call("GET", "/v1/certs/status", None);
    assert_eq!(status.total, Some(3));
    assert_eq!(status.data()[2], history.data()[0]);
    assert_eq!(
        server.get("/v1/certs/summary"),
        json!({"total_domains": 3, "valid": 2, "invalid": 1, "expiring_soon": 2})
    );
    let overview = server.get("/v1/dashboard/overview");
    assert_eq!(overview["cert_summary"], server.get("/v1/certs/summary"));

    let mut subjects = |query: &str| -> Vec<String> {
        let rows = server.get(&format!("/v1/certificates{query}"));
        let names = rows.as_array().unwrap().iter();
        names.map(|row| row["subject_cn"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(subjects(""), ["soon", "late"], "what ends first at the head");
    assert_eq!(subjects("?limit=1&offset=1"), ["late"]);
    assert_eq!(subjects("?ip_address__contains=0.0.9"), ["late"]);
    assert_eq!(subjects("?issuer__contains=test%20AUTH"), ["soon", "late"]);
    assert!(subjects("?issuer__contains=nobody").is_empty());
    let in_ten_days = crate::support::grpc::now_ms() / 1_000 + 10 * 86_400;
    assert_eq!(subjects(&format!("?not_after__lte={in_ten_days}")), ["soon"]);
    assert_eq!(subjects("?not_after__lte=2999-01-01T00:00:00Z"), ["soon", "late"]);

    server.call("DELETE", "/v1/certs/domains/localhost", None);
    assert_eq!(refused(&mut server, "GET", "/v1/certificates/localhost", None), (404, 1004));
}

#[test]
fn another_port_and_a_short_interval_are_checked_without_being_asked_for() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("good", "DNS:localhost", 90);
    let tls = Tls::start(&pem, &key);
    let mut server = server_with(&pki, "");
    let seen = check(&mut server, "localhost", free_port());
    assert_eq!(seen["error_kind"], "connection_refused");
    let body = json!({"port": tls.port, "check_interval_secs": 1});
    assert_eq!(server.call("PUT", "/v1/certs/domains/localhost", Some(body)).status, 200);
    wait_for("the check of the new port", Duration::from_secs(20), || {
        (server.get("/v1/certs/status/localhost")["is_valid"] == true).then_some(())
    });
    wait_for("a check by the interval", Duration::from_secs(20), || {
        let history = server.call("GET", "/v1/certs/domains/localhost/history", None);
        (history.total >= Some(4)).then_some(())
    });
    let domain = server.get("/v1/certs/domains/localhost");
    assert!(domain["last_checked_at"].is_string());
}

#[test]
fn what_fires_for_a_domain_ends_when_it_is_no_longer_checked() {
    let pki = Pki::new();
    let rule = "[[alert.rules]]\nname = \"invalid\"\ntype = \"threshold\"\n\
                metric = \"certificate.is_valid\"\nagent_pattern = \"cert-checker\"\n\
                operator = \"less_than\"\nvalue = 1.0\nduration_secs = 0\n";
    let mut server = server_with(&pki, rule);
    for address in ["127.0.0.11", "127.0.0.12", "127.0.0.13"] {
        check(&mut server, address, free_port());
    }
    let firing = |server: &mut Server, count: usize| {
        wait_for("the alerts", Duration::from_secs(20), || {
            (server.get("/v1/alerts/active").as_array().unwrap().len() == count).then_some(())
        });
    };
    firing(&mut server, 3);
    assert_eq!(server.call("DELETE", "/v1/certs/domains/127.0.0.11", None).status, 200);
    firing(&mut server, 2);
    let off = Some(json!({"enabled": false}));
    assert_eq!(server.call("PUT", "/v1/certs/domains/127.0.0.12", off).status, 200);
    firing(&mut server, 1);
    assert_eq!(server.get("/v1/alerts/active")[0]["labels"]["domain"], "127.0.0.13");
}
