//! What comes before what, when some recipients or some alerts meet with trouble; and a clock that
//! is put back.

use serde_json::{Value, json};

use super::endpoint::{Act, Endpoint, closed_port};
use super::{Rig, wait_for};

/// What an endpoint took, as `firing "web-1"`.
fn taken(endpoint: &Endpoint) -> Vec<String> {
    let text = |request: &super::endpoint::Request| {
        let body = request.json();
        format!("{} {}", body["status"].as_str().unwrap(), body["alerts"][0]["agent_id"])
    };
    endpoint.requests().iter().map(text).collect()
}

fn rig() -> Rig {
    Rig::new(|config| config.aggregation_window_secs = 0)
}

#[test]
fn a_recipient_who_is_ill_keeps_no_other_from_later_messages_and_hears_all_in_order() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static WELL: AtomicBool = AtomicBool::new(false);
    let well = Endpoint::start(|_, _| Act::ok());
    let ill = Endpoint::start(|_, _| match WELL.load(Ordering::SeqCst) {
        true => Act::ok(),
        false => Act::Answer(550, "no such mailbox".to_owned()),
    });
    let rig = rig();
    rig.channel("webhook", json!({}), &[&ill.url("/"), &well.url("/")]);
    rig.fire("web-1");
    well.wait(1);
    rig.wait_logs(1);
    rig.recover("web-1");
    rig.fire("web-2");
    // The clock stands still: what comes now comes without waiting for a retry.
    well.wait(3);
    let mut told = taken(&well);
    told[1..].sort();
    assert_eq!(told, ["firing \"web-1\"", "firing \"web-2\"", "resolved \"web-1\""]);
    let refused = taken(&ill);
    assert!(refused.iter().all(|text| text.starts_with("firing")), "{refused:?}");
    assert_eq!(rig.waiting().0, 3, "the ill one has none of them yet");
    let before = ill.requests().len();
    WELL.store(true, Ordering::SeqCst);
    wait_for("the rest", || {
        rig.advance_secs(10);
        (rig.waiting() == (0, 0)).then_some(())
    });
    assert_eq!(well.requests().len(), 3, "nobody is notified twice");
    let told = taken(&ill)[before..].to_vec();
    assert_eq!(told.len(), 3, "{told:?}");
    let at = |text: &str| told.iter().position(|one| one == text);
    assert!(at("firing \"web-1\"") < at("resolved \"web-1\""), "{told:?}");
}

#[test]
fn one_alert_that_is_refused_holds_up_no_other_of_its_rule() {
    let endpoint = Endpoint::start(|request, _| match request.body.contains("web-1") {
        true => Act::Answer(503, "not now, web-1".to_owned()),
        false => Act::ok(),
    });
    let rig = rig();
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.wait_logs(1);
    rig.fire("web-2");
    rig.recover("web-1");
    endpoint.wait(2);
    let rows = rig.wait_logs(2);
    assert_eq!((rows[1].agent_id.as_str(), rows[1].status.as_str()), ("web-2", "success"));
    rig.advance_secs(2);
    wait_for("a second try of the firing", || (endpoint.requests().len() >= 3).then_some(()));
    assert_eq!(taken(&endpoint)[2], "firing \"web-1\"", "its recovery does not overtake it");
}

#[test]
fn a_recipient_who_is_away_does_not_hold_the_channel() {
    let well = Endpoint::start(|_, _| Act::ok());
    let away = format!("http://127.0.0.1:{}/", closed_port());
    let rig = rig();
    rig.channel("webhook", json!({}), &[&away, &well.url("/")]);
    rig.fire("web-1");
    rig.wait_logs(1);
    // The retry finds only who is away.
    let rows = wait_for("a retry", || {
        rig.advance_secs(1);
        Some(rig.logs()).filter(|rows| rows.len() >= 2)
    });
    assert_eq!(rows[1].recipient_count, 1);
    rig.fire("web-2");
    well.wait(2);
    assert_eq!(taken(&well), ["firing \"web-1\"", "firing \"web-2\""]);
}

#[test]
fn who_heard_of_a_firing_hears_of_the_recovery_although_others_were_given_up() {
    let well = Endpoint::start(|_, _| Act::ok());
    let ill = Endpoint::start(|_, _| Act::Answer(500, String::new()));
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.deliver_within_secs = 600;
    });
    rig.channel("webhook", json!({}), &[&ill.url("/"), &well.url("/")]);
    rig.fire("web-1");
    rig.wait_logs(1);
    rig.advance_secs(601);
    let rows = rig.wait_logs(2);
    rig.wait_empty();
    assert!(rows[1].error_message.as_deref().unwrap().contains("given up"), "{rows:?}");
    rig.recover("web-1");
    well.wait(2);
    assert_eq!(taken(&well), ["firing \"web-1\"", "resolved \"web-1\""]);
    rig.wait_empty();
    let resolved = taken(&ill).iter().filter(|text| text.starts_with("resolved")).count();
    assert_eq!(resolved, 0, "who missed the firing hears of no recovery");
}

#[test]
fn the_path_of_a_recipients_url_is_in_no_log() {
    let endpoint = Endpoint::start(|request, _| {
        Act::Answer(404, format!("there is no {} here", request.target()))
    });
    let rig = rig();
    let url = endpoint.url("/services/T0SECRET/B0SECRET?token=tok-123456");
    let channel = rig.channel("webhook", json!({}), &[&url]);
    rig.fire("web-1");
    let row = rig.wait_logs(1).remove(0);
    let shown = format!("{row:?}");
    assert!(!shown.contains("SECRET") && !shown.contains("tok-123456"), "{shown}");
    let details: Value = serde_json::from_str(row.recipient_details.as_deref().unwrap()).unwrap();
    assert_eq!(details[0]["recipient"], endpoint.url("/***").as_str());
    let said = rig.notifier.test(&channel.id).unwrap_err().to_string();
    assert!(said.contains("HTTP 404") && !said.contains("SECRET"), "{said}");
}

/// Lets minutes pass, and far less than a day, until an endpoint has so many messages.
fn within_minutes(rig: &Rig, endpoint: &Endpoint, count: usize) {
    let mut passed_secs = 0;
    wait_for("a message", || {
        rig.advance_secs(10);
        passed_secs += 10;
        (endpoint.requests().len() >= count).then_some(())
    });
    assert!(passed_secs < 86_400, "{passed_secs} s");
}

#[test]
fn a_clock_that_is_put_back_delays_no_group_and_no_retry() {
    let endpoint = Endpoint::start(|_, number| match number {
        0 => Act::Answer(500, String::new()),
        _ => Act::ok(),
    });
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.clock.jump(-86_400_000);
    within_minutes(&rig, &endpoint, 1);
    rig.wait_logs(1);
    rig.clock.jump(-86_400_000);
    within_minutes(&rig, &endpoint, 2);
    rig.wait_empty();
}

#[test]
fn a_clock_that_was_ahead_before_a_restart_delays_nothing_after_it() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let mut rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.notifier.stop();
    rig.clock.jump(-30 * 86_400_000);
    rig.restart();
    within_minutes(&rig, &endpoint, 1);
    rig.wait_empty();
}
