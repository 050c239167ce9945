//! Logins: what the default password is good for, how a login ends, whose tokens are whose, what
//! the audit log leaves out.

use serde_json::{Value, json};

use crate::support::other_address;
use crate::support::server::{Answer, Server};

const GOOD: &str = "a good one";

fn refused(answer: &Answer, status: u16, code: i64) -> String {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.body);
    answer.body["err_msg"].as_str().unwrap().to_owned()
}

fn call(url: &str, token: Option<&str>, method: &str, path: &str, body: Value) -> (u16, Value) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    let request = request.header("Content-Type", "application/json");
    let request = match token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    };
    let mut reply = if body.is_null() {
        agent.run(request.body(()).unwrap()).unwrap()
    } else {
        agent.run(request.body(body.to_string()).unwrap()).unwrap()
    };
    let text = reply.body_mut().read_to_string().unwrap();
    (reply.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[test]
fn from_another_machine_the_default_password_is_good_for_changing_it_alone() {
    let Some(ip) = other_address() else {
        eprintln!("no address but loopback: not tried");
        return;
    };
    let mut server = Server::start_on(&["127.0.0.1", &ip.to_string()]);
    let url = format!("http://{ip}:{}", server.http_port);
    let login = json!({"username": "admin", "password": "changeme"});
    let (status, answer) = call(&url, None, "POST", "/v1/auth/login", login);
    assert_eq!((status, &answer["data"]["only_change"]), (200, &json!(true)), "{answer}");
    let token = answer["data"]["token"].as_str().unwrap().to_owned();
    let user = json!({"username": "evil", "password": GOOD, "role": "admin"});
    for (method, path, body) in [
        ("GET", "/v1/agents", Value::Null),
        ("GET", "/v1/system/config", Value::Null),
        ("POST", "/v1/auth/tokens", json!({"name": "stays"})),
        ("POST", "/v1/users", user),
        ("GET", "/metrics", Value::Null),
    ] {
        let (status, answer) = call(&url, Some(&token), method, path, body);
        assert_eq!((status, &answer["err_code"]), (403, &json!(1014)), "{path}: {answer}");
    }
    // From the machine itself it works in full; a token made there works there alone.
    let made = server.post("/v1/auth/tokens", json!({"name": "here"}));
    let made = made["token"].as_str().unwrap();
    assert_eq!(server.call_as(Some(made), "GET", "/v1/agents", None).status, 200);
    assert_eq!(call(&url, Some(made), "GET", "/v1/agents", Value::Null).0, 403);

    for known in ["changeme", "short"] {
        let body = json!({"current_password": "changeme", "new_password": known});
        let (status, answer) = call(&url, Some(&token), "POST", "/v1/auth/password", body);
        assert_eq!((status, &answer["err_code"]), (400, &json!(1001)), "{known}: {answer}");
    }
    let body = json!({"current_password": "changeme", "new_password": GOOD});
    assert_eq!(call(&url, Some(&token), "POST", "/v1/auth/password", body).0, 200);
    assert_eq!(call(&url, Some(&token), "GET", "/v1/agents", Value::Null).0, 401);
    let login = json!({"username": "admin", "password": GOOD});
    let (_, answer) = call(&url, None, "POST", "/v1/auth/login", login);
    assert_eq!(answer["data"]["only_change"], json!(false));
    let token = answer["data"]["token"].as_str().unwrap();
    assert_eq!(call(&url, Some(token), "GET", "/v1/agents", Value::Null).0, 200);
}

#[test]
fn signing_out_ends_the_login_at_the_server_and_no_other() {
    let mut server = Server::start("");
    let (one, two) = (server.log_in("admin", "changeme"), server.log_in("admin", "changeme"));
    let get = |server: &Server, token: &str| server.call_as(Some(token), "GET", "/v1/agents", None);
    assert_eq!(server.call_as(Some(&one), "POST", "/v1/auth/logout", None).status, 200);
    assert!(refused(&get(&server, &one), 401, 1002).contains("signed out"));
    assert_eq!(get(&server, &two).status, 200);
    server.kill_and_restart();
    assert_eq!((get(&server, &one).status, get(&server, &two).status), (401, 200));
    let made = server.post("/v1/auth/tokens", json!({"name": "script"}));
    let script = made["token"].as_str().unwrap();
    refused(&server.call_as(Some(script), "POST", "/v1/auth/logout", None), 403, 1007);
}

#[test]
fn administrators_see_and_revoke_the_tokens_of_all_and_a_new_password_may_end_them() {
    let mut server = Server::start("");
    let script = |server: &mut Server, name: &str, role: &str| {
        server.post("/v1/users", json!({"username": name, "password": GOOD, "role": role}));
        let login = server.log_in(name, GOOD);
        let body = Some(json!({"name": "script"}));
        let made = server.call_as(Some(&login), "POST", "/v1/auth/tokens", body);
        let text = |field: &str| made.data()[field].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    };
    let (bob_id, bob) = script(&mut server, "bob", "admin");
    let (_, eve) = script(&mut server, "eve", "viewer");
    let works = |server: &Server, token: &str| {
        server.call_as(Some(token), "GET", "/v1/agents", None).status == 200
    };
    let listed = server.call("GET", "/v1/tokens", None);
    let rows = listed.data().as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["username"].as_str().unwrap()).collect();
    assert_eq!((names, listed.total), (vec!["eve", "bob"], Some(2)));
    assert!(!listed.body.to_string().contains("oxm_"));
    refused(&server.call_as(Some(&eve), "GET", "/v1/tokens", None), 403, 1007);
    let path = format!("/v1/tokens/{bob_id}");
    // A token that leaks revokes none.
    refused(&server.call_as(Some(&bob), "DELETE", &path, None), 403, 1007);
    assert_eq!(server.call("DELETE", &path, None).status, 200);
    assert!(!works(&server, &bob));
    refused(&server.call("DELETE", &path, None), 404, 1004);

    let reset = |end: bool| Some(json!({"new_password": "another one", "end_tokens": end}));
    assert_eq!(server.call("POST", "/v1/users/eve/password", reset(false)).status, 200);
    assert!(works(&server, &eve));
    assert_eq!(server.call("POST", "/v1/users/eve/password", reset(true)).status, 200);
    assert!(!works(&server, &eve));
}

#[test]
fn nobody_is_called_like_the_administrator() {
    let mut server = Server::start("");
    for name in ["Admin", "adm1n", "\u{430}dmin", "ad\u{43c}in", "adrnin"] {
        let body = json!({"username": name, "password": GOOD});
        let answer = server.call("POST", "/v1/users", Some(body));
        assert!(refused(&answer, 409, 1005).contains("`admin`"), "{name}");
    }
    for name in ["\u{ff41}dmin", "ad\u{200b}min", "admin\u{202e}", "a\nb"] {
        let body = json!({"username": name, "password": GOOD});
        refused(&server.call("POST", "/v1/users", Some(body)), 400, 1001);
    }
    let body = json!({"username": "margarete", "password": "Margarete"});
    let answer = server.call("POST", "/v1/users", Some(body));
    assert!(refused(&answer, 400, 1001).contains("user name"));
}

#[test]
fn what_a_stranger_sends_is_counted_and_only_compared_passwords_are_in_the_audit_log() {
    let mut server = Server::start("");
    let rows = |server: &mut Server| server.call("GET", "/v1/audit", None).total.unwrap();
    let before = rows(&mut server);
    let long = "x".repeat(100_000);
    for body in [
        json!({}),
        json!({"username": "admin"}),
        json!({"username": long, "password": 1}),
        json!([1, 2, 3]),
        json!({"username": "", "password": "x"}),
    ] {
        for _ in 0..20 {
            let answer = server.call_as(None, "POST", "/v1/auth/login", Some(body.clone()));
            assert_eq!(answer.status, 400, "{}", answer.body);
        }
    }
    assert_eq!(rows(&mut server), before);
    let figures = server.call("GET", "/metrics", None);
    let figures = figures.body.as_str().unwrap();
    assert!(figures.contains("oxmon_api_calls_unrecorded_total 100\n"), "{figures}");
    let wrong = Some(json!({"username": "admin", "password": "a guess"}));
    refused(&server.call_as(None, "POST", "/v1/auth/login", wrong), 401, 1002);
    assert_eq!(rows(&mut server), before + 1);
}

#[test]
fn guesses_at_the_same_time_are_counted_before_they_are_compared() {
    let server = Server::start("");
    let guess = || {
        let body = Some(json!({"username": "admin", "password": "a guess"}));
        server.call_as(None, "POST", "/v1/auth/login", body).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..32).map(|_| scope.spawn(guess)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let compared = statuses.iter().filter(|status| **status == 401).count();
    assert!((1..=5).contains(&compared), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
}
