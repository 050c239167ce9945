#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

fn control() -> (tempfile::TempDir, Control) {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    (dir, control)
}

fn input(json: Value) -> ChannelInput {
    serde_json::from_value(json).unwrap()
}

fn sms(name: &str) -> ChannelInput {
    input(json!({
        "name": name, "channel_type": "sms", "recipients": ["10086"],
        "config_json": "{\"gateway_url\": \"https://sms.example.com/?k=tok1\", \"api_key\": \"key1\"}",
    }))
}

#[test]
fn a_masked_secret_keeps_the_stored_one_and_a_new_one_replaces_it() {
    let (_dir, control) = control();
    let row = create(&control, sms("a"), 0).unwrap();
    let masked = masked_config(&row);
    assert_eq!(masked, r#"{"api_key":"***","gateway_url":"https://sms.example.com/?k=***"}"#);
    let same = update(&control, "a", input(json!({"config_json": masked})), 5_000).unwrap();
    assert_eq!(same.config_json, row.config_json);
    assert_eq!((same.created_at, same.updated_at), (0, 5));
    let new = json!({"config_json": {"gateway_url": "https://b.example/", "api_key": "key2"}});
    let new = update(&control, &row.id, input(new), 0).unwrap();
    assert!(new.config_json.contains("key2"));
    assert_eq!(channel(&control, "a").unwrap(), new);
}

#[test]
fn a_mask_keeps_nothing_of_another_channel_type() {
    let (_dir, control) = control();
    create(&control, sms("a"), 0).unwrap();
    let change = json!({"channel_type": "dingtalk", "recipients": [],
        "config_json": {"webhook_url": "https://r.example/", "secret": "***"}});
    let error = update(&control, "a", input(change), 0).unwrap_err().to_string();
    assert!(error.starts_with("config_json: secret: \"***\" means"), "{error}");
    let error = update(&control, "a", input(json!({"channel_type": "email"})), 0).unwrap_err();
    assert_eq!(error.to_string(), "config_json: must be a JSON object, or a string that holds one");
}

#[test]
fn names_are_taken_once_and_channels_are_found_by_both_keys() {
    let (_dir, control) = control();
    let first = create(&control, sms("a"), 0).unwrap();
    create(&control, sms("b"), 0).unwrap();
    assert!(matches!(create(&control, sms("a"), 0), Err(NotifyError::Conflict(_))));
    let rename = input(json!({"name": "a"}));
    assert!(matches!(update(&control, "b", rename, 0), Err(NotifyError::Conflict(_))));
    assert_eq!(remove(&control, "a").unwrap().id, first.id);
    assert!(matches!(remove(&control, &first.id), Err(NotifyError::NotFound("channel", _))));
}

#[test]
fn what_can_not_be_taken_is_named() {
    let (_dir, control) = control();
    create(&control, sms("a"), 0).unwrap();
    let refuse = |json| update(&control, "a", input(json), 0).unwrap_err().to_string();
    assert!(refuse(json!({"name": " "})).starts_with("name: "));
    assert!(refuse(json!({"name": "x".repeat(2_000)})).starts_with("name: "));
    assert!(refuse(json!({"recipients": ["me"]})).starts_with("recipients: `me`"));
    assert!(refuse(json!({"recipients": vec!["10086"; 201]})).starts_with("recipients: "));
    assert!(refuse(json!({"config_json": "["})).starts_with("config_json: is not valid JSON"));
    assert!(refuse(json!({"config_json": "[]"})).starts_with("config_json: must be"));
}

#[test]
fn a_viewer_sees_the_host_of_a_url_and_nothing_more() {
    let (_dir, control) = control();
    let hook = json!({"name": "w", "channel_type": "webhook", "config_json": {},
        "recipients": ["https://hooks.example.com/services/secret?a=b", "http://bare"]});
    let row = create(&control, input(hook), 0).unwrap();
    let masked = |row, role| masked_recipients(row, role);
    assert_eq!(masked(&row, Role::Viewer), ["https://hooks.example.com/***", "http://bare"]);
    let shown = ["https://hooks.example.com/services/secret?a=***", "http://bare"];
    assert_eq!(masked(&row, Role::Admin), shown);
    let row = create(&control, sms("s"), 0).unwrap();
    assert_eq!(masked(&row, Role::Viewer), ["10086"]);
}
