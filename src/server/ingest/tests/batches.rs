//! What is stored of a report, and the answer to its sender.

use grpcio::RpcStatusCode;

use super::*;
use crate::base::clock::{DAY_MS, HOUR_MS};
use crate::base::limits::{
    AGENT_ID_BYTES_MAX, BATCH_POINTS_MAX, GRPC_MESSAGE_BYTES_MAX, LABELS_MAX, METRIC_NAME_BYTES_MAX,
};
use crate::model::series::Labels;
use crate::server::storage::{Page, PointFilter};

#[test]
fn a_report_is_stored_when_it_is_answered_and_once() {
    let bench = Bench::start(|_| {});
    let sent = batch(
        "web-01",
        vec![point("cpu.usage", 12.5), Point::labelled("disk.total", "mount", "/", NOW_MS, 1e12)],
    );
    for _ in 0..3 {
        let reply = bench.report(&sent).unwrap();
        assert!(reply.success && reply.message.is_empty(), "{}", reply.message);
        assert_eq!(reply.features, ["packed"]);
    }
    let rows = bench.latest("web-01");
    let values: Vec<(&str, f64)> = rows.iter().map(|row| (&*row.key.metric, row.value)).collect();
    assert_eq!(values, [("cpu.usage", 12.5), ("disk.total", 1e12)]);
    let all = bench.store.list(&PointFilter::default(), Page { limit: 10, offset: 0 }).unwrap();
    assert_eq!(all.total, 2);
}

#[test]
fn ticks_of_any_shape_are_stored_with_their_own_series() {
    let bench = Bench::start(|_| {});
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    let both = labels(&[("a", "1"), ("b", "2")]);
    let with = |labels: Labels, at: i64, value: f64| Point {
        metric: "m".into(),
        labels,
        timestamp_ms: at,
        value,
    };
    for round in 0..6 {
        let at = NOW_MS - HOUR_MS + round * 1_000;
        let mut points = vec![
            with(both.clone(), at, 1.0 + round as f64),
            with(labels(&[("a", "1"), ("b", "3")]), at, 2.0),
            with(labels(&[("a", "2"), ("b", "1")]), at, 3.0),
            Point::plain("m", at, 4.0),
        ];
        if round % 2 == 1 {
            points.reverse();
        }
        points.extend((0..3).map(|tick| Point::plain("late", at - 60_000 - tick * 10, 5.0)));
        let reply = bench.report(&batch("web-01", points)).unwrap();
        assert!(reply.success && reply.message.is_empty(), "{}", reply.message);
    }
    let rows = bench.latest("web-01");
    assert_eq!(rows.len(), 5);
    let newest = rows.iter().find(|row| row.key.labels == both).unwrap();
    assert_eq!((newest.value, newest.timestamp_ms), (6.0, NOW_MS - HOUR_MS + 5_000));
    let late = PointFilter { metric: Some("late".to_owned()), ..PointFilter::default() };
    let late = bench.store.list(&late, Page { limit: 1, offset: 0 }).unwrap();
    assert_eq!(late.total, 18);
}

#[test]
fn what_can_not_be_a_batch_is_refused_for_good() {
    let bench = Bench::start(|_| {});
    let many = |count: usize| {
        (0..count).map(|number| point(&format!("m.{number}"), 1.0)).collect::<Vec<_>>()
    };
    let long = "a".repeat(AGENT_ID_BYTES_MAX + 1);
    for (sent, word) in [
        (batch("", many(1)), "agent_id is empty"),
        (batch("a", many(0)), "no points"),
        (batch("a", many(BATCH_POINTS_MAX + 1)), "10001"),
        (batch(&long, many(1)), "129"),
    ] {
        let reply = bench.report(&sent).unwrap();
        assert!(!reply.success && reply.message.contains(word), "{word}: {}", reply.message);
    }
    assert!(bench.latest("a").is_empty());
    assert!(bench.report(&batch("a", many(BATCH_POINTS_MAX))).unwrap().success);
    assert_eq!(bench.latest("a").len(), BATCH_POINTS_MAX);
}

#[test]
fn a_bad_point_costs_no_other_its_place() {
    let bench = Bench::start(|_| {});
    let mut crowded = point("crowded", 1.0);
    crowded.labels =
        Labels::from_pairs((0..=LABELS_MAX).map(|number| (format!("l{number}"), String::new())));
    let points = vec![
        point("good", 1.0),
        point("nan", f64::NAN),
        point("inf", f64::NEG_INFINITY),
        point("", 1.0),
        point(&"x".repeat(METRIC_NAME_BYTES_MAX + 1), 1.0),
        Point::labelled("label", "", "x", NOW_MS, 1.0),
        crowded,
        Point::plain("1970", 0, 1.0),
        Point::plain("2100", 4_102_444_800_000, 1.0),
        Point::plain("old", NOW_MS - 7 * DAY_MS - 1, 1.0),
        Point::plain("ahead", NOW_MS + HOUR_MS + 1, 1.0),
        Point::plain("late", NOW_MS - 6 * DAY_MS, 2.0),
        Point::plain("early", NOW_MS + HOUR_MS, 3.0),
    ];
    let reply = bench.report(&batch("mixed", points)).unwrap();
    assert!(reply.success);
    assert!(reply.message.starts_with("10 of 13 points were rejected:"), "{}", reply.message);
    for words in ["2 not a finite number", "2 metric name", "1 too many labels", "2 older"] {
        assert!(reply.message.contains(words), "{words}: {}", reply.message);
    }
    let rows = bench.latest("mixed");
    let names: Vec<&str> = rows.iter().map(|row| &*row.key.metric).collect();
    assert_eq!(names, ["early", "good", "late"]);
    let reply = bench.report(&batch("mixed", vec![point("nan", f64::NAN)])).unwrap();
    assert!(reply.success && reply.message.starts_with("1 of 1"), "{}", reply.message);
}

#[test]
fn a_relay_without_tokens_may_speak_for_several() {
    let bench = Bench::start(|_| {});
    let mut sent = batch("relay", vec![point("a", 1.0), point("b", 2.0), point("c", 3.0)]);
    sent.data_points[1].agent_id = "other".to_owned();
    sent.data_points[2].agent_id = String::new();
    assert!(bench.report(&sent).unwrap().success);
    assert_eq!((bench.latest("relay").len(), bench.latest("other").len()), (2, 1));
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_server_goes_on() {
    let bench = Bench::start(|_| {});
    let sent = batch("a", vec![point(&"x".repeat(GRPC_MESSAGE_BYTES_MAX + 1), 1.0)]);
    assert_eq!(bench.report(&sent).unwrap_err(), RpcStatusCode::RESOURCE_EXHAUSTED);
    assert!(bench.report(&batch("a", vec![point("m", 1.0)])).unwrap().success);
}

#[test]
fn noise_on_the_port_stops_nobody() {
    use std::io::{Read as _, Write as _};
    let bench = Bench::start(|_| {});
    let mut noise = Vec::new();
    for round in 0_u32..24 {
        noise.extend(round.wrapping_mul(2_654_435_761).to_le_bytes().repeat(round as usize));
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        if round % 2 == 0 {
            // The opening of a true HTTP/2 connection, so that what follows reaches the parser.
            let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        let _ = socket.write_all(&noise);
        let _ = socket.read(&mut [0; 64]);
    }
    assert!(bench.report(&batch("a", vec![point("m", 1.0)])).unwrap().success);
}
