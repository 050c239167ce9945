//! PromQL and Prometheus' HTTP API, beside a real Prometheus with the same samples.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::server::Server;

mod cancel;
mod data;
mod grafana;
mod import;
mod prometheus;
mod receive;
mod rules;
mod senders;

use prometheus::Prometheus;

/// Prometheus 2.42 closes ranges on both sides, oxmon opens them on the left as version 3: no time
/// that is asked for is a range away from a sample, so that both see the same.
const QUERIES: &str = include_str!("queries.txt");

const TYPE: &str = "application/x-protobuf";

/// When the samples begin: so that they end a minute ago, at a time that no step meets.
fn start_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("a time").as_millis()).expect("a time");
    let last = (now - 60_000) / 60_000 * 60_000 + 3_217;
    last - (data::SAMPLES - 1) * data::STEP_MS
}

/// A GET of Prometheus' API; the body, whatever the status.
pub fn get(url: &str, token: &str, path: &str, parameters: &[(&str, &str)]) -> Value {
    let mut request = ureq::get(format!("{url}/api/v1/{path}"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("Authorization", format!("Bearer {token}"));
    for (name, value) in parameters {
        request = request.query(*name, *value);
    }
    let mut answer = request.call().expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// A server with an API token.
pub fn server(extra: &str) -> (Server, String) {
    let mut server = Server::start(extra);
    let body = json!({"name": "promql", "read_only": false});
    let token = server.post("/v1/auth/tokens", body)["token"].as_str().expect("a token").to_owned();
    (server, token)
}

/// Writes all series, a part of the time after the other: Prometheus takes nothing that is more
/// than an hour older than its newest sample.
fn write_all(url: &str, token: &str, series: &[data::Series]) {
    let authorization = format!("Bearer {token}");
    let times = || series.iter().flat_map(|(_, samples)| samples.iter().map(|sample| sample.0));
    let (first, last) = (times().min().expect("samples"), times().max().expect("samples"));
    for from in (first..=last).step_by(600_000) {
        let within = |sample: &&(i64, f64)| sample.0 >= from && sample.0 < from + 600_000;
        let part: Vec<data::Series> = series
            .iter()
            .map(|(labels, samples)| {
                (labels.clone(), samples.iter().filter(within).copied().collect())
            })
            .collect();
        let status = data::write(url, &authorization, TYPE, &data::request(&part));
        assert_eq!(status, 204, "{url}");
    }
}

/// Whether two texts of numbers are the same, up to the order in which sums were added up.
fn near(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_str()?.parse::<f64>().ok();
    match (number(a), number(b)) {
        (Some(a), Some(b)) if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3),
        _ => a == b,
    }
}

/// What differs between two answers; `None` when nothing does.
fn difference(ours: &Value, theirs: &Value, ordered: bool) -> Option<String> {
    if ours["status"] != theirs["status"] {
        return Some(format!("status: {} {}", ours, theirs));
    }
    if ours["status"] == "error" {
        return None;
    }
    let (ours, theirs) = (&ours["data"], &theirs["data"]);
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("type: {} {}", ours["resultType"], theirs["resultType"]));
    }
    if ours["resultType"] == "scalar" || ours["resultType"] == "string" {
        let same = near(&ours["result"][1], &theirs["result"][1]);
        return (!same).then(|| format!("{} {}", ours["result"], theirs["result"]));
    }
    let rows = |data: &Value| {
        let mut rows = data["result"].as_array().cloned().unwrap_or_default();
        if !ordered {
            rows.sort_by_key(|row| row["metric"].to_string());
        }
        rows
    };
    let (ours, theirs) = (rows(ours), rows(theirs));
    if ours.len() != theirs.len() {
        return Some(format!("{} series, not {}: {ours:?} {theirs:?}", ours.len(), theirs.len()));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours["metric"] != theirs["metric"] {
            return Some(format!("labels: {} {}", ours["metric"], theirs["metric"]));
        }
        let samples = |row: &Value| match row.get("value") {
            Some(value) => vec![value.clone()],
            None => row["values"].as_array().cloned().unwrap_or_default(),
        };
        let (a, b) = (samples(ours), samples(theirs));
        if a.len() != b.len() {
            return Some(format!("{}: {} samples, not {}", ours["metric"], a.len(), b.len()));
        }
        let wrong = a.iter().zip(&b).find(|(a, b)| a[0] != b[0] || !near(&a[1], &b[1]));
        if let Some((a, b)) = wrong {
            return Some(format!("{}: {a} is not {b}", ours["metric"]));
        }
    }
    None
}

#[test]
fn every_query_gives_what_prometheus_gives() {
    let Some(prometheus) = Prometheus::start("global:\n  evaluation_interval: 1m\n") else {
        println!("skipped: prometheus is not installed (scripts/setup.sh test)");
        return;
    };
    let (server, token) = server("[prometheus]\nagent_label = \"instance\"");
    let start = start_ms();
    let series = data::all(start);
    write_all(&server.url(), &token, &series);
    write_all(&prometheus.url, "none", &series);
    let last = start + (data::SAMPLES - 1) * data::STEP_MS;
    let secs = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    let (from, to) = (secs(last - 70 * 60_000 + 4_000), secs(last + 4_000));
    let mut wrong = String::new();
    let mut asked = 0;
    for query in QUERIES.lines().filter(|line| !line.starts_with('#')) {
        asked += 1;
        let at: &[(&str, &str)] = &[("query", query), ("time", &to)];
        let over: &[(&str, &str)] =
            &[("query", query), ("start", &from), ("end", &to), ("step", "75")];
        for (path, parameters) in [("query", at), ("query_range", over)] {
            let ours = get(&server.url(), &token, path, parameters);
            let theirs = get(&prometheus.url, &token, path, parameters);
            let ordered = query.starts_with("sort") && path == "query";
            if let Some(difference) = difference(&ours, &theirs, ordered) {
                let _ = writeln!(wrong, "{path} {query}\n    {difference:.600}");
            }
        }
    }
    assert!(asked >= 300, "{asked} queries");
    assert!(wrong.is_empty(), "ours, then Prometheus':\n{wrong}");
    println!("{asked} queries, at one time and over a range");
}
