//! Who may call an endpoint: nobody without a login, and only some with one.

use serde_json::{Value, json};

use super::server::Server;

/// The least that a caller of an endpoint must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Least {
    Viewer,
    Admin,
}

/// A token that reads and changes nothing, as a viewer does.
pub fn reading_token(server: &mut Server) -> String {
    let made = server.post("/v1/auth/tokens", json!({"name": "reads", "read_only": true}));
    made["token"].as_str().expect("a token").to_owned()
}

/// Calls an endpoint without a login, with a wrong one, and with one that only reads. The calls
/// that must be refused come to nothing, whatever `body` is.
pub fn check(server: &mut Server, least: Least, method: &str, path: &str, body: Option<Value>) {
    let reading = reading_token(server);
    let admin = server.token().expect("a login").to_owned();
    let forged = format!("{}x", &admin[..admin.len() - 2]);
    for wrong in [None, Some("nonsense"), Some(forged.as_str()), Some("")] {
        let answer = server.call_as(wrong, method, path, body.clone());
        assert_eq!((answer.status, answer.code()), (401, 1002), "{method} {path} {wrong:?}");
        assert!(answer.data().is_null(), "{method} {path}: {answer:?}");
    }
    let answer = server.call_as(Some(&reading), method, path, body);
    match least {
        Least::Viewer => assert_eq!(answer.status, 200, "{method} {path}: {answer:?}"),
        Least::Admin => {
            assert_eq!((answer.status, answer.code()), (403, 1007), "{method} {path}: {answer:?}");
        }
    }
}

/// Calls that must each be a 1001 whose message has the word beside it.
pub fn check_bad(server: &mut Server, method: &str, cases: &[(&str, Option<Value>, &str)]) {
    for (path, body, word) in cases {
        let answer = server.call(method, path, body.clone());
        assert_eq!((answer.status, answer.code()), (400, 1001), "{path} {body:?}: {answer:?}");
        let said = answer.body["err_msg"].as_str().unwrap_or_default();
        assert!(said.contains(word), "{path} {body:?}: `{word}` is not in: {said}");
    }
}
