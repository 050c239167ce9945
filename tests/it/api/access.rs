//! The whole route table from outside: who may call what, and whether each answer is what the
//! document says.

use std::collections::BTreeSet;
use std::time::Duration;

use oxmon::server::api::router::{ADMIN, Access, Gives, Method, Route};
use oxmon::server::api::routes::all as routes;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::schema::faults;
use crate::support::server::{Answer, Server};
use crate::support::wait_for;

/// A route's path with `id` in the place of what varies.
fn path_of(route: &Route, id: &str) -> String {
    let parts = route.path.split('/').map(|part| if part.starts_with('{') { id } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn call(server: &Server, token: Option<&str>, route: &Route, id: &str) -> Answer {
    let body = route.body.map(|_| json!({}));
    server.call_as(token, route.method.name(), &path_of(route, id), body)
}

/// The API's routes. The dashboard's files are no part of it, and are everyone's.
fn endpoints() -> impl Iterator<Item = &'static Route> {
    routes().filter(|route| route.is_endpoint())
}

fn protected() -> impl Iterator<Item = &'static Route> {
    endpoints().filter(|route| route.access != Access::Public)
}

#[test]
fn nothing_but_what_is_public_answers_without_a_login() {
    let server = Server::start("");
    let public: Vec<&str> = endpoints()
        .filter(|route| route.access == Access::Public)
        .map(|route| route.path)
        .collect();
    let logins = ["/v1/auth/login", "/v1/auth/session"];
    let known = ["/v1/health", "/v1/openapi.json", "/v1/openapi.yaml"].into_iter().chain(logins);
    assert_eq!(BTreeSet::from_iter(public), BTreeSet::from_iter(known));
    let strange =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4IiwiZXBvY2giOjAsImlhdCI6MCwiZXhwIjo5OTk5OTk5OTk5fQ.c2ln";
    for route in protected() {
        for token in [None, Some("wrong"), Some(strange), Some("oxm_0123456789abcdef")] {
            let answer = call(&server, token, route, "none");
            let seen = (answer.status, answer.code(), answer.data());
            assert_eq!(seen, (401, 1002, &Value::Null), "{} {}", route.method.name(), route.path);
        }
    }
}

#[test]
fn a_viewer_reads_changes_nothing_and_sees_no_configuration() {
    let mut server = Server::start("");
    let body = json!({"username": "eve", "password": "only looking"});
    assert_eq!(server.post("/v1/users", body)["role"], "viewer");
    let viewer = server.log_in("eve", "only looking");
    let made = server.call_as(
        Some(server.token().unwrap()),
        "POST",
        "/v1/auth/tokens",
        Some(json!({"name": "reader", "read_only": true})),
    );
    let reader = made.data()["token"].as_str().unwrap().to_owned();
    // What a viewer may send other than GET concerns the viewer's own account, or stores nothing.
    let own = [
        "/v1/auth/password",
        "/v1/auth/logout",
        "/v1/auth/tokens",
        "/v1/auth/tokens/{id}",
        "/v1/alerts/rules/test",
    ];
    let mut refused = 0;
    for route in protected().filter(|route| route.path != "/v1/auth/logout") {
        let label = format!("{} {}", route.method.name(), route.path);
        let changes = route.method != Method::Get && !own.contains(&route.path);
        let configures = route.path.contains("config") || route.path.starts_with("/v1/users");
        if changes || configures {
            assert_eq!(route.access, ADMIN, "{label}");
        }
        for token in [&viewer, &reader] {
            let answer = call(&server, Some(token), route, "none");
            if route.access == ADMIN {
                assert_eq!((answer.status, answer.code()), (403, 1007), "{label}: {}", answer.body);
                refused += 1;
            } else if route.method == Method::Get {
                assert!(!matches!(answer.status, 401 | 403), "{label}: {}", answer.body);
            }
        }
    }
    assert!(refused > 40, "{refused} calls were refused");
    // Refused means not done: the viewer is still one, and nobody else is there.
    assert_eq!(server.get("/v1/users").as_array().unwrap().len(), 2);
    // An API token makes no other, not even for an administrator.
    let body = json!({"name": "another"});
    assert_eq!(server.call_as(Some(&reader), "POST", "/v1/auth/tokens", Some(body)).status, 403);
}

/// Something of each kind, and the id of each, so that no list is empty and no id is unknown.
fn furnish(server: &mut Server) -> Vec<(&'static str, String)> {
    let mut ids = Vec::new();
    let mut add = |server: &mut Server, prefix: &'static str, path: &str, body: Value| {
        let made = server.post(path, body);
        ids.push((prefix, made["id"].as_str().unwrap_or_default().to_owned()));
    };
    add(server, "/v1/agents/whitelist", "/v1/agents/whitelist", json!({"agent_id": "web-02"}));
    add(
        server,
        "/v1/alerts/rules",
        "/v1/alerts/rules",
        json!({"name": "busy", "rule_type": "threshold", "metric": "memory.total",
               "config_json": {"operator": "greater_than", "value": 1.0, "duration_secs": 0}}),
    );
    let channel = json!({"name": "hook", "channel_type": "webhook",
        "config_json": {"url": "http://127.0.0.1:9/"}});
    add(server, "/v1/notifications/channels", "/v1/notifications/channels/config", channel);
    let window = json!({"start_time": "02:00", "end_time": "04:00", "recurrence": "daily"});
    add(server, "", "/v1/notifications/silence-windows", window);
    let user = json!({"username": "eve", "password": "only looking"});
    add(server, "/v1/users", "/v1/users", user);
    server.post("/v1/auth/tokens", json!({"name": "script"}));
    if routes().any(|route| route.path == "/v1/certs/domains") {
        let domain = json!({"domain": "localhost", "port": 1});
        add(server, "/v1/certs/domains", "/v1/certs/domains", domain);
        let id = ids.last().map(|(_, id)| id.clone()).unwrap_or_default();
        server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
    }
    ids.push(("/v1/agents/", "web-01".to_owned()));
    ids.push(("/v1/certs/status", "localhost".to_owned()));
    ids
}

/// The parameters that a GET must have.
fn query_of(route: &Route) -> String {
    let required = route.query.iter().filter(|param| param.required);
    let pairs: Vec<String> = required
        .map(|param| match param.name {
            "agent_id" => "agent_id=web-01".to_owned(),
            "metric_name" => "metric_name=memory.total".to_owned(),
            "step" => "step=60".to_owned(),
            name if name.contains("timestamp__gte") => format!("{name}=2026-01-01T00:00:00Z"),
            name => panic!("{}: the test knows no value for `{name}`", route.path),
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[test]
fn every_get_answers_what_its_schema_says() {
    let mut server = Server::start("[cert_check]\nenabled = false\n[prometheus]\nagents = true\n");
    let mut ids = furnish(&mut server);
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let alert = wait_for("an alert", Duration::from_secs(30), || {
        let alerts = server.get("/v1/alerts/history");
        alerts[0]["id"].as_str().map(str::to_owned)
    });
    server.post(&format!("/v1/alerts/history/{alert}/comments"), json!({"text": "seen"}));
    ids.push(("/v1/alerts/history/", alert));
    let document = server.call_as(None, "GET", "/v1/openapi.json", None).body;
    let mut empty = Vec::new();
    let mut unknown = Vec::new();
    for route in endpoints().filter(|route| route.method == Method::Get) {
        let id =
            ids.iter().find(|(prefix, _)| !prefix.is_empty() && route.path.starts_with(prefix));
        let id = id.map_or("none", |(_, id)| id.as_str());
        let path = path_of(route, id) + &query_of(route);
        let answer = server.call("GET", &path, None);
        let status = answer.status.to_string();
        let response = &document["paths"][route.path]["get"]["responses"][&status];
        assert!(!response.is_null(), "GET {path} answers {status}, which its document has not");
        if answer.status != 200 {
            unknown.push(route.path);
        }
        if let (Gives::Raw(kind), 200) = (route.gives, answer.status) {
            assert!(!response["content"][kind].is_null(), "GET {path} is no {kind}");
            continue;
        }
        let schema = &response["content"]["application/json"]["schema"];
        let found = faults(&document, schema, &answer.body);
        assert!(found.is_empty(), "GET {path}:\n{}\n{}", found.join("\n"), answer.body);
        if answer.data().as_array().is_some_and(Vec::is_empty) {
            empty.push(route.path);
        }
        if matches!(route.gives, Gives::List(_)) {
            let total = answer.total.unwrap_or_else(|| panic!("GET {path} has no X-Total-Count"));
            assert!(total >= answer.data().as_array().unwrap().len() as u64, "GET {path}");
        }
    }
    // Nothing listens on that port, so that no certificate was seen.
    unknown.retain(|path| !path.starts_with("/v1/certificates/"));
    assert!(unknown.is_empty(), "not there: {unknown:?}");
    empty.retain(|path| !path.starts_with("/v1/certificates"));
    // The window holds nothing back, and the one channel is notified after its group's time.
    empty.retain(|path| !path.ends_with("/recipients") && *path != "/v1/notifications/logs");
    assert!(empty.is_empty(), "nothing was seen of {empty:?}");
}

#[test]
fn the_checker_of_answers_finds_faults() {
    let document = json!({"components": {"schemas": {"A": {"type": "object",
        "required": ["a"], "additionalProperties": false,
        "properties": {"a": {"type": ["integer", "null"]}, "t": {"format": "date-time"}}}}}});
    let schema = json!({"$ref": "#/components/schemas/A"});
    let wrong = [
        json!([]),
        json!({}),
        json!({"a": "x"}),
        json!({"a": 1.5}),
        json!({"a": 1, "b": 2}),
        json!({"a": 1, "t": "2026-02-30T00:00:00Z"}),
        json!({"a": 1, "t": "2026-02-09T08:30:00+01:00"}),
    ];
    assert!(
        faults(&document, &schema, &json!({"a": null, "t": "2026-02-09T08:30:00Z"})).is_empty()
    );
    for value in wrong {
        assert!(!faults(&document, &schema, &value).is_empty(), "{value}");
    }
    assert!(!faults(&document, &json!({"$ref": "#/none"}), &json!(1)).is_empty());
    assert!(!faults(&document, &json!({"enum": ["a"]}), &json!("b")).is_empty());
    assert!(!faults(&document, &json!({"mystery": 1}), &json!("b")).is_empty());
}
