//! The dashboard: its files over HTTP, and its pages in a real browser on a real server and agent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::browser::Browser;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::{free_port, wait_for};

const SOON: Duration = Duration::from_secs(20);
/// An agent's name that would run as a script if it ever became markup.
const HOSTILE: &str = "<img src=x onerror=window.pwned=1>";

/// Fires for every agent that reports.
const ANY_CPU: &str = "[[alert.rules]]\nname = \"any-cpu\"\ntype = \"threshold\"\n\
    metric = \"cpu.usage\"\noperator = \"greater_equal\"\nvalue = 0.0\nduration_secs = 0\n\
    severity = \"critical\"\n";

type Reply = ureq::http::Response<ureq::Body>;

/// A request with headers, answered as it came: not unpacked, an error status no error.
fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Reply {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    config.new_agent().run(request.body(()).unwrap()).expect("the server answers")
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn files_come_with_their_types_tags_and_a_policy_that_lets_nothing_else_in() {
    let server = Server::start("");
    let files = [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
    ];
    for (path, content_type) in files {
        let url = format!("{}{path}", server.url());
        let plain = [("Accept-Encoding", "identity")];
        let mut whole = request("GET", &url, &plain);
        assert_eq!((whole.status().as_u16(), header(&whole, "Content-Type")), (200, content_type));
        assert_eq!(header(&whole, "X-Content-Type-Options"), "nosniff", "{path}");
        assert_eq!(header(&whole, "X-Frame-Options"), "DENY", "{path}");
        assert_eq!(header(&whole, "Referrer-Policy"), "no-referrer", "{path}");
        assert_eq!(header(&whole, "Content-Encoding"), "", "{path}");
        let policy = header(&whole, "Content-Security-Policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = header(&whole, "ETag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 10, "{path}: {tag}");
        let text = whole.body_mut().read_to_string().unwrap();

        let again = request("GET", &url, &[("If-None-Match", tag.as_str())]);
        assert_eq!((again.status().as_u16(), header(&again, "ETag")), (304, tag.as_str()));
        let mut other = request("GET", &url, &[("If-None-Match", "\"other\"")]);
        assert_eq!(other.status().as_u16(), 200, "{path}");
        // The client unpacks what comes packed: the same text, by whichever way.
        assert_eq!(other.body_mut().read_to_string().unwrap(), text, "{path}");
        let mut head = request("HEAD", &url, &plain);
        assert_eq!((head.status().as_u16(), header(&head, "ETag")), (200, tag.as_str()));
        assert_eq!(head.body_mut().read_to_vec().unwrap(), b"", "{path}");
        assert_eq!(request("DELETE", &url, &[]).status().as_u16(), 405, "{path}");
    }
    assert_eq!(request("GET", &format!("{}/no.js", server.url()), &[]).status().as_u16(), 404);
}

#[test]
fn files_go_packed_to_whoever_takes_gzip() {
    let server = Server::start("");
    let fetch = |coding: &str| {
        let out = std::process::Command::new("curl")
            .args(["-sS", "-H", &format!("Accept-Encoding: {coding}")])
            .arg(format!("{}/chart.js", server.url()))
            .output()
            .expect("curl runs");
        out.stdout
    };
    let (plain, packed) = (fetch("identity"), fetch("gzip"));
    assert_eq!(packed[..2], [0x1f, 0x8b], "gzip's first bytes");
    assert!(packed.len() * 2 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
}

#[test]
fn the_document_of_the_api_holds_no_file() {
    let server = Server::start("");
    let document = server.call_as(None, "GET", "/v1/openapi.json", None).body;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/dashboard/agents"));
    assert!(!paths.contains_key("/") && !paths.contains_key("/app.js"), "{:?}", paths.keys());
}

#[test]
fn one_request_gives_every_agent_with_its_main_values() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    let at = now_ms();
    let values = [("cpu.usage", 12.5), ("memory.used_percent", 40.0), ("load.load_1", 0.25)];
    assert!(client.report(&batch("web-01", at, &values)).unwrap().success);
    let mut disks =
        batch("web-01", at, &[("disk.used_percent", 30.0), ("disk.used_percent", 91.5)]);
    for (point, mount) in disks.data_points.iter_mut().zip(["/", "/data"]) {
        point.labels.insert("mount".into(), mount.into());
    }
    assert!(client.report(&disks).unwrap().success);
    assert!(client.report(&batch("db-02", at, &[("other.metric", 1.0)])).unwrap().success);
    server.post("/v1/agents/whitelist", json!({"agent_id": "new-03"}));

    let answer = server.call("GET", "/v1/dashboard/agents?limit=2&offset=1", None);
    assert_eq!((answer.status, answer.total), (200, Some(3)));
    let ids: Vec<&Value> =
        answer.data().as_array().unwrap().iter().map(|row| &row["agent_id"]).collect();
    assert_eq!(ids, ["new-03", "web-01"]);
    let silent = &answer.data()[0];
    assert_eq!((&silent["status"], &silent["last_seen"]), (&json!("unknown"), &Value::Null));

    let found = server.get("/v1/dashboard/agents?agent_id__contains=web");
    let row = &found[0];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(row["status"], "active");
    let shown = [&row["cpu_percent"], &row["memory_percent"], &row["disk_percent"], &row["load_1"]];
    assert_eq!(shown, [&json!(12.5), &json!(40.0), &json!(91.5), &json!(0.25)]);
    assert_eq!(row["disk_mount"], "/data");
    assert_eq!(server.call("GET", "/v1/dashboard/agents?limit=x", None).status, 400);
    assert_eq!(server.call_as(None, "GET", "/v1/dashboard/agents", None).status, 401);
}

fn log_in(browser: &Browser, name: &str, password: &str) {
    browser.wait("document.querySelector('input[name=username]')");
    browser.eval("document.querySelector('form').reset()");
    browser.type_into("input[name=username]", name);
    browser.type_into("input[name=password]", password);
    browser.click("form button");
}

/// Expressions of the page.
const ROW: &str = "[...document.querySelectorAll('tbody tr')].find((row) => \
    row.querySelector('.dot ~ a')?.textContent === 'web-01')";
const DRAWN: &str = "document.querySelectorAll('.series .line, .series circle').length";

#[test]
fn a_person_logs_in_finds_an_agent_looks_at_its_charts_and_acknowledges_its_alert() {
    let mut server = Server::start(ANY_CPU);
    let Some(browser) = Browser::start() else { return };
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let mut hostile = batch(HOSTILE, now_ms(), &[("cpu.usage", 1.0)]);
    hostile.data_points[0].labels.insert("core".into(), HOSTILE.into());
    assert!(Client::to(server.grpc_port).report(&hostile).unwrap().success);

    browser.open(&server.url());
    log_in(&browser, "admin", "changeme");
    browser.wait("location.hash === '#/password'");
    browser.click("nav a");
    browser.wait("document.querySelector('#hint:not([hidden])')");
    browser.wait(&format!("/^\\d+\\.\\d %/.test({ROW}?.children[2].innerText)"));
    let row = browser.eval(&format!("return {ROW}.innerText"));
    let memory = server.get("/v1/agents/web-01/latest");
    let has_memory = |row: &&Value| row["metric_name"] == "memory.used_percent";
    assert!(memory.as_array().unwrap().iter().any(|row| has_memory(&row)), "{memory}");
    assert_eq!(row.as_str().unwrap().matches(" %").count(), 3, "CPU, memory, disk: {row}");
    browser.wait("document.querySelector('.tile strong').innerText === '2 of 2'");

    // The hostile name is text, in the table and on its own page.
    assert!(browser.text("main").contains(HOSTILE), "{}", browser.text("main"));
    assert_eq!(browser.eval("return document.querySelectorAll('main img').length"), 0);
    browser.eval(&format!(
        "[...document.querySelectorAll('td a')].find((a) => a.textContent === '{HOSTILE}').click()"
    ));
    browser.wait(&format!("document.querySelector('h1')?.textContent === '{HOSTILE}'"));
    browser.wait(&format!("{DRAWN} > 0"));
    assert!(browser.text(".legend").contains(HOSTILE), "{}", browser.text(".legend"));
    assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null);

    browser.eval("location.hash = '#/agents/web-01'");
    browser.wait("document.querySelector('h1')?.textContent === 'web-01'");
    browser.wait(&format!("{DRAWN} >= 8"));
    let charts = browser.eval(
        "return [...document.querySelectorAll('.chart:not([hidden])')].map((chart) => \
         [chart.querySelector('h3').textContent, chart.querySelectorAll('.series').length, \
          chart.querySelector('svg').getAttribute('aria-label')])",
    );
    let charts = charts.as_array().unwrap();
    assert!(charts.len() >= 5, "{charts:?}");
    for chart in charts {
        assert!(chart[1].as_u64() > Some(0), "no series in {chart}");
        assert!(chart[2].as_str().unwrap().contains("newest"), "{chart}");
    }
    browser.click(".ranges button:nth-child(4)");
    browser.wait(&format!("{DRAWN} >= 8"));

    browser.click("td.act button");
    browser.wait("document.querySelector('main').innerText.includes('acknowledged')");
    let active = server.get("/v1/alerts/active");
    let mine = active.as_array().unwrap().iter().find(|event| event["agent_id"] == "web-01");
    assert_eq!(mine.unwrap()["status"], 2, "{active}");
    browser.eval("location.hash = '#/alerts'");
    browser.wait("document.querySelector('main').innerText.includes('acknowledged')");

    assert_eq!(browser.console_errors(), Vec::<String>::new());
    let asked = browser.requests();
    let foreign: Vec<&String> =
        asked.iter().filter(|url| !url.starts_with(&server.url())).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(asked.iter().any(|url| url.contains("/v1/metrics/range")), "{asked:?}");
}

#[test]
fn what_goes_wrong_is_said_in_words_and_a_session_that_is_over_asks_for_a_login() {
    let mut server = Server::start(ANY_CPU);
    let Some(browser) = Browser::start() else { return };
    let values = [("cpu.usage", 7.5)];
    let report = batch("web-01", now_ms(), &values);
    assert!(Client::to(server.grpc_port).report(&report).unwrap().success);
    server.post("/v1/users", json!({"username": "eve", "password": "only looking"}));
    wait_for("the alert", SOON, || {
        server.get("/v1/alerts/active").as_array().filter(|list| !list.is_empty()).cloned()
    });

    browser.open(&format!("{}/#/alerts", server.url()));
    log_in(&browser, "eve", "a wrong one");
    browser.wait("document.querySelector('form .notice:not([hidden])')");
    assert!(browser.text("form .notice").contains("password is wrong"));
    log_in(&browser, "eve", "only looking");
    browser.wait("document.querySelector('main').innerText.includes('any-cpu')");
    // A viewer sees alerts and is offered no button that would be refused.
    assert_eq!(browser.eval("return document.querySelectorAll('.act button').length"), 0);

    browser.eval("location.hash = '#/password'");
    browser.wait("document.querySelector('[name=current-password]')");
    browser.type_into("[name=current-password]", "only looking");
    browser.type_into("label:nth-of-type(2) input", "a longer look");
    browser.type_into("label:nth-of-type(3) input", "another");
    browser.click("form button");
    browser.wait("document.querySelector('form .notice').innerText.includes('differ')");
    browser.eval("document.querySelector('label:nth-of-type(3) input').value = ''");
    browser.type_into("label:nth-of-type(3) input", "a longer look");
    browser.click("form button");
    browser.wait("document.querySelector('form')?.innerText.includes('is changed')");
    log_in(&browser, "eve", "a longer look");
    browser.wait(&format!("{ROW} && sessionStorage.length === 1"));

    // The login ends while the page is open; the page comes back after a new one.
    browser.eval("location.hash = '#/agents/web-01'");
    browser.wait("document.querySelector('h1')?.textContent === 'web-01'");
    browser.eval("sessionStorage.setItem('oxmon.session', '{\"token\": \"stale\"}')");
    browser.click(".ranges button");
    browser.wait("document.querySelector('form')?.innerText.includes('session has expired')");
    log_in(&browser, "eve", "a longer look");
    browser.wait("document.querySelector('h1')?.textContent === 'web-01'");

    assert_eq!(server.stop().code(), Some(0));
    browser.click(".ranges button");
    browser.wait("document.querySelector('#notice').innerText.includes('does not answer')");
    server.restart();
    browser.click(".ranges button");
    browser.wait("document.querySelector('#notice').hidden");
}

#[test]
fn certificates_are_listed_with_what_is_wrong() {
    let mut server = Server::start("");
    let Some(browser) = Browser::start() else { return };
    let port = free_port();
    let domain = server.post("/v1/certs/domains", json!({"domain": "localhost", "port": port}));
    let id = domain["id"].as_str().unwrap();
    let check = server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
    let error = check["error"].as_str().expect("nothing listens there");

    browser.open(&format!("{}/#/certs", server.url()));
    log_in(&browser, "admin", "changeme");
    browser.wait("location.hash === '#/password'");
    browser.eval("location.hash = '#/certs'");
    browser.wait("document.querySelector('tbody .badge')?.innerText === 'invalid'");
    let row = browser.text("tbody tr");
    assert!(row.contains(&format!("localhost:{port}")), "{row}");
    assert!(row.contains(error), "{row} does not say: {error}");
    browser.click("nav a");
    browser.wait("document.querySelector('main').innerText.includes('valid; 1 invalid')");
}
