//! Real programs that write to oxmon and read from it.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::prometheus::Prometheus;
use super::{data, get, server, start_ms};
use crate::support::endpoint::{Act, Endpoint};
use crate::support::{free_port, tools, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// A program with a folder of its own. Dropping it kills the process.
struct Program {
    child: Child,
    dir: TempDir,
}

impl Program {
    /// Starts one in a folder that has these files; `None` where it is not installed.
    fn start(name: &str, files: &[(&str, &str)], arguments: &[String]) -> Option<Self> {
        if !tools::there(name) {
            return None;
        }
        let program = tools::find(name)?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).expect("a file");
        }
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Some(Self { child, dir })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Samples of the only series of a query, as texts: Unix seconds and value.
fn samples(url: &str, token: &str, query: &str, at: &str) -> Vec<(String, String)> {
    let answer = get(url, token, "query", &[("query", query), ("time", at)]);
    let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let text =
        |sample: &Value| (sample[0].to_string(), sample[1].as_str().unwrap_or_default().to_owned());
    values.iter().map(text).collect()
}

#[test]
fn what_prometheus_writes_is_what_it_has() {
    let (server, token) = server("[prometheus]\nagent_label = \"instance\"");
    let url = server.url();
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: oxmon\n    \
         static_configs: [{{ targets: ['127.0.0.1:{}'] }}]\n    authorization:\n      credentials: \
         {token}\nremote_write:\n  - url: {url}/api/v1/write\n    authorization:\n      \
         credentials: {token}\n    queue_config: {{ batch_send_deadline: 1s }}\n",
        server.http_port
    );
    let Some(prometheus) = Prometheus::start(&config) else {
        println!("not run: prometheus is not installed (scripts/setup.sh test)");
        return;
    };
    let query = "process_cpu_seconds_total[10m]";
    let now = || (crate::support::grpc::now_ms() / 1_000).to_string();
    let count = || samples(&url, &token, query, &now()).len();
    wait_for("ten samples", SOON, || (count() >= 10).then_some(()));
    // What both have by now is the same to the digit.
    let at = now();
    let ours = samples(&url, &token, query, &at);
    let theirs = samples(&prometheus.url, "none", query, &at);
    assert_eq!(ours[..10], theirs[..10]);
    let series = "count({__name__=~\"oxmon_.+\"})";
    let both = [(&url, token.as_str()), (&prometheus.url, "none")].map(|(url, token)| {
        let answer = get(url, token, "query", &[("query", series), ("time", &at)]);
        answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned()
    });
    assert_eq!(both[0], both[1], "as many series");
}

#[test]
fn what_vmagent_writes_comes_back_to_the_bit() {
    let (server, token) = server("");
    let url = server.url();
    let port = free_port();
    let arguments = [
        format!("-remoteWrite.url={url}/api/v1/write"),
        format!("-remoteWrite.bearerToken={token}"),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        "-remoteWrite.flushInterval=1s".to_owned(),
    ];
    let Some(vmagent) = Program::start("vmagent", &[], &arguments) else { return };
    let own = format!("http://127.0.0.1:{port}");
    wait_for("vmagent", SOON, || ureq::get(format!("{own}/health")).call().ok());
    let start = start_ms();
    let values: [f64; 6] = [1.0 / 3.0, -1.5, 5e-324, 1e308, 0.1 + 0.2, 123_456_789.123];
    let mut text = String::new();
    for (step, value) in (0_i64..).zip(values) {
        let ms = start + step * 1_000;
        text.push_str(&format!("vm_metric{{agent=\"web-03\",zone=\"b\"}} {value:e} {ms}\n"));
    }
    text.push_str(&format!("vm_minus{{agent=\"web-03\"}} -0 {start}\n"));
    let import = format!("{own}/api/v1/import/prometheus");
    ureq::post(&import).send(text.as_bytes()).expect("it takes them");
    let at = (start / 1_000 + 60).to_string();
    let query = "vm_metric{agent=\"web-03\",zone=\"b\"}[5m]";
    let found = wait_for("the samples", SOON, || {
        let found = samples(&url, &token, query, &at);
        (found.len() == values.len()).then_some(found)
    });
    for (found, wanted) in found.iter().zip(values) {
        let found: f64 = found.1.parse().expect("a number");
        assert_eq!(found.to_bits(), wanted.to_bits(), "{}", vmagent.log());
    }
    // It leaves a value that equals 0 out of the message, so that the sign is lost on its side.
    let minus = samples(&url, &token, "vm_minus{agent=\"web-03\"}[5m]", &at);
    assert_eq!(minus.first().map(|(_, value)| value.as_str()), Some("0"));
}

#[test]
fn vmalert_evaluates_its_rules_over_oxmon() {
    let (server, token) = server("");
    let url = server.url();
    let now = crate::support::grpc::now_ms();
    let labels = [("__name__", "disk_full"), ("agent", "db-01")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let series: data::Series = (labels.to_vec(), vec![(now - 1_000, 97.5)]);
    let bearer = format!("Bearer {token}");
    let message = data::request(std::slice::from_ref(&series));
    assert_eq!(data::write(&url, &bearer, super::TYPE, &message), 204);
    let receiver = Endpoint::start(|_, _| Act::ok());
    let rules = "groups:\n  - name: disks\n    interval: 1s\n    rules:\n      - alert: DiskFull\n        \
                 expr: disk_full > 90\n      - record: disk_full:double\n        expr: disk_full * 2\n";
    let arguments = [
        "-rule=rules.yml".to_owned(),
        format!("-datasource.url={url}"),
        "-datasource.basicAuth.username=any".to_owned(),
        format!("-datasource.basicAuth.password={token}"),
        format!("-remoteWrite.url={url}"),
        "-remoteWrite.basicAuth.username=any".to_owned(),
        format!("-remoteWrite.basicAuth.password={token}"),
        format!("-notifier.url={}", receiver.url("")),
        format!("-httpListenAddr=127.0.0.1:{}", free_port()),
    ];
    let Some(vmalert) = Program::start("vmalert", &[("rules.yml", rules)], &arguments) else {
        return;
    };
    let alert = wait_for("an alert", SOON, || {
        let requests = receiver.requests();
        requests.into_iter().find(|request| request.body.contains("DiskFull"))
    });
    assert!(alert.body.contains("db-01"), "{}", alert.body);
    // What its recording rule gives comes back by remote write.
    wait_for("the recorded series", SOON, || {
        let at = (crate::support::grpc::now_ms() / 1_000).to_string();
        let found = samples(&url, &token, "{__name__=\"disk_full:double\"}[5m]", &at);
        let found = found.first().map(|(_, value)| value == "195");
        assert!(found != Some(false), "{}", vmalert.log());
        found
    });
}

#[test]
fn what_opentelemetrys_exporter_sends_comes_back() {
    let python = tools::venv().join("bin/python");
    let check = Command::new(&python).args(["-c", "import opentelemetry.exporter.otlp"]).output();
    let there = check.is_ok_and(|out| out.status.success());
    if !tools::or_excuse(there, "opentelemetry's exporter is not installed") {
        return;
    }
    let (server, token) = server("");
    let url = server.url();
    let out = Command::new(python)
        .arg(tools::root().join("tests/fixtures/otlp_export.py"))
        .args([&format!("{url}/api/v1/otlp/v1/metrics"), &token])
        .output()
        .expect("python runs");
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{wrong}");
    let at = crate::support::grpc::now_ms() / 1_000 + 1;
    let query = "{agent=\"web-11\",__name__=~\"queue_.*|requests_.*|wait_.*\"}";
    let found = super::receive::ask(&url, &token, query, at);
    let label = "\"agent\":\"web-11\"";
    for (name, value) in [
        ("queue_size_bytes", " 0.30000000000000004"),
        ("requests_total", " 7"),
        ("wait_seconds_count", " 3"),
        ("wait_seconds_sum", " 4.5"),
    ] {
        let is_it = |row: &&String| row.contains(&format!("\"{name}\"")) && row.contains(label);
        let row = found.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {found:?}"));
        assert!(row.ends_with(value), "{row}");
    }
    let buckets = found.iter().filter(|row| row.contains("wait_seconds_bucket")).count();
    assert_eq!(buckets, 3, "{found:?}");
}

#[test]
fn what_influxdbs_client_writes_comes_back() {
    let python = tools::venv().join("bin/python");
    let check = Command::new(&python).args(["-c", "import influxdb_client"]).output();
    let there = check.is_ok_and(|out| out.status.success());
    if !tools::or_excuse(there, "InfluxDB's client is not installed") {
        return;
    }
    let (server, token) = server("");
    let url = server.url();
    let at = crate::support::grpc::now_ms() / 1_000 - 10;
    let out = Command::new(python)
        .arg(tools::root().join("tests/fixtures/influx_write.py"))
        .args([&format!("{url}/api/v1/influx"), &token, &at.to_string()])
        .output()
        .expect("python runs");
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{wrong}");
    for (name, value) in [("read", "0.30000000000000004"), ("ops", "17"), ("on", "1")] {
        let query = format!("{{\"disk io_{name}\",agent=\"web-12\",path=\"/a b,c=d\"}}[1m]");
        let found = samples(&url, &token, &query, &(at + 5).to_string());
        let wanted = [0, 1].map(|more| (format!("{}.001", at + more), value.to_owned()));
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn what_telegraf_sends_comes_back() {
    let (server, token) = server("");
    let url = server.url();
    let config = format!(
        "[agent]\n  interval = \"1s\"\n  flush_interval = \"1s\"\n  hostname = \"web-05\"\n\
         [[outputs.influxdb]]\n  urls = [\"{url}/api/v1/influx\"]\n  skip_database_creation = true\n  \
         username = \"any\"\n  password = \"{token}\"\n[[inputs.mem]]\n"
    );
    let arguments = ["--config".to_owned(), "telegraf.conf".to_owned()];
    // Debian has no package of it, so most machines lack it.
    if tools::find("telegraf").is_none() {
        println!("not run: telegraf is not installed");
        return;
    }
    let telegraf = Program::start("telegraf", &[("telegraf.conf", &config)], &arguments);
    wait_for("its samples", SOON, || {
        let at = (crate::support::grpc::now_ms() / 1_000).to_string();
        let found = samples(&url, &token, "mem_total{agent=\"web-05\"}[5m]", &at);
        (!found.is_empty()).then_some(())
    });
    drop(telegraf);
}

#[test]
fn promtool_takes_what_federate_gives_and_zstandard_is_unpacked() {
    let (server, token) = server("");
    let url = server.url();
    let now = crate::support::grpc::now_ms();
    let series: Vec<data::Series> = ["b_metric", "a_metric"]
        .iter()
        .map(|name| {
            let labels = [("__name__", *name), ("agent", "web-01"), ("text", "a \"b\"\\\n")];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (labels.to_vec(), vec![(now - 2_000, 1.5), (now - 1_000, 1.0 / 3.0)])
        })
        .collect();
    // A frame of Zstandard with one raw block holds the message as it is.
    let message = data::request(&series);
    let size = u32::try_from(message.len()).expect("a short message");
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(size.to_le_bytes());
    frame.extend(&((size << 3) | 1).to_le_bytes()[..3]);
    frame.extend(&message);
    let sent = ureq::post(format!("{url}/api/v1/write"))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", super::TYPE)
        .header("Content-Encoding", "zstd")
        .send(&frame[..]);
    assert_eq!(sent.expect("an answer").status(), 204);
    let text = super::receive::get_text(
        &url,
        &token,
        "/federate?match[]=a_metric&match[]={agent=~%22web.*%22}",
    );
    let row = |name: &str| {
        format!(
            "# TYPE {name} untyped\n{name}{{agent=\"web-01\", text=\"a \\\"b\\\"\\\\\\n\"}} \
             0.3333333333333333 {}\n",
            now - 1_000
        )
    };
    assert_eq!(text, format!("{}{}", row("a_metric"), row("b_metric")));
    let Some(promtool) = tools::find("promtool") else { return };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    // It finds that there are no help texts, and nothing else.
    let others = said.lines().filter(|line| !line.contains("no help text"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    let denied = ureq::get(format!("{url}/federate?match[]=a_metric")).call();
    assert!(denied.is_err(), "it takes a token");
}
