//! What scripts written for earlier releases send and read, and pages of other origins.

use serde_json::{Value, json};

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

#[test]
fn a_limit_is_capped_none_are_given_for_0_and_cache_busters_are_ignored() {
    let mut server = Server::start("");
    let points: Vec<(String, f64)> = (0..1_100).map(|it| (format!("m{it:04}"), 1.0)).collect();
    let points: Vec<(&str, f64)> = points.iter().map(|(name, it)| (name.as_str(), *it)).collect();
    let sent = batch("web-01", now_ms(), &points);
    assert!(Client::to(server.grpc_port).report(&sent).unwrap().success);
    for path in ["/v1/metrics/names", "/v1/metrics"] {
        for (limit, rows) in
            [("0", 0), ("1000", 1_000), ("1001", 1_000), ("9".repeat(30).as_str(), 1_000)]
        {
            let answer = server.call("GET", &format!("{path}?limit={limit}&_=17"), None);
            let seen = (answer.status, answer.data().as_array().map(Vec::len), answer.total);
            assert_eq!(seen, (200, Some(rows), Some(1_100)), "{path} {limit}");
        }
    }
    for list in [
        "/v1/agents",
        "/v1/alerts/history",
        "/v1/alerts/active",
        "/v1/certs/domains",
        "/v1/users",
        "/v1/audit",
        "/v1/dashboard/agents",
        "/v1/agents/whitelist",
    ] {
        let answer = server.call("GET", &format!("{list}?limit=0&_cache=%FF&_"), None);
        assert_eq!((answer.status, answer.data()), (200, &json!([])), "{list}");
    }
    let answer = server.call("GET", "/v1/agents?cache=1", None);
    assert_eq!((answer.status, answer.code()), (400, 1001));
}

#[test]
fn an_alert_has_the_old_fields_and_is_resolved_twice_without_complaint() {
    let rule = "[[alert.rules]]\nname = \"hot\"\ntype = \"threshold\"\nmetric = \"t\"\n\
                operator = \"greater_than\"\nvalue = 1.0\nduration_secs = 0\n";
    let mut server = Server::start(rule);
    let client = Client::to(server.grpc_port);
    for agent in ["web-01", "web-02"] {
        assert!(client.report(&batch(agent, now_ms(), &[("t", 5.0)])).unwrap().success);
    }
    let active = wait_for("both alerts", std::time::Duration::from_secs(15), || {
        let active = server.get("/v1/alerts/active");
        (active.as_array()?.len() == 2).then_some(active)
    });
    let (first, id) = (&active[0], active[0]["id"].as_str().unwrap());
    assert_eq!(first["created_at"], first["timestamp"]);
    assert_eq!(first["updated_at"], first["timestamp"]);
    let resolve = format!("/v1/alerts/history/{id}/resolve");
    let once = server.post(&resolve, json!({}));
    assert_eq!(once["status"], 3);
    assert_eq!(once["updated_at"], once["resolved_at"]);
    let again = server.call("POST", &resolve, None);
    assert_eq!((again.status, &again.data()["resolved_at"]), (200, &once["resolved_at"]));
    let summary = wait_for("the summary", std::time::Duration::from_secs(15), || {
        let summary = server.get("/v1/alerts/summary");
        (summary["recovered_count"] == 1).then_some(summary)
    });
    assert_eq!((&summary["total"], &summary["active_count"]), (&json!(2), &json!(1)));
    assert_eq!(summary["by_severity"], json!({"info": 0, "warning": 2, "critical": 0}));
    assert_eq!(summary["by_agent"], json!({"web-01": 1, "web-02": 1}));
    assert_eq!(summary["by_metric"], json!({"t": 2}));
    assert_eq!(summary["by_rule"], json!({"hot": 2}));
}

#[test]
fn removed_things_say_so_and_recipients_come_in_pages() {
    let mut server = Server::start("[cert_check]\nenabled = false\n");
    server.post("/v1/certs/domains", json!({"domain": "a.example"}));
    let gone = server.call("DELETE", "/v1/certs/domains/a.example", None);
    assert_eq!((gone.status, &gone.data()["deleted"]), (200, &json!(true)), "{}", gone.body);
    assert_eq!(gone.data()["domain"], "a.example");
    let removed = server.post("/v1/system/storage/cleanup", json!({}));
    assert_eq!(removed["partitions_removed"], removed["removed_partitions"]);
    assert_eq!(removed["partitions_removed"], 0);

    let all: Vec<String> = (0..30).map(|it| format!("http://127.0.0.1:9/{it}")).collect();
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook",
        "channel_type": "webhook", "config_json": "{}", "recipients": all}),
    );
    let path = "/v1/notifications/channels/hook/recipients";
    let answer = server.call("GET", path, None);
    assert_eq!((answer.total, answer.data().as_array().map(Vec::len)), (Some(30), Some(20)));
    let answer = server.call("GET", &format!("{path}?limit=3&offset=28"), None);
    assert_eq!(answer.data(), &json!(all[28..]));
}

fn headers(
    server: &Server,
    method: &str,
    path: &str,
    origin: &str,
) -> (u16, Vec<(String, String)>) {
    let request = ureq::http::Request::builder().method(method).uri(server.url() + path);
    let request = request.header("Origin", origin).header("Access-Control-Request-Method", "GET");
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let reply = agent.run(request.body(()).unwrap()).unwrap();
    let named = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
    };
    (reply.status().as_u16(), reply.headers().iter().map(named).collect())
}

#[test]
fn pages_of_other_origins_read_the_documents_and_what_is_allowed_to_them() {
    let closed = Server::start("");
    let mut open = Server::start("[cors]\nallowed_origins = [\"https://ui.example.com\"]\n");
    let allowed = |found: &[(String, String)]| {
        let name = "access-control-allow-origin";
        found.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    for server in [&closed, &open] {
        let (status, found) = headers(server, "GET", "/v1/openapi.json", "https://any.example");
        assert_eq!((status, allowed(&found).as_deref()), (200, Some("*")));
    }
    let page = "https://ui.example.com";
    let (status, found) = headers(&closed, "OPTIONS", "/v1/agents", page);
    assert_eq!((status, allowed(&found)), (405, None));
    let (_, found) = headers(&open, "GET", "/v1/health", "https://evil.example");
    assert_eq!(allowed(&found), None);
    let (status, found) = headers(&open, "OPTIONS", "/v1/agents/whitelist/x", page);
    assert_eq!((status, allowed(&found).as_deref()), (204, Some(page)), "{found:?}");
    let value = |name: &str| {
        found.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    };
    assert_eq!(value("access-control-allow-methods"), "PUT, DELETE");
    assert!(value("access-control-allow-headers").contains("Authorization"));
    let (status, found) = headers(&open, "GET", "/v1/agents", page);
    assert_eq!((status, allowed(&found).as_deref()), (401, Some(page)), "an error can be read");
    let (status, found) = headers(&open, "OPTIONS", "/v1/nothing", page);
    assert_eq!((status, allowed(&found).as_deref()), (404, Some(page)));
    // The connection goes on after an answer without a body.
    assert_eq!(open.get("/v1/agents"), Value::Array(Vec::new()));
}
