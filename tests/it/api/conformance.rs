//! Other people's checkers: schemathesis over the OpenAPI document, promtool and a real Prometheus
//! over the exposition.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oxmon::server::api::routes::all as routes;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::tools::find;
use crate::support::{free_port, wait_for};

/// A program that `scripts/setup.sh test` installs, or that the system has. Where the set-up has
/// run, as it has in CI, a missing program fails the test, which would otherwise pass without
/// having checked anything.
fn tool(name: &str) -> Option<PathBuf> {
    let venv = std::env::var_os("OXMON_VENV");
    let found = find(name);
    if found.is_none() {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(venv.is_none() && !is_ci, "no {name}, which scripts/setup.sh installs");
        eprintln!("no {name}: run the tests through `make test`, which installs it");
    }
    found
}

/// Operations that are checked on servers of their own. The fuzzer finds its own user's id, and
/// would remove or demote that user as soon as it has made another administrator; and one call is
/// checked on a server without domains, so that it calls nobody. The document itself is left out by
/// the fuzzer unless it is named.
const APART: [[&str; 2]; 4] = [
    ["operation-id", "put_v1_users_id"],
    ["operation-id", "delete_v1_users_id"],
    ["path", "/v1/certs/check"],
    ["path", "/v1/openapi.json"],
];
/// Each ends the fuzzer's own login, so nothing comes after it.
const LAST: [[&str; 2]; 2] =
    [["operation-id", "post_v1_users_id_password"], ["operation-id", "post_v1_auth_logout"]];

fn filter(way: &str, operations: &[[&str; 2]]) -> Vec<String> {
    operations.iter().flat_map(|[by, name]| [format!("--{way}-{by}"), (*name).into()]).collect()
}

/// Runs schemathesis over the operations that `filter` leaves, fails with what it says, and gives
/// the number of operations that it tested.
fn judge(program: &Path, server: &mut Server, filter: &[String]) -> usize {
    server.get("/v1/agents");
    let token = server.token().expect("a login").to_owned();
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance";
    let out = Command::new(program)
        .args(["run", &format!("{}/v1/openapi.json", server.url())])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", checks, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "8", "--seed", "1", "--request-timeout", "20"])
        .args(["--suppress-health-check", "all", "--continue-on-failure", "--no-color"])
        .args(filter)
        .current_dir(server.dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let tail: Vec<&str> = said.lines().rev().take(400).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let tail = tail.join("\n");
    assert!(out.status.success(), "{tail}");
    // An operation that only ever answers 401 has not been tested; signing out ends the login.
    let ends = filter.last().is_some_and(|word| word == LAST[1][1]) && filter.len() == 2;
    assert!(ends || !said.contains("401 Unauthorized"), "{tail}");
    let log = server.log();
    assert!(!log.contains("ERROR"), "the server logged errors:\n{log}");
    let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: "));
    tested.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{tail}"))
}

/// Something of each kind, so that lists are not empty.
fn furnish(server: &mut Server) {
    server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    if routes().any(|route| route.path == "/v1/certs/domains") {
        server.post("/v1/certs/domains", json!({"domain": "localhost", "port": 1}));
    }
    server.post(
        "/v1/alerts/rules",
        json!({"name": "r", "rule_type": "threshold", "metric": "cpu.usage",
               "config_json": json!({"operator": "greater_than", "value": 0.0, "duration_secs": 0}).to_string()}),
    );
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "c", "channel_type": "webhook", "enabled": false,
               "config_json": "{}", "recipients": ["http://127.0.0.1:1/"]}),
    );
    server.post(
        "/v1/notifications/silence-windows",
        json!({"start_time": "02:00", "end_time": "04:00", "recurrence": "daily"}),
    );
}

#[test]
fn schemathesis_finds_no_fault_and_no_answer_outside_its_schema() {
    let Some(program) = tool("schemathesis") else { return };
    // What the fuzzer configures must not make the server call anyone: the scheduler is off.
    let quiet = "[cert_check]\nenabled = false\n[prometheus]\nagents = true\n";
    let mut server = Server::start(quiet);
    let agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || {
        (server.call("GET", "/v1/agents/web-01/latest", None).status == 200).then_some(())
    });
    furnish(&mut server);
    let others = [&APART[..], &LAST].concat();
    let mut judged = judge(&program, &mut server, &filter("exclude", &others));
    drop(agent);
    for operations in [&APART[..], &LAST[..1], &LAST[1..]] {
        judged += judge(&program, &mut Server::start(quiet), &filter("include", operations));
    }
    let wanted = routes().filter(|route| route.is_endpoint()).count();
    assert_eq!(judged, wanted, "every operation is checked");
}

#[test]
fn the_document_is_served_as_json_and_as_yaml_without_a_login() {
    let server = Server::start("");
    let document = server.try_call("GET", "/v1/openapi.json", None).unwrap();
    assert_eq!(document.status, 200);
    let version = document.body["openapi"].as_str().unwrap();
    assert!(version.starts_with("3."), "{version}");
    let yaml = server.try_call("GET", "/v1/openapi.yaml", None).unwrap();
    assert!(yaml.body.as_str().is_some_and(|text| text.contains("/v1/health")));
}

/// The exposition, with the login of the first user.
fn exposition(server: &mut Server) -> String {
    let answer = server.call("GET", "/metrics", None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.as_str().expect("text").to_owned()
}

#[test]
fn the_exposition_passes_promtool() {
    let Some(promtool) = tool("promtool") else { return };
    let mut server = Server::start("[prometheus]\nagents = true\n");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    wait_for("a first value", Duration::from_secs(15), || {
        exposition(&mut server).contains("oxmon_memory_total").then_some(())
    });
    // Names that nobody should choose, and somebody will.
    let strange = [
        "app.latency_ms",
        "queue.depthTotal",
        "x.count",
        "a.b",
        "a_b",
        "net.kilobytes",
        "jobs.days",
        "storage.head_bytes",
        "héllo wörld",
        "9lives",
        "temp.gauge",
        "http:requests",
    ];
    let points: Vec<(&str, f64)> = strange.iter().map(|name| (*name, 1.5)).collect();
    let mut batch = batch("odd \"one\"\\", now_ms(), &points);
    for point in &mut batch.data_points {
        for name in ["agent", "fooBar", "foo_bar", "__name__", "le", "9"] {
            point.labels.insert(name.to_owned(), "a \"b\"\n\\".to_owned());
        }
    }
    assert!(Client::to(server.grpc_port).report(&batch).unwrap().success);
    let text = exposition(&mut server);
    let told = text.lines().filter(|line| line.contains("agent=\"odd")).count();
    assert_eq!(told, strange.len(), "{text}");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{text}");
}

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_it_and_gives_the_value_back() {
    let Some(program) = tool("prometheus") else { return };
    let mut server = Server::start("[prometheus]\nagents = true\n");
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let total = wait_for("a first value", Duration::from_secs(15), || {
        let answer = server.call("GET", "/v1/agents/web-01/latest", None);
        let rows = answer.data().as_array()?.clone();
        rows.iter().find(|row| row["metric_name"] == "memory.total")?["value"].as_f64()
    });
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: oxmon\n    \
         authorization:\n      credentials: {}\n    static_configs:\n      - targets: \
         ['127.0.0.1:{}']\n",
        server.token().unwrap(),
        server.http_port
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let port = free_port();
    let child = Command::new(program)
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Prometheus(child);
    let url = format!(
        "http://127.0.0.1:{port}/api/v1/query?query=oxmon_memory_total%7Bagent%3D%22web-01%22%7D"
    );
    let scraped = wait_for("the value in Prometheus", Duration::from_secs(60), || {
        let text = ureq::get(&url).call().ok()?.body_mut().read_to_string().ok()?;
        let body: Value = serde_json::from_str(&text).ok()?;
        body["data"]["result"][0]["value"][1].as_str()?.parse::<f64>().ok()
    });
    assert_eq!(scraped, total);
}
