//! Charts over the API: points in buckets.

use oxmon::base::clock::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, rfc3339};
use oxmon::wire::pb::metrics::MetricBatchProto;
use serde_json::{Value, json};

use crate::support::access::{Least, check, check_bad};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;

const PATH: &str = "/v1/metrics/range?agent_id=a&metric_name=m";

fn send(server: &Server, batches: &[MetricBatchProto]) {
    let client = Client::to(server.grpc_port);
    for batch in batches {
        let reply = client.report(batch).unwrap();
        assert!(reply.success, "{}", reply.message);
    }
}

fn labelled(at: i64, labels: &[(&str, &str)], value: f64) -> MetricBatchProto {
    let mut sent = batch("a", at, &[("m", value)]);
    for (name, label) in labels {
        sent.data_points[0].labels.insert((*name).into(), (*label).into());
    }
    sent
}

fn bucket(start: i64, values: &[f64]) -> Value {
    let sum: f64 = values.iter().sum();
    json!({
        "start": rfc3339(start),
        "min": values.iter().copied().fold(f64::INFINITY, f64::min),
        "max": values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "avg": sum / values.len() as f64,
        "last": values[values.len() - 1],
        "count": values.len(),
    })
}

fn between(from: i64, to: i64) -> String {
    format!("&timestamp__gte={}&timestamp__lte={}", rfc3339(from), rfc3339(to))
}

#[test]
fn buckets_hold_what_lies_in_them_and_empty_ones_are_left_out() {
    let mut server = Server::start("");
    let at = now_ms().div_euclid(HOUR_MS) * HOUR_MS - 3 * HOUR_MS;
    let points = [(0, 1.5), (20, -4.0), (59, 3.0), (60, 8.0), (200, 0.1), (239, 0.2)];
    let batches: Vec<_> =
        points.iter().map(|&(secs, v)| batch("a", at + secs * SECOND_MS, &[("m", v)])).collect();
    send(&server, &batches);
    let query = format!("{PATH}&step=60{}", between(at, at + 10 * MINUTE_MS));
    let expected = json!([{"labels": {}, "step": 60, "buckets": [
        bucket(at, &[1.5, -4.0, 3.0]),
        bucket(at + MINUTE_MS, &[8.0]),
        bucket(at + 3 * MINUTE_MS, &[0.1, 0.2]),
    ]}]);
    assert_eq!(server.get(&query), expected);
    // The ends cut buckets: their start is before the time, their points are not.
    let (from, to) = (at + 10 * SECOND_MS, at + 200 * SECOND_MS);
    let expected = json!([{"labels": {}, "step": 60, "buckets": [
        bucket(at, &[-4.0, 3.0]),
        bucket(at + MINUTE_MS, &[8.0]),
        bucket(at + 3 * MINUTE_MS, &[0.1]),
    ]}]);
    assert_eq!(server.get(&format!("{PATH}&step=60{}", between(from, to))), expected);
    let whole = server.get(&format!("{PATH}&step=86400{}", between(at, at + HOUR_MS)));
    assert_eq!(whole[0]["buckets"][0]["count"], 6, "{whole}");
    assert_eq!(server.get(PATH), json!([]), "nothing in the last hour");
    let other = "/v1/metrics/range?agent_id=nobody&metric_name=m";
    assert_eq!(server.get(other), json!([]));
}

#[test]
fn series_are_apart_and_labels_choose_among_them() {
    let mut server = Server::start("");
    let at = now_ms() - MINUTE_MS;
    let sets: [&[(&str, &str)]; 4] = [
        &[],
        &[("mount", "/")],
        &[("mount", "/"), ("disk", "sda")],
        &[("mount", "/a,b\\c=d"), ("disk", "sdb")],
    ];
    for (number, labels) in sets.iter().enumerate() {
        send(&server, &[labelled(at, labels, number as f64)]);
    }
    for (labels, values) in [
        ("", vec![0.0, 1.0, 2.0, 3.0]),
        ("mount%3D%2F", vec![1.0, 2.0]),
        ("mount=/", vec![1.0, 2.0]),
        ("disk=sda,mount=/", vec![2.0]),
        ("mount=/a%5C,b%5C%5Cc=d", vec![3.0]),
        ("disk=sd", vec![]),
        ("disk=", vec![]),
    ] {
        let rows = server.get(&format!("{PATH}&labels={labels}"));
        let mut found: Vec<f64> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|series| series["buckets"][0]["last"].as_f64().unwrap())
            .collect();
        found.sort_by(f64::total_cmp);
        assert_eq!(found, values, "{labels}: {rows}");
    }
    let rows = server.get(&format!("{PATH}&labels=disk=sda"));
    assert_eq!(rows[0]["labels"], json!({"disk": "sda", "mount": "/"}));
}

#[test]
fn times_and_steps_have_sensible_defaults() {
    let mut server = Server::start("");
    let now = now_ms();
    send(
        &server,
        &[
            batch("a", now - 2 * DAY_MS, &[("m", 1.0)]),
            batch("a", now - 2 * HOUR_MS, &[("m", 2.0)]),
            batch("a", now - MINUTE_MS, &[("m", 3.0)]),
        ],
    );
    let counted = |rows: &Value| -> (i64, usize) {
        (rows[0]["step"].as_i64().unwrap(), rows[0]["buckets"].as_array().unwrap().len())
    };
    assert_eq!(counted(&server.get(PATH)), (15, 1), "the last hour in 15 s");
    let day = format!("{PATH}&timestamp__gte={}", rfc3339(now - DAY_MS));
    assert_eq!(counted(&server.get(&day)), (300, 2));
    let week = format!("{PATH}&timestamp__gte={}", rfc3339(now - 7 * DAY_MS));
    assert_eq!(counted(&server.get(&week)), (3_600, 3));
    let before = format!("{PATH}&timestamp__lte={}", rfc3339(now - 90 * MINUTE_MS));
    assert_eq!(server.get(&before)[0]["buckets"][0]["last"], 2.0, "the hour before the end");
}

#[test]
fn eleven_thousand_buckets_are_given_and_one_more_is_refused() {
    let mut server = Server::start("");
    let from = now_ms().div_euclid(HOUR_MS) * HOUR_MS - 6 * HOUR_MS;
    let seconds: Vec<i64> = (0..11_000).collect();
    for part in seconds.chunks(5_000) {
        let mut sent = batch("a", from, &[]);
        for second in part {
            let at = from + second * SECOND_MS;
            sent.data_points.extend(batch("a", at, &[("m", *second as f64)]).data_points);
        }
        send(&server, &[sent]);
    }
    let last = from + 10_999 * SECOND_MS;
    let rows = server.get(&format!("{PATH}&step=1{}", between(from, last)));
    let buckets = rows[0]["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 11_000);
    assert!((0..).zip(buckets).all(|(n, bucket)| bucket["last"] == f64::from(n)));
    let more = format!("{PATH}&step=1{}", between(from, last + SECOND_MS));
    let answer = server.call("GET", &more, None);
    assert_eq!((answer.status, answer.code()), (400, 1001), "{answer:?}");
    let said = answer.body["err_msg"].as_str().unwrap();
    assert!(said.contains("11001") && said.contains("11000"), "{said}");
    let rows = server.get(&format!("{PATH}&step=2{}", between(from, last + SECOND_MS)));
    assert_eq!(rows[0]["buckets"].as_array().unwrap().len(), 5_500);
}

#[test]
fn many_series_together_have_a_bound_that_is_said() {
    let mut server = Server::start("");
    let from = now_ms().div_euclid(HOUR_MS) * HOUR_MS - HOUR_MS;
    for minute in 0..21 {
        let mut sent = batch("a", from + minute * MINUTE_MS, &[]);
        for number in 0..10_000 {
            let label = number.to_string();
            let point = labelled(from + minute * MINUTE_MS, &[("n", &label)], 1.0);
            sent.data_points.extend(point.data_points);
        }
        send(&server, &[sent]);
    }
    let wide = format!("{PATH}&step=60{}", between(from, from + 30 * MINUTE_MS));
    let answer = server.call("GET", &wide, None);
    assert_eq!((answer.status, answer.code()), (400, 1001));
    let said = answer.body["err_msg"].as_str().unwrap().to_owned();
    assert!(said.contains("200000") && said.contains("labels"), "{said}");
    let rows = server.get(&format!("{wide}&labels=n=77"));
    assert_eq!(rows[0]["buckets"].as_array().unwrap().len(), 21);
}

#[test]
fn charts_take_a_login_and_each_parameter_is_checked() {
    let mut server = Server::start("");
    server.get(PATH);
    check(&mut server, Least::Viewer, "GET", PATH, None);
    let reversed = "timestamp__gte=2026-02-02T00:00:00Z&timestamp__lte=2026-02-01T00:00:00Z";
    let mut cases: Vec<(String, &str)> = vec![
        ("/v1/metrics/range?metric_name=m".to_owned(), "agent_id"),
        ("/v1/metrics/range?agent_id=a".to_owned(), "metric_name"),
        (format!("{PATH}&{reversed}"), "timestamp__gte"),
    ];
    for (query, word) in [
        ("step=0", "step"),
        ("step=-1", "step"),
        ("step=1.5", "step"),
        ("step=", "step"),
        ("step=99999999999", "step"),
        ("labels=mount", "labels"),
        ("labels=%3D/", "labels"),
        ("labels=a=1,a=2", "labels"),
        ("labels=a=1,", "labels"),
        ("labels=a=%5Cn", "labels"),
        ("timestamp__gte=now", "timestamp__gte"),
        ("timestamp__lte=1770625800", "timestamp__lte"),
        ("timestamp__gte=2000-01-01T00:00:00Z&step=60", "11000"),
        ("limit=5", "limit"),
    ] {
        cases.push((format!("{PATH}&{query}"), word));
    }
    let cases: Vec<_> = cases.iter().map(|(path, word)| (path.as_str(), None, *word)).collect();
    check_bad(&mut server, "GET", &cases);
    let ages = format!("{PATH}&timestamp__gte=0001-01-01T00:00:00Z");
    assert_eq!(server.get(&ages), json!([]), "all of history has a step of its own");
}
