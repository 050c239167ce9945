//! Users, roles, API tokens and the audit log over HTTP.

use serde_json::{Value, json};

use crate::support::server::{Answer, Server};

fn make(server: &mut Server, name: &str, role: &str) -> String {
    let body = json!({"username": name, "password": "a good one", "role": role});
    server.post("/v1/users", body)["id"].as_str().unwrap().to_owned()
}

fn refused(answer: &Answer, status: u16, code: i64) -> String {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.body);
    answer.body["err_msg"].as_str().unwrap().to_owned()
}

#[test]
fn users_are_made_listed_changed_and_removed() {
    let mut server = Server::start("");
    let id = make(&mut server, "eve", "viewer");
    let user = server.get(&format!("/v1/users/{id}"));
    assert_eq!((&user["username"], &user["role"]), (&json!("eve"), &json!("viewer")));
    assert!(!user.to_string().contains("argon2"), "{user}");
    assert_eq!(server.get("/v1/users/eve")["id"], *id);
    let answer = server.call("GET", "/v1/users?limit=1&offset=1", None);
    assert_eq!((answer.total, &answer.data()[0]["username"]), (Some(2), &json!("eve")));

    let changed = server.call("PUT", "/v1/users/eve", Some(json!({"role": "admin"})));
    assert_eq!((changed.status, &changed.data()["role"]), (200, &json!("admin")));
    assert_eq!(server.call("DELETE", &format!("/v1/users/{id}"), None).status, 200);
    refused(&server.call("GET", "/v1/users/eve", None), 404, 1004);
}

#[test]
fn a_user_that_can_be_none_is_refused() {
    let mut server = Server::start("");
    make(&mut server, "eve", "viewer");
    let mut post = |body: Value| server.call("POST", "/v1/users", Some(body));
    let good = "a good one";
    refused(&post(json!({"username": "eve", "password": good})), 409, 1005);
    for name in ["", " ", " bob", "a\tb", &"x".repeat(65)] {
        let told = refused(&post(json!({"username": name, "password": good})), 400, 1001);
        assert!(told.contains("username"), "{told}");
    }
    let told = refused(&post(json!({"username": "bob", "password": "short"})), 400, 1001);
    assert!(told.contains("password"), "{told}");
    refused(&post(json!({"username": "bob", "password": good, "role": "root"})), 400, 1001);
    refused(&post(json!({"username": "bob"})), 400, 1001);
    refused(&post(json!({"username": "bob", "password": good, "id": "1"})), 400, 1001);
    for (method, path, body) in [
        ("GET", "/v1/users/nobody", None),
        ("PUT", "/v1/users/nobody", Some(json!({"role": "viewer"}))),
        ("DELETE", "/v1/users/nobody", None),
        ("POST", "/v1/users/nobody/password", Some(json!({"new_password": good}))),
    ] {
        refused(&server.call(method, path, body), 404, 1004);
    }
}

#[test]
fn the_last_administrator_can_neither_go_nor_step_down() {
    let mut server = Server::start("");
    make(&mut server, "eve", "viewer");
    let down = Some(json!({"role": "viewer"}));
    let told = refused(&server.call("PUT", "/v1/users/admin", down.clone()), 409, 1005);
    assert!(told.contains("last administrator"), "{told}");
    refused(&server.call("DELETE", "/v1/users/admin", None), 409, 1005);
    server.call("PUT", "/v1/users/eve", Some(json!({"role": "admin"})));
    assert_eq!(server.call("PUT", "/v1/users/admin", down).status, 200);
    // It was the caller's own role, and is in force at once.
    refused(&server.call("GET", "/v1/users", None), 403, 1007);
    let eve = server.log_in("eve", "a good one");
    let answer = server.call_as(Some(&eve), "DELETE", "/v1/users/eve", None);
    refused(&answer, 409, 1005);
}

#[test]
fn a_changed_role_a_new_password_and_a_removal_are_in_force_at_once() {
    let mut server = Server::start("");
    make(&mut server, "bob", "admin");
    let bob = server.log_in("bob", "a good one");
    let body = Some(json!({"name": "script"}));
    let made = server.call_as(Some(&bob), "POST", "/v1/auth/tokens", body);
    let script = made.data()["token"].as_str().unwrap().to_owned();
    let status = |server: &Server, token: &str| {
        server.call_as(Some(token), "GET", "/v1/system/config", None).status
    };
    assert_eq!((status(&server, &bob), status(&server, &script)), (200, 200));
    // A token that leaks makes neither users nor tokens.
    let body = json!({"username": "mallory", "password": "a good one", "role": "admin"});
    refused(&server.call_as(Some(&script), "POST", "/v1/users", Some(body)), 403, 1007);

    server.call("PUT", "/v1/users/bob", Some(json!({"role": "viewer"})));
    assert_eq!((status(&server, &bob), status(&server, &script)), (403, 403));
    server.call("PUT", "/v1/users/bob", Some(json!({"role": "admin"})));
    assert_eq!(status(&server, &bob), 200);

    let reset = |password: &str| Some(json!({"new_password": password}));
    let told = server.call("POST", "/v1/users/bob/password", reset("short"));
    assert!(refused(&told, 400, 1001).contains("new_password"));
    assert_eq!(status(&server, &bob), 200);
    assert_eq!(server.call("POST", "/v1/users/bob/password", reset("another one")).status, 200);
    assert_eq!(status(&server, &bob), 401);
    let old = Some(json!({"username": "bob", "password": "a good one"}));
    refused(&server.call_as(None, "POST", "/v1/auth/login", old), 401, 1002);
    let bob = server.log_in("bob", "another one");
    assert_eq!(status(&server, &bob), 200);

    assert_eq!(server.call("DELETE", "/v1/users/bob", None).status, 200);
    assert_eq!((status(&server, &bob), status(&server, &script)), (401, 401));
}

#[test]
fn a_token_that_is_over_is_refused_as_such_and_a_revoked_one_at_once() {
    let mut server = Server::start("");
    let at = oxmon::base::clock::rfc3339(crate::support::grpc::now_ms() + 4_000);
    let made = server.post("/v1/auth/tokens", json!({"name": "short", "expires_at": at}));
    let token = made["token"].as_str().unwrap().to_owned();
    crate::support::wait_for("its end", std::time::Duration::from_secs(10), || {
        let answer = server.call_as(Some(&token), "GET", "/v1/alerts/active", None);
        assert!(answer.status == 200 || answer.code() == 1003, "{}", answer.body);
        (answer.status == 401).then_some(())
    });
    let made = server.post("/v1/auth/tokens", json!({"name": "script"}));
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(server.call_as(Some(token), "GET", "/v1/alerts/active", None).status, 200);
    let listed = server.get("/v1/auth/tokens");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("oxm_"), "{listed}");
    assert_eq!(server.call("DELETE", &format!("/v1/auth/tokens/{id}"), None).status, 200);
    refused(&server.call_as(Some(token), "GET", "/v1/alerts/active", None), 401, 1002);
    refused(&server.call("DELETE", &format!("/v1/auth/tokens/{id}"), None), 404, 1004);
}

#[test]
fn the_audit_log_says_who_changed_what_from_where_and_when() {
    let mut server = Server::start("");
    make(&mut server, "eve", "viewer");
    let eve = server.log_in("eve", "a good one");
    let wrong = Some(json!({"username": "eve", "password": "a guess"}));
    server.call_as(None, "POST", "/v1/auth/login", wrong);
    server.call_as(Some(&eve), "DELETE", "/v1/users/admin", None);
    let list = server.get("/v1/audit");
    let shown: Vec<(&str, &str, &str, i64)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap();
            assert_eq!(text("address"), "127.0.0.1");
            assert!(!text("trace_id").is_empty());
            let status = entry["status"].as_i64().unwrap();
            (text("username"), text("action"), text("target"), status)
        })
        .collect();
    let login = ("POST /v1/auth/login", "/v1/auth/login");
    let wanted = [
        ("eve", "DELETE /v1/users/{id}", "/v1/users/admin", 403),
        ("eve", login.0, login.1, 401),
        ("eve", login.0, login.1, 200),
        ("admin", "POST /v1/users", "/v1/users", 201),
        ("admin", login.0, login.1, 200),
    ];
    assert_eq!(shown, wanted);
    assert!(!list.to_string().contains("a good one") && !list.to_string().contains("a guess"));

    let total = |server: &mut Server, query: &str| {
        let answer = server.call("GET", &format!("/v1/audit?{query}"), None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.total.unwrap()
    };
    assert_eq!(total(&mut server, "username__eq=admin"), 2);
    assert_eq!(total(&mut server, "action__contains=DELETE"), 1);
    assert_eq!(total(&mut server, "action__contains=/auth/&username__eq=eve&limit=1"), 2);
    let second = list[1]["timestamp"].as_str().unwrap();
    let third = list[2]["timestamp"].as_str().unwrap();
    let since = total(&mut server, &format!("timestamp__gte={second}"));
    assert!((2..=5).contains(&since), "{since}");
    assert!(total(&mut server, &format!("timestamp__lte={third}")) >= 3);
    assert_eq!(total(&mut server, "timestamp__lte=2026-01-01T00:00:00Z"), 0);
    let answer = server.call("GET", "/v1/audit?timestamp__gte=yesterday", None);
    assert!(refused(&answer, 400, 1001).contains("timestamp__gte"));
}

#[test]
fn failed_logins_must_wait_and_are_told_how_long() {
    let server = Server::start("");
    make_many_failures(&server);
    let login = json!({"username": "admin", "password": "changeme"}).to_string();
    let url = format!("{}/v1/auth/login", server.url());
    let answer = ureq::post(&url)
        .config()
        .http_status_as_error(false)
        .build()
        .content_type("application/json")
        .send(&login)
        .unwrap();
    // Even the right password waits: otherwise the wait would tell when a guess is right.
    assert_eq!(answer.status().as_u16(), 429);
    let wait = answer.headers().get("Retry-After").unwrap().to_str().unwrap();
    assert!((1..=60).contains(&wait.parse::<u64>().unwrap()), "{wait}");
}

fn make_many_failures(server: &Server) {
    let guess = || Some(json!({"username": "admin", "password": "a guess"}));
    let seen: Vec<u16> =
        (0..8).map(|_| server.call_as(None, "POST", "/v1/auth/login", guess()).status).collect();
    assert_eq!(seen.first(), Some(&401));
    assert_eq!(seen.last(), Some(&429), "{seen:?}");
}
