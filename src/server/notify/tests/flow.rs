//! From an event to the channels that hear of it.

use serde_json::json;

use super::endpoint::{Act, Endpoint};
use super::{Rig, event, recovery};
use crate::model::severity::Severity;
use crate::server::notify::manage::{self, ChannelInput};

fn statuses(endpoint: &Endpoint) -> Vec<String> {
    let text = |request: &super::endpoint::Request| {
        let body = request.json();
        format!("{} {}", body["status"].as_str().unwrap(), body["alerts"][0]["agent_id"])
    };
    endpoint.requests().iter().map(text).collect()
}

#[test]
fn a_recovery_goes_to_whoever_was_told_of_the_firing() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let late = Endpoint::start(|_, _| Act::ok());
    let mild = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.channel_with("webhook", json!({}), &[&mild.url("/")], Severity::Critical);
    rig.tell(vec![event("web-1", Severity::Warning)], false);
    endpoint.wait(1);
    rig.wait_empty();
    rig.channel("webhook", json!({}), &[&late.url("/")]);
    rig.tell(vec![recovery("web-1", Severity::Warning)], true);
    endpoint.wait(2);
    rig.wait_empty();
    assert_eq!(statuses(&endpoint), ["firing \"web-1\"", "resolved \"web-1\""]);
    assert!(late.requests().is_empty(), "the firing was not sent to it");
    assert!(mild.requests().is_empty(), "a warning is below its severity");
    // A second recovery of the same alert finds nobody who waits for it.
    rig.tell(vec![recovery("web-1", Severity::Warning)], true);
    rig.wait_empty();
    assert_eq!(endpoint.requests().len(), 2);
}

#[test]
fn what_fires_within_the_window_becomes_one_notification() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.advance_secs(59);
    rig.fire("web-2");
    rig.tell(vec![event("web-3", Severity::Warning)], false);
    assert!(endpoint.requests().is_empty());
    assert_eq!(rig.waiting(), (0, 3), "the window is not over");
    rig.advance_secs(1);
    let requests = endpoint.wait(1);
    assert_eq!(requests[0].json()["count"], 2);
    assert_eq!(requests[0].json()["severity"], "critical");
    assert_eq!(requests[0].json()["message"], "2 alerts of Disk full on web-1, web-2");
    rig.advance_secs(59);
    let requests = endpoint.wait(2);
    assert_eq!(requests[1].json()["severity"], "warning");
    rig.wait_empty();
    assert_eq!(rig.wait_logs(2).len(), 2);
}

#[test]
fn ten_thousand_alerts_reach_a_channel_in_one_message_for_each_rule_and_severity() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let robot = Endpoint::start(|_, _| Act::Answer(200, r#"{"errcode":0,"errmsg":"ok"}"#.into()));
    let rig = Rig::new(|config| config.notify.timeout_secs = 10);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.channel("weixin", json!({"webhook_url": robot.url("/send?key=k123")}), &[]);
    let events = |severity| (0..5_000).map(move |index| event(&format!("web-{index}"), severity));
    rig.tell(events(Severity::Critical).collect(), false);
    let mut other: Vec<_> = events(Severity::Warning).collect();
    for event in &mut other {
        event.rule_id = "rule-2".to_owned();
    }
    rig.tell(other, false);
    assert_eq!(rig.waiting(), (0, 10_000));
    rig.advance_secs(60);
    let requests = endpoint.wait(2);
    robot.wait(2);
    rig.wait_empty();
    assert_eq!((endpoint.requests().len(), robot.requests().len()), (2, 2));
    for request in requests {
        let body = request.json();
        assert_eq!(body["count"], 5_000);
        let agents: std::collections::HashSet<String> = body["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| alert["agent_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(agents.len(), 5_000, "each of them is listed");
    }
    for request in robot.requests() {
        let content = request.json()["markdown"]["content"].as_str().unwrap().to_owned();
        assert!(content.len() <= 4_096, "{}", content.len());
        assert!(content.contains("5000 alerts") && content.ends_with(" more"), "{content}");
    }
    assert_eq!(rig.logs().len(), 4);
}

#[test]
fn a_recovery_never_overtakes_its_firing() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    // The recovery of web-1 opens a group that is due before web-2's firing is.
    rig.fire("web-1");
    rig.advance_secs(60);
    endpoint.wait(1);
    rig.wait_empty();
    rig.recover("web-1");
    rig.advance_secs(30);
    rig.fire("web-2");
    rig.recover("web-2");
    rig.advance_secs(30);
    endpoint.wait(2);
    rig.advance_secs(30);
    endpoint.wait(3);
    rig.advance_secs(1);
    endpoint.wait(4);
    rig.wait_empty();
    assert_eq!(
        statuses(&endpoint),
        ["firing \"web-1\"", "resolved \"web-1\"", "firing \"web-2\"", "resolved \"web-2\""]
    );
}

#[test]
fn an_alert_that_flaps_ends_with_what_is_true() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.recover("web-1");
    rig.fire("web-1");
    rig.advance_secs(60);
    endpoint.wait(1);
    rig.advance_secs(120);
    rig.wait_empty();
    assert_eq!(statuses(&endpoint), ["firing \"web-1\""]);
}

#[test]
fn a_change_of_a_channel_is_in_force_at_the_next_notification() {
    let (old, new) = (Endpoint::start(|_, _| Act::ok()), Endpoint::start(|_, _| Act::ok()));
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    let channel = rig.channel("webhook", json!({}), &[&old.url("/")]);
    rig.fire("web-1");
    old.wait(1);
    rig.wait_empty();
    let change = |input: ChannelInput| {
        manage::update(&rig.control, &channel.id, input, 0).unwrap();
    };
    change(ChannelInput { recipients: Some(vec![new.url("/")]), ..ChannelInput::default() });
    rig.fire("web-2");
    new.wait(1);
    rig.wait_empty();
    change(ChannelInput { enabled: Some(false), ..ChannelInput::default() });
    rig.fire("web-3");
    rig.recover("web-2");
    rig.wait_empty();
    manage::remove(&rig.control, &channel.name).unwrap();
    rig.fire("web-4");
    rig.wait_empty();
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
    assert_eq!(rig.logs().len(), 2);
}

#[test]
fn what_waits_survives_a_restart() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let mut rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.restart();
    assert_eq!(rig.waiting(), (0, 1));
    rig.notifier.stop();
    rig.clock.advance(60_000);
    rig.restart();
    endpoint.wait(1);
    rig.wait_empty();
    rig.restart();
    rig.notifier.look_now();
    rig.recover("web-1");
    rig.advance_secs(60);
    endpoint.wait(2);
    assert_eq!(statuses(&endpoint), ["firing \"web-1\"", "resolved \"web-1\""]);
}

#[test]
fn a_transaction_that_is_rolled_back_tells_nobody() {
    use crate::server::alert::{Notify as _, NotifyKind};
    use crate::server::notify::NotifyError;
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    let notifier = std::sync::Arc::clone(&rig.notifier);
    let outcome: Result<(), NotifyError> = rig.control.write(move |tx| {
        notifier.notify(tx, &event("web-1", Severity::Critical), NotifyKind::Firing)?;
        Err(NotifyError::Invalid("the state could not be written".to_owned()))
    });
    assert!(outcome.is_err());
    rig.fire("web-2");
    endpoint.wait(1);
    rig.wait_empty();
    assert_eq!(statuses(&endpoint), ["firing \"web-2\""]);
}
