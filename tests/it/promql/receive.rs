//! What is written comes back.

use std::process::Command;

use oxmon::server::receive::proto::{put_bytes, put_double, put_int};
use serde_json::{Value, json};

use super::prometheus::Prometheus;
use super::{TYPE, data, get, server, start_ms, write_all};
use crate::support::tools;

/// Samples of every series as `query` gives them back, by labels.
fn read_back(url: &str, token: &str, at: &str) -> Vec<data::Series> {
    let query = "{__name__=~\".+\",instance=~\".+\"}[3h]";
    let answer = get(url, token, "query", &[("query", query), ("time", at)]);
    let rows = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let mut out: Vec<data::Series> = Vec::new();
    for row in rows {
        let labels = row["metric"].as_object().expect("labels").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let labels = labels.map(|(name, value)| (name.clone(), text(value))).collect();
        let sample = |sample: &Value| {
            let ms = (sample[0].as_f64().expect("a time") * 1_000.0).round() as i64;
            (ms, text(&sample[1]).parse().expect("a number"))
        };
        out.push((labels, row["values"].as_array().expect("samples").iter().map(sample).collect()));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

#[test]
fn remote_write_comes_back_to_the_bit() {
    let (server, token) = server("[prometheus]\nagent_label = \"instance\"");
    let start = start_ms();
    let mut series = data::all(start);
    series[0].1[3].1 = 1.0 / 3.0;
    series[0].1[4].1 = -0.0;
    series[0].1[5].1 = 5e-324;
    write_all(&server.url(), &token, &series);
    // The same once more changes nothing.
    write_all(&server.url(), &token, &series);
    let at = (start / 1_000 + data::SAMPLES * 15).to_string();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let found = read_back(&server.url(), &token, &at);
    assert_eq!(found.len(), series.len());
    for (found, written) in found.iter().zip(&series) {
        assert_eq!(found.0, written.0);
        let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
            samples.iter().map(|&(ms, value)| (ms, value.to_bits())).collect()
        };
        assert_eq!(bits(&found.1), bits(&written.1), "{:?}", written.0);
    }
}

const V2_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// A remote write 2.0 request of one series.
fn second(symbols: &[&str], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for symbol in symbols {
        put_bytes(&mut out, 4, symbol.as_bytes());
    }
    let mut series = Vec::new();
    let refs: Vec<u8> = (1..u8::try_from(symbols.len()).expect("few")).collect();
    put_bytes(&mut series, 1, &refs);
    for &(ms, value) in samples {
        let mut sample = Vec::new();
        put_double(&mut sample, 1, value);
        put_int(&mut sample, 2, ms);
        put_bytes(&mut series, 2, &sample);
    }
    put_bytes(&mut out, 5, &series);
    out
}

#[test]
fn version_two_is_taken_and_a_bad_sample_costs_itself() {
    let (server, token) = server("");
    let at = start_ms();
    let symbols = ["", "__name__", "v2_metric", "agent", "web-09", "zone", "x"];
    let samples = [(at, 1.0), (at + 1, f64::NAN), (at + 2, 3.0), (i64::MAX, 4.0)];
    let message = second(&symbols, &samples);
    let packed = snap::raw::Encoder::new().compress_vec(&message).expect("snappy");
    let answer = ureq::post(format!("{}/api/v1/write", server.url()))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", V2_TYPE)
        .send(&packed[..])
        .expect("an answer");
    assert_eq!(answer.status(), 204);
    let header = answer.headers().get("X-Prometheus-Remote-Write-Samples-Written");
    assert_eq!(header.and_then(|value| value.to_str().ok()), Some("2"));
    let time = (at / 1_000 + 1).to_string();
    let query = "v2_metric{agent=\"web-09\"}[1m]";
    let answer = get(&server.url(), &token, "query", &[("query", query), ("time", &time)]);
    let row = &answer["data"]["result"][0];
    let labels = json!({"__name__": "v2_metric", "agent": "web-09", "zone": "x"});
    assert_eq!((&row["metric"], row["values"].as_array().map(Vec::len)), (&labels, Some(2)));
    let metrics = get_text(&server.url(), &token, "/metrics");
    for line in [
        "oxmon_receive_samples_total{outcome=\"not_finite\",protocol=\"remote_write\"} 1",
        "oxmon_receive_samples_total{outcome=\"stored\",protocol=\"remote_write\"} 2",
        "oxmon_receive_samples_total{outcome=\"too_far_ahead\",protocol=\"remote_write\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

/// What Google's protobuf makes of the same message; `None` where it is not installed.
fn published(start: i64, how: &[&str]) -> Option<Vec<u8>> {
    let python = tools::venv().join("bin/python");
    let check = Command::new(&python).args(["-c", "import google.protobuf"]).output();
    let there = check.is_ok_and(|out| out.status.success());
    if !tools::or_excuse(there, "Google's protobuf is not installed") {
        return None;
    }
    let script = tools::root().join("tests/fixtures/remote_write_2.py");
    let out = Command::new(python).arg(script).arg(start.to_string()).args(how).output();
    let out = out.expect("python runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(out.stdout)
}

#[test]
fn version_two_comes_back_to_the_bit_as_protobuf_packs_it() {
    let (server, token) = server("");
    let url = server.url();
    let start = start_ms();
    let values = [[1.0, 1.0 / 3.0, 1e300], [-0.0, 5e-324, 0.1 + 0.2]];
    for (how, later) in [(&[][..], 0), (&["unpacked"][..], 60_000)] {
        let Some(message) = published(start + later, how) else { return };
        let packed = snap::raw::Encoder::new().compress_vec(&message).expect("snappy");
        let answer = ureq::post(format!("{url}/api/v1/write"))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", V2_TYPE)
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "2.0.0")
            .send(&packed[..])
            .expect("an answer");
        assert_eq!(answer.status(), 204);
        let count = |what: &str| {
            let name = format!("X-Prometheus-Remote-Write-{what}-Written");
            answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let counts = ["Samples", "Histograms", "Exemplars"].map(count);
        assert_eq!(counts, ["6", "0", "0"].map(|count| Some(count.to_owned())), "{how:?}");
        let at = ((start + later) / 1_000 + 5).to_string();
        for (name, values) in ["v2_sent_total", "v2_level"].iter().zip(&values) {
            let query = format!("{name}[20s]");
            let answer = get(&url, &token, "query", &[("query", &query), ("time", &at)]);
            let row = &answer["data"]["result"][0];
            let labels = json!({"__name__": name, "agent": "web-20", "text": "é \"b\"\\\n"});
            assert_eq!(row["metric"], labels);
            let bits = |sample: &Value| {
                let text = sample[1].as_str().expect("a text");
                text.parse::<f64>().expect("a number").to_bits()
            };
            let found: Vec<u64> =
                row["values"].as_array().expect("samples").iter().map(bits).collect();
            assert_eq!(found, values.map(f64::to_bits), "{name} {how:?}");
        }
    }
    let metrics = get_text(&url, &token, "/metrics");
    let native = "oxmon_receive_samples_total{outcome=\"histogram\",protocol=\"remote_write\"} 2";
    assert!(metrics.contains(native), "{metrics}");
}

pub(super) fn get_text(url: &str, token: &str, path: &str) -> String {
    let answer =
        ureq::get(format!("{url}{path}")).header("Authorization", format!("Bearer {token}")).call();
    answer.expect("an answer").body_mut().read_to_string().expect("a body")
}

#[test]
fn what_is_not_a_write_is_refused() {
    let (mut server, token) = server("");
    let url = server.url();
    let write = |authorization: &str, content_type: &str, message: &[u8]| {
        data::write(&url, authorization, content_type, message)
    };
    let series: data::Series = (
        vec![("__name__".to_owned(), "m".to_owned()), ("agent".to_owned(), "a".to_owned())],
        vec![(start_ms(), 1.0)],
    );
    let message = data::request(std::slice::from_ref(&series));
    let bearer = format!("Bearer {token}");
    assert_eq!(write(&bearer, TYPE, &message), 204);
    assert_eq!(write("", TYPE, &message), 401);
    assert_eq!(write("Bearer oxm_nothing", TYPE, &message), 401);
    assert_eq!(write(&bearer, "text/plain", &message), 415);
    assert_eq!(write(&bearer, TYPE, b"\xff\xff\xff"), 400);
    let only_reads = server.post("/v1/auth/tokens", json!({"name": "r", "read_only": true}));
    let only_reads = format!("Bearer {}", only_reads["token"].as_str().expect("a token"));
    assert_eq!(write(&only_reads, TYPE, &message), 403);
    // An agent's own token writes for that agent alone.
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "a"}));
    let agent_token = made["token"].as_str().expect("a token").to_owned();
    let basic = |user: &str| {
        use base64::Engine as _;
        let text = format!("{user}:{agent_token}");
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(text))
    };
    assert_eq!(write(&basic("a"), TYPE, &message), 204);
    assert_eq!(write(&basic("b"), TYPE, &message), 401);
}

#[test]
fn promtool_and_remote_read_get_what_was_written() {
    let (server, token) = server("[prometheus]\nagent_label = \"instance\"");
    let start = start_ms();
    let series = data::all(start);
    write_all(&server.url(), &token, &series);
    let config = format!(
        "remote_read:\n  - url: {}/api/v1/read\n    read_recent: true\n    authorization:\n      \
         credentials: {token}\n",
        server.url()
    );
    let Some(prometheus) = Prometheus::start(&config) else {
        println!("skipped: prometheus is not installed (scripts/setup.sh test)");
        return;
    };
    let at = (start / 1_000 + data::SAMPLES * 15).to_string();
    let ours = read_back(&server.url(), &token, &at);
    let theirs = read_back(&prometheus.url, &token, &at);
    assert_eq!(ours.len(), series.len());
    assert_eq!(ours, theirs);

    let promtool = tools::find("promtool").expect("promtool comes with prometheus");
    let url = server.url().replace("http://", &format!("http://any:{token}@"));
    let ask = |arguments: &[&str]| {
        let out = Command::new(&promtool).args(arguments).output().expect("promtool runs");
        let (said, wrong) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{arguments:?}: {said}{wrong}");
        said.into_owned()
    };
    let said = ask(&["query", "instant", "--time", &at, &url, "sum(info)"]);
    assert!(said.contains("=> 4 @"), "{said}");
    let end = (start / 1_000 + 600).to_string();
    let from = (start / 1_000).to_string();
    let said =
        ask(&["query", "range", "--start", &from, "--end", &end, &url, "info{instance=\"h1\"}"]);
    assert!(said.contains("info{instance=\"h1\""), "{said}");
    let said = ask(&["query", "series", "--match", "g", &url]);
    assert_eq!(said.lines().count(), 4, "{said}");
    let said = ask(&["query", "labels", &url, "dc"]);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["a", "b"]);
}

/// Sends a body; gives status and answer.
fn post(url: &str, token: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
    let sent = ureq::post(format!("{url}/api/v1/{path}"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", content_type)
        .send(body);
    let mut answer = sent.expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
}

/// `labels value` of each series of an instant query.
pub(super) fn ask(url: &str, token: &str, query: &str, at: i64) -> Vec<String> {
    let time = at.to_string();
    let answer = get(url, token, "query", &[("query", query), ("time", &time)]);
    let rows = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let text = |row: &Value| format!("{} {}", row["metric"], row["value"][1].as_str().unwrap());
    rows.iter().map(text).collect()
}

#[test]
fn lines_of_telegraf_are_taken() {
    let (server, token) = server("");
    let url = server.url();
    let at = start_ms() / 1_000;
    let lines = format!(
        "cpu,host=web-01,cpu=cpu0 usage_idle=99.5,count=3i,text=\"x\" {at}\nnot a line\n\
         # a comment\nmem,host=web-02 used=-0.25 {at}\n"
    );
    let path = "influx/write?db=telegraf&precision=s";
    let (status, said) = post(&url, &token, path, "text/plain; charset=utf-8", lines.as_bytes());
    assert_eq!((status, said.as_str()), (204, ""));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, lines.as_bytes()).expect("gzip");
    let packed = gzip.finish().expect("gzip");
    assert_eq!(post(&url, &token, path, "text/plain", &packed).0, 204);
    assert_eq!(
        ask(&url, &token, "{__name__=~\"cpu_.*|mem_.*\"}", at + 1),
        [
            r#"{"__name__":"cpu_count","agent":"web-01","cpu":"cpu0"} 3"#,
            r#"{"__name__":"cpu_usage_idle","agent":"web-01","cpu":"cpu0"} 99.5"#,
            r#"{"__name__":"mem_used","agent":"web-02"} -0.25"#,
        ]
    );
    assert_eq!(post(&url, &token, "influx/write?precision=x", "text/plain", b"").0, 400);
    assert_eq!(post(&url, "oxm_wrong", path, "text/plain", b"").0, 401);
    let metrics = get_text(&url, &token, "/metrics");
    let line = "oxmon_receive_samples_total{outcome=\"malformed\",protocol=\"influx\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn opentelemetry_metrics_are_taken_in_both_forms() {
    let (server, token) = server("");
    let url = server.url();
    let at = start_ms() / 1_000;
    let time = (at * 1_000_000_000).to_string();
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let number = |value: Value| {
        json!({"timeUnixNano": time, "attributes": [attribute("http.method", "GET")],
               "asDouble": value})
    };
    let export = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "shop"), attribute("host.name", "web-07"),
        ]},
        "scopeMetrics": [{"metrics": [
            {"name": "queue.size", "unit": "By", "gauge": {"dataPoints": [number(json!(2.5))]}},
            {"name": "requests", "sum": {"dataPoints": [number(json!(7))], "isMonotonic": true,
                "aggregationTemporality": 2}},
            {"name": "deltas", "sum": {"dataPoints": [number(json!(7))],
                "aggregationTemporality": 1}},
            {"name": "wait", "unit": "s", "histogram": {"aggregationTemporality": 2,
                "dataPoints": [{"timeUnixNano": time, "count": "6", "sum": 4.5,
                    "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 1]}]}},
        ]}],
    }]});
    let path = "otlp/v1/metrics";
    let (status, said) =
        post(&url, &token, path, "application/json", export.to_string().as_bytes());
    assert!(status == 200 && said.contains("\"rejectedDataPoints\":\"1\""), "{status} {said}");
    let query = "{__name__=~\"queue.*|requests.*|deltas.*|wait.*\"}";
    let wanted = [
        r#"{"__name__":"queue_size_bytes","agent":"web-07","http_method":"GET","job":"shop"} 2.5"#,
        r#"{"__name__":"requests_total","agent":"web-07","http_method":"GET","job":"shop"} 7"#,
        r#"{"__name__":"wait_seconds_bucket","agent":"web-07","job":"shop","le":"+Inf"} 6"#,
        r#"{"__name__":"wait_seconds_bucket","agent":"web-07","job":"shop","le":"0.5"} 1"#,
        r#"{"__name__":"wait_seconds_bucket","agent":"web-07","job":"shop","le":"1"} 3"#,
        r#"{"__name__":"wait_seconds_count","agent":"web-07","job":"shop"} 6"#,
        r#"{"__name__":"wait_seconds_sum","agent":"web-07","job":"shop"} 4.5"#,
    ];
    assert_eq!(ask(&url, &token, query, at + 1), wanted);

    // The same gauge of another host, in protobuf.
    let field = |number: u64, parts: &[Vec<u8>]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, &parts.concat());
        out
    };
    let mut point = vec![3 << 3 | 1];
    point.extend((at * 1_000_000_000).to_le_bytes());
    put_double(&mut point, 4, 3.5);
    let gauge = field(5, &[field(1, &[point])]);
    let metric =
        field(2, &[field(1, &[b"queue.size".to_vec()]), field(3, &[b"By".to_vec()]), gauge]);
    let host = field(2, &[field(1, &[b"web-08".to_vec()])]);
    let resource = field(1, &[field(1, &[field(1, &[b"host.name".to_vec()]), host])]);
    let message = field(1, &[resource, field(2, &[metric])]);
    let (status, said) = post(&url, &token, path, "application/x-protobuf", &message);
    assert_eq!((status, said.as_str()), (200, ""));
    let found = ask(&url, &token, "queue_size_bytes{agent=\"web-08\"}", at + 1);
    assert_eq!(found, [r#"{"__name__":"queue_size_bytes","agent":"web-08"} 3.5"#]);
    assert_eq!(post(&url, &token, path, "application/json", b"{").0, 400);
    assert_eq!(post(&url, &token, path, "application/x-protobuf", b"\xff").0, 400);
    assert_eq!(post(&url, &token, path, "text/plain", b"").0, 415);
}
