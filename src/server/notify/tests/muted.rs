//! What silence windows hold back, and what is notified when they end.

use serde_json::json;

use super::Rig;
use super::endpoint::{Act, Endpoint};
use crate::server::control::notify::silence::SilenceRow;
use crate::server::notify::manage::{self, SilenceInput};

/// A window over the time at which every test starts.
fn silence(rig: &Rig, agents: Option<&str>) -> SilenceRow {
    let input = SilenceInput {
        start_time: Some("08:00".to_owned()),
        end_time: Some("09:00".to_owned()),
        recurrence: Some("daily".to_owned()),
        agent_pattern: agents.map(str::to_owned),
        ..SilenceInput::default()
    };
    let row = manage::new_window(input, rig.notifier.zone(), 0).unwrap();
    let saved = row.clone();
    rig.control.write(move |tx| manage::add_window(tx, &saved)).unwrap();
    row
}

#[test]
fn what_still_fires_when_the_window_ends_is_told_then() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    silence(&rig, None);
    rig.fire("web-1");
    rig.fire("web-2");
    rig.wait_logs(2);
    rig.recover("web-1");
    rig.advance_secs(29 * 60);
    let logs = rig.wait_logs(2);
    assert!(logs.iter().all(|row| row.status == "suppressed"), "{logs:?}");
    assert!(endpoint.requests().is_empty());
    rig.advance_secs(60);
    let requests = endpoint.wait(1);
    rig.wait_empty();
    assert_eq!(endpoint.requests().len(), 1, "what recovered in the window is not sent");
    assert_eq!(requests[0].json()["alerts"][0]["agent_id"], "web-2");
    rig.recover("web-2");
    endpoint.wait(2);
}

#[test]
fn a_window_holds_back_what_it_is_about_and_the_rest_is_told() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    silence(&rig, Some("batch-*"));
    rig.fire("batch-1");
    rig.fire("web-1");
    rig.advance_secs(60);
    let requests = endpoint.wait(1);
    assert_eq!(requests[0].json()["count"], 1);
    assert_eq!(requests[0].json()["alerts"][0]["agent_id"], "web-1");
    let logs = rig.wait_logs(2);
    let suppressed = logs.iter().find(|row| row.status == "suppressed").unwrap();
    assert_eq!(suppressed.alert_event_id, "event-batch-1");
}

#[test]
fn a_recovery_in_a_window_is_told_after_it_to_whoever_knew() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    endpoint.wait(1);
    rig.wait_empty();
    silence(&rig, None);
    rig.recover("web-1");
    rig.wait_logs(2);
    assert_eq!(endpoint.requests().len(), 1);
    rig.advance_secs(30 * 60);
    assert_eq!(endpoint.wait(2)[1].json()["status"], "resolved");
}

#[test]
fn removing_a_window_tells_at_once_what_it_held_back() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    let window = silence(&rig, None);
    rig.fire("web-1");
    rig.wait_logs(1);
    let now_ms = crate::base::clock::Clock::now_ms(&*rig.clock);
    let other = silence(&rig, Some("web-*"));
    manage::remove_window(&rig.control, &window.id, now_ms).unwrap();
    rig.notifier.look_now();
    rig.fire("db-1");
    assert_eq!(endpoint.wait(1)[0].json()["alerts"][0]["agent_id"], "db-1");
    let logs = rig.wait_logs(2);
    let suppressed = logs.iter().filter(|row| row.status == "suppressed").count();
    assert_eq!(suppressed, 1, "the other window holding it still is not logged again: {logs:?}");
    manage::remove_window(&rig.control, &other.id, now_ms).unwrap();
    rig.notifier.look_now();
    assert_eq!(endpoint.wait(2)[1].json()["alerts"][0]["agent_id"], "web-1");
    assert!(manage::remove_window(&rig.control, &window.id, now_ms).is_err());
}
