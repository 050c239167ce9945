//! Whoever is not a sister, and sisters that misbehave.

use super::*;

#[test]
fn without_the_token_nothing_is_said_and_without_peers_there_is_nothing() {
    let mut alone = Server::start("");
    let answer = ask(&alone, Some(TOKEN), "GET", "/v1/peers/hello?name=b&epoch=0&home=a", "");
    assert_eq!((answer.status, answer.code()), (404, 1004), "{}", answer.body);
    let said = alone.get("/v1/peers");
    assert_eq!((&said["name"], &said["sisters"]), (&Value::Null, &json!([])));
    let mut servers = Servers::start(2);
    let login = servers.at(0).log_in("admin", "changeme");
    let all = [
        ("GET", "/v1/peers/hello?name=b&epoch=0&home=a", ""),
        ("GET", "/v1/peers/config?name=b&epoch=0&home=a&version=0&wait_secs=0", ""),
        ("POST", "/v1/peers/change", "{}"),
        ("POST", "/v1/peers/enroll", "{}"),
    ];
    for (method, path, body) in all {
        for token in [None, Some("x"), Some(login.as_str()), Some(&TOKEN[1..])] {
            let answer = ask(servers.at(0), token, method, path, body);
            assert_eq!((answer.status, answer.code()), (401, 1002), "{path}: {}", answer.body);
        }
        assert_ne!(ask(servers.at(0), Some(TOKEN), method, path, body).status, 401, "{path}");
    }
    // A token that differs is a fault that is shown, and nothing passes.
    let config = servers.at(1).dir.path().join("server.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(TOKEN, &TOKEN.replace('0', "z"))).unwrap();
    crate::support::signal(&servers.at(1).child, "HUP");
    wait_for("the refusal of the wrong token", SOON, || {
        let said = servers.peers_if_any(1)?;
        said["sisters"][0]["error"].as_str()?.contains("HTTP 401").then_some(())
    });
    servers.at(0).post("/v1/users", json!({"username": "eve", "password": "only looking"}));
    assert_eq!(servers.at(1).get("/v1/users").as_array().unwrap().len(), 1);
    std::fs::write(&config, text).unwrap();
    crate::support::signal(&servers.at(1).child, "HUP");
    assert_eq!(servers.wait_same("/v1/users").as_array().unwrap().len(), 2);
}

#[test]
fn a_sister_that_misbehaves_costs_bounded_memory_and_changes_nothing_it_may_not() {
    let mut servers = Servers::start(2);
    let home = servers.at(0);
    home.post("/v1/users", json!({"username": "eve", "password": "only looking"}));
    let users = home.get("/v1/users");
    let id = |name: &str| {
        let all = users.as_array().unwrap();
        all.iter().find(|user| user["username"] == name).unwrap()["id"].clone()
    };
    let passed =
        |user_id, username: &str, is_admin| passed_from("127.0.0.1", user_id, username, is_admin);
    let send = |home: &Server, body: &Value| {
        home.call_as(Some(TOKEN), "POST", "/v1/peers/change", Some(body.clone()))
    };
    // A viewer stays one, whatever the sister says; a user must be known by id and name.
    for (user, username, is_admin, status) in [
        (id("eve"), "eve", true, 1007),
        (id("admin"), "admin", false, 1007),
        (id("admin"), "eve", true, 1002),
        (json!("nobody"), "admin", true, 1002),
    ] {
        let answer = send(home, &passed(user, username, is_admin));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["outcome"]["Refused"]["code"], status, "{}", answer.body);
    }
    // With the default password, from another machine.
    let answer = send(home, &passed_from("192.0.2.1", id("admin"), "admin", true));
    assert_eq!(answer.body["outcome"]["Refused"]["code"], 1014, "{}", answer.body);
    // Calls that are not passed on.
    for (method, target) in [
        ("GET", "/v1/users"),
        ("POST", "/v1/auth/login"),
        ("POST", "/v1/peers/change"),
        ("GET", "/v1/peers/config"),
        ("POST", "/v1/system/storage/cleanup"),
        ("GET", "/"),
    ] {
        let mut one = passed(id("admin"), "admin", true);
        one["method"] = json!(method);
        one["target"] = json!(target);
        let answer = send(home, &one);
        let code = &answer.body["outcome"]["Refused"]["code"];
        assert!(*code == 1001 || *code == 1004, "{method} {target}: {}", answer.body);
    }
    what_is_broken_or_too_much(home);
}

fn what_is_broken_or_too_much(home: &mut Server) {
    for broken in ["{}", "[]", "{\"through\":1}"] {
        let answer = ask(home, Some(TOKEN), "POST", "/v1/peers/change", broken);
        assert_eq!(answer.status, 400, "{broken}: {}", answer.body);
    }
    // Announced bodies beyond the limit are not read.
    let mut stream = TcpStream::connect(("127.0.0.1", home.http_port)).unwrap();
    let head = "POST /v1/peers/change HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 413");
    // Many that wait hold up nobody else.
    let waits: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", home.http_port)).unwrap();
            let state = "name=b&epoch=1&home=a&version=1&wait_secs=20&run=x";
            let head = format!(
                "GET /v1/peers/config?{state} HTTP/1.1\r\nHost: x\r\n\
                 Authorization: Bearer {TOKEN}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(home.get("/v1/alerts/rules/config"), json!([]));
    drop(waits);
    // A made-up epoch takes the home away from nobody for good: promote brings it back.
    let answer = ask(
        home,
        Some(TOKEN),
        "GET",
        "/v1/peers/hello?name=b&epoch=99999999999999999999&home=b",
        "",
    );
    assert_eq!(answer.status, 400, "{}", answer.body);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

/// A rule that a server passes on, as a client at this address and this user asked for it.
fn passed_from(client: &str, user_id: Value, username: &str, is_admin: bool) -> Value {
    let rule = json!({"name": "x", "rule_type": "threshold", "metric": "m",
        "config_json": {"operator": "greater_than", "value": 1.0, "duration_secs": 0}});
    json!({"through": "b", "method": "POST", "target": "/v1/alerts/rules",
           "content_type": "application/json", "body": base64(&rule.to_string()), "page": null,
           "client": client, "trace_id": "t", "agent": null,
           "who": {"user_id": user_id, "username": username, "is_admin": is_admin,
                   "by_token": false, "session": null}})
}
