//! Client sides that are down, hang, answer errors or close too early.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::endpoint::{Act, Endpoint, closed_port};
use super::{Rig, event, wait_for};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::control::notify::logs;
use crate::server::notify::NotifyError;

/// Waits for the attempts, moving the clock over each backoff.
fn attempts(rig: &Rig, count: usize) -> Vec<logs::LogRow> {
    wait_for(&format!("{count} attempts"), || {
        rig.advance_secs(1);
        Some(rig.logs()).filter(|rows| rows.len() >= count)
    })
}

#[test]
fn a_endpoint_that_fails_at_first_gets_the_message_in_the_end() {
    let endpoint = Endpoint::start(|_, number| match number {
        0 => Act::Answer(500, "out of order".to_owned()),
        1 => Act::Answer(503, "soon".to_owned()),
        2 => Act::Close,
        _ => Act::ok(),
    });
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/hook")]);
    rig.fire("web-1");
    let rows = attempts(&rig, 4);
    rig.wait_empty();
    let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses, ["failed", "failed", "failed", "success"]);
    let retries: Vec<i64> = rows.iter().map(|row| row.retry_count).collect();
    assert_eq!(retries, [0, 1, 2, 3]);
    assert_eq!(rows[0].http_status_code, Some(500));
    assert_eq!(rows[0].response_body.as_deref(), Some("out of order"));
    assert_eq!(rows[0].error_message.as_deref(), Some("the endpoint answered HTTP 500"));
    assert_eq!(rows[1].http_status_code, Some(503));
    assert_eq!(rows[3].error_message, None);
    let ids: Vec<Value> = endpoint
        .requests()
        .iter()
        .map(|request| request.json()["notification_id"].clone())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "a receiver can tell a repeat");
}

#[test]
fn a_2xx_whose_body_breaks_off_has_been_delivered() {
    let endpoint = Endpoint::start(|_, _| Act::HalfWay);
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/hook")]);
    rig.fire("web-1");
    assert_eq!(rig.wait_logs(1)[0].status, "success");
    rig.wait_empty();
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn what_never_succeeds_is_not_tried_again() {
    for status in [400, 401, 404, 410, 501] {
        let endpoint = Endpoint::start(move |_, _| Act::Answer(status, String::new()));
        let rig = Rig::new(|config| config.aggregation_window_secs = 0);
        rig.channel("webhook", json!({}), &[&endpoint.url("/hook")]);
        rig.fire("web-1");
        let row = rig.wait_logs(1).remove(0);
        let expected = format!("the endpoint answered HTTP {status}; not retried");
        assert_eq!(row.error_message.as_deref(), Some(expected.as_str()));
        rig.wait_empty();
        rig.recover("web-1");
        rig.advance_secs(600);
        rig.wait_empty();
        assert_eq!(
            endpoint.requests().len(),
            1,
            "nobody was notified of it, so no recovery is sent"
        );
    }
}

#[test]
fn retry_after_is_honoured_within_an_hour() {
    for (header, wait_secs) in [("Retry-After: 120", 120), ("Retry-After: 999999", 3_600)] {
        let endpoint = Endpoint::start(move |_, number| match number {
            0 => Act::Header(429, header),
            _ => Act::ok(),
        });
        let rig = Rig::new(|config| config.aggregation_window_secs = 0);
        rig.channel("webhook", json!({}), &[&endpoint.url("/hook")]);
        rig.fire("web-1");
        rig.wait_logs(1);
        rig.advance_secs(wait_secs - 5);
        rig.fire("web-2");
        rig.advance_secs(4);
        assert_eq!(endpoint.requests().len(), 1, "{header}");
        rig.advance_secs(1);
        endpoint.wait(2);
    }
}

#[test]
fn a_413_halves_until_it_fits_and_nothing_comes_twice() {
    let endpoint = Endpoint::start(|request, number| match number {
        5 => Act::Answer(500, String::new()),
        _ if request.body.len() > 4_000 => Act::Answer(413, String::new()),
        _ => Act::ok(),
    });
    let rig = Rig::new(|_| {});
    rig.channel("webhook", json!({}), &[&endpoint.url("/hook")]);
    let events = (0..40).map(|n| super::event(&format!("web-{n:02}"), Severity::Critical));
    rig.tell(events.collect(), false);
    rig.advance_secs(60);
    let rows = attempts(&rig, 2);
    assert_eq!(rows.last().unwrap().status, "success");
    let taken: Vec<Value> = endpoint
        .requests()
        .iter()
        .enumerate()
        .filter(|(number, request)| *number != 5 && request.body.len() <= 4_000)
        .map(|(_, request)| request.json())
        .collect();
    let agents: Vec<&str> = taken
        .iter()
        .flat_map(|body| body["alerts"].as_array().unwrap())
        .map(|alert| alert["agent_id"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (0..40).map(|n| format!("web-{n:02}")).collect();
    assert_eq!(agents, expected, "each once, in their order");
    let mut ids: Vec<&str> =
        taken.iter().map(|body| body["notification_id"].as_str().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), taken.len(), "each part has an id of its own");
}

#[test]
fn no_body_for_a_robot_of_dingtalk_is_over_20_000_bytes_and_the_rest_is_counted() {
    let endpoint = Endpoint::start(|request, _| match request.body.len() {
        0..=20_000 => Act::Answer(200, json!({"errcode": 0, "errmsg": "ok"}).to_string()),
        _ => Act::Answer(200, json!({"errcode": 460_101, "errmsg": "too long"}).to_string()),
    });
    let rig = Rig::new(|_| {});
    rig.channel("dingtalk", json!({"webhook_url": endpoint.url("/robot/send")}), &[]);
    // Quotes, line feeds and Chinese take several bytes each in JSON, and empty labels take room.
    let events = (0..3_000).map(|n| {
        let mut event = super::event(&format!("web-{n:04}-\"中文\""), Severity::Critical);
        event.labels = Labels::from_pairs((0..20).map(|n| (format!("label_{n}"), String::new())));
        event
    });
    rig.tell(events.collect(), false);
    rig.advance_secs(60);
    rig.wait_empty();
    let requests = endpoint.requests();
    assert!(!requests.is_empty() && requests.iter().all(|it| it.body.len() <= 20_000));
    assert!(rig.logs().iter().all(|row| row.status == "success"));
    let text = requests[0].json()["markdown"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("more"), "{text}");
}

#[test]
fn a_endpoint_that_is_down_gets_the_message_when_it_is_up() {
    let port = closed_port();
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&format!("http://127.0.0.1:{port}/")]);
    rig.fire("web-1");
    rig.fire("web-2");
    attempts(&rig, 2);
    let endpoint =
        Endpoint::start_on(TcpListener::bind(("127.0.0.1", port)).unwrap(), None, |_, _| Act::ok());
    wait_for("both", || {
        rig.advance_secs(10);
        (endpoint.requests().len() >= 2).then_some(())
    });
    rig.wait_empty();
    // Which of two hosts comes first depends on whose attempt is due: of one alert the order holds.
    let requests = endpoint.requests();
    let agent = |n: usize| requests[n].json()["alerts"][0]["agent_id"].as_str().unwrap().to_owned();
    let mut agents: Vec<String> = (0..requests.len()).map(agent).collect();
    agents.sort_unstable();
    assert_eq!(agents, ["web-1", "web-2"], "each once");
}

#[test]
fn a_channel_that_hangs_holds_up_only_itself() {
    let hanging = Endpoint::start(|_, _| Act::Hang);
    let well = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.timeout_secs = 3;
        config.pools.notify_workers = 2;
    });
    rig.channel("webhook", json!({}), &[&hanging.url("/")]);
    rig.channel("webhook", json!({}), &[&well.url("/")]);
    let begun = std::time::Instant::now();
    for index in 0..20 {
        rig.fire(&format!("web-{index}"));
    }
    well.wait(20);
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
    let rows = rig.wait_logs(21);
    let failed = rows.iter().find(|row| row.status == "failed").unwrap();
    assert!(failed.error_message.as_deref().unwrap().starts_with("no answer within 3 s"));
    assert!(failed.duration_ms >= 2_900);
}

#[test]
fn what_can_not_be_delivered_in_time_is_given_up_and_its_recovery_is_not_told() {
    let endpoint = Endpoint::start(|_, number| match number {
        0..=2 => Act::Answer(503, String::new()),
        _ => Act::ok(),
    });
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.deliver_within_secs = 600;
    });
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.wait_logs(1);
    rig.advance_secs(300);
    rig.wait_logs(2);
    rig.advance_secs(300);
    let rows = rig.wait_logs(3);
    rig.wait_empty();
    let last = rows[2].error_message.as_deref().unwrap();
    assert!(last.ends_with("(given up after 3 attempts)"), "{last}");
    rig.recover("web-1");
    rig.wait_empty();
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn a_retry_goes_only_to_recipients_who_have_it_not() {
    let well = Endpoint::start(|_, _| Act::ok());
    let ill = Endpoint::start(|_, number| match number {
        0 | 1 => Act::Answer(500, String::new()),
        _ => Act::ok(),
    });
    let mut rig = Rig::new(|config| config.aggregation_window_secs = 0);
    let channel = rig.channel("webhook", json!({}), &[&well.url("/a"), &ill.url("/b")]);
    rig.fire("web-1");
    let rows = rig.wait_logs(1);
    let details: Value =
        serde_json::from_str(rows[0].recipient_details.as_deref().unwrap()).unwrap();
    assert_eq!(details[0]["status"], "success");
    assert_eq!(details[1]["status"], "failed");
    assert_eq!(rows[0].recipient_count, 2);
    // Who has it is known after a restart too.
    rig.restart();
    attempts(&rig, 3);
    rig.wait_empty();
    assert_eq!((well.requests().len(), ill.requests().len()), (1, 3));
    assert_eq!(rig.logs().iter().filter(|row| row.channel_id == channel.id).count(), 3);
}

#[test]
fn a_redirect_is_not_followed() {
    let thief = Endpoint::start(|_, _| Act::ok());
    let to = thief.url("/steal");
    let endpoint = Endpoint::start(move |_, _| Act::Redirect(to.clone()));
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    let headers = json!({"headers": {"Authorization": "Bearer top-secret"}});
    rig.channel("webhook", headers, &[&endpoint.url("/")]);
    rig.fire("web-1");
    let rows = rig.wait_logs(1);
    assert_eq!(rows[0].http_status_code, Some(302));
    let error = rows[0].error_message.as_deref().unwrap();
    assert!(error.contains(&thief.url("/steal")) && error.contains("not followed"), "{error}");
    assert!(thief.requests().is_empty());
}

#[test]
fn no_secret_stands_in_the_delivery_log() {
    let endpoint = Endpoint::start(|request, _| {
        Act::Answer(400, format!("bad: {} {}", request.header("x-key"), "x".repeat(10_000)))
    });
    let rig = Rig::new(|config| config.aggregation_window_secs = 0);
    let channel = rig.channel(
        "webhook",
        json!({"headers": {"X-Key": "key-0123456789"}, "body_template": "key-0123456789"}),
        &[&endpoint.url("/")],
    );
    rig.fire("web-1");
    let rows = rig.wait_logs(1);
    assert!(!format!("{rows:?}").contains("key-0123456789"), "{rows:?}");
    assert!(rows[0].response_body.as_deref().unwrap().starts_with("bad: *** xxx"));
    assert!(rows[0].response_body.as_deref().unwrap().len() <= 2_048);
    assert_eq!(rows[0].request_body.as_deref(), Some("***"));
    let error = rig.notifier.test(&channel.name).unwrap_err();
    let NotifyError::Refused(message) = error else { panic!("{error:?}") };
    assert!(message.starts_with("the endpoint answered HTTP 400; it answered: bad: ***"));
}

#[test]
fn the_delivery_log_goes_back_so_many_days() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let mut rig = Rig::new(|config| config.aggregation_window_secs = 0);
    rig.channel("webhook", json!({}), &[&endpoint.url("/")]);
    rig.fire("web-1");
    rig.wait_logs(1);
    rig.wait_empty();
    rig.clock.advance(29 * 86_400_000);
    rig.restart();
    rig.fire("web-2");
    rig.wait_logs(2);
    rig.clock.advance(2 * 86_400_000);
    rig.restart();
    wait_for("the old row to go", || (rig.logs().len() == 1).then_some(()));
    assert_eq!(rig.logs()[0].agent_id, "web-2");
    let left: i64 = rig
        .control
        .read(|db| db.query_row("SELECT COUNT(*) FROM notifications", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(left, 1);
}

#[test]
fn a_long_queue_of_one_channel_keeps_no_other_waiting() {
    let busy = Endpoint::start(|_, _| Act::ok());
    let other = Endpoint::start(|_, _| Act::ok());
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.pools.notify_workers = 1;
    });
    let channels: Vec<_> =
        (0..3).map(|_| rig.channel("webhook", json!({}), &[&busy.url("/")])).collect();
    let events = (0..200).map(|index| event(&format!("web-{index}"), Severity::Critical));
    rig.tell(events.collect(), false);
    busy.wait(1);
    rig.channel("webhook", json!({}), &[&other.url("/")]);
    rig.fire("late");
    other.wait(1);
    let done = busy.requests().len();
    assert!(done < channels.len() * 200, "the late channel waited for all {done} of the others");
    wait_for("the rest", || {
        rig.notifier.look_now();
        (rig.waiting() == (0, 0)).then_some(())
    });
    assert_eq!(busy.requests().len(), channels.len() * 201);
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn a_slow_endpoint_with_many_recipients_is_gone_on_with_without_a_failure() {
    let endpoint = Endpoint::start(|_, _| {
        // Slow, but within the time limit.
        std::thread::sleep(std::time::Duration::from_millis(450));
        Act::ok()
    });
    let rig = Rig::new(|config| {
        config.aggregation_window_secs = 0;
        config.notify.timeout_secs = 1;
    });
    let urls: Vec<String> = (0..9).map(|index| endpoint.url(&format!("/{index}"))).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    rig.channel("webhook", json!({}), &urls);
    rig.fire("web-1");
    endpoint.wait(9);
    rig.wait_empty();
    let rows = rig.logs();
    assert!(rows.iter().all(|row| row.status == "success"), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.recipient_count).sum::<i64>(), 9);
    assert!(rows.len() > 1, "it is done in parts");
    assert_eq!(endpoint.requests().len(), 9, "and nobody is notified twice");
}
