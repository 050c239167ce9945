//! The dashboard: its files over HTTP, and its pages in a real browser on a real server and agent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::browser::Browser;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::{free_port, wait_for};

mod fleet;
mod history;
mod manage;
mod pages;
mod picture;

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
    browser.click("form button[type=submit]");
}

/// Expressions of the page.
const ROW: &str = "[...document.querySelectorAll('tbody tr')].find((row) => \
    row.querySelector('.dot ~ a')?.textContent === 'web-01')";
const DRAWN: &str = "document.querySelectorAll('.series .line, .series circle').length";

/// Charts of a group are fetched and drawn once it is open, and not before.
fn groups_open_and_draw(browser: &Browser) {
    let drawn = "document.querySelectorAll('details.group .chart:not([hidden]) .series').length";
    assert_eq!(browser.eval(&format!("return {drawn}")), 0);
    let before = browser.requests().iter().any(|url| url.contains("cpu.iowait"));
    assert!(!before, "a closed group is fetched");
    browser.click("details.group:not([hidden]) summary");
    browser.wait(&format!("{drawn} > 0"));
    browser.click("details.group[open] summary");
    browser.wait("!document.querySelector('details.group[open]')");
}

fn range_is_in_the_address(browser: &Browser) {
    browser.click(".ranges button:nth-child(4)");
    browser.wait("location.hash === '#/agents/web-01?range=7d'");
    browser.wait(&format!("{DRAWN} >= 8"));
    // A reload keeps the range, and Back returns to the one before.
    browser.reload();
    browser.wait("document.querySelector('.ranges [aria-pressed=true]')?.innerText === '7 d'");
    browser.back();
    browser.wait("document.querySelector('.ranges [aria-pressed=true]')?.innerText === '1 h'");
    browser.wait(&format!("{DRAWN} >= 8"));
}

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
         [chart.querySelector('h2').textContent, chart.querySelectorAll('.series').length, \
          chart.querySelector('svg').getAttribute('aria-label')])",
    );
    let charts = charts.as_array().unwrap();
    assert!(charts.len() >= 5, "{charts:?}");
    for chart in charts {
        assert!(chart[1].as_u64() > Some(0), "no series in {chart}");
        assert!(chart[2].as_str().unwrap().contains("newest"), "{chart}");
    }
    groups_open_and_draw(&browser);
    range_is_in_the_address(&browser);

    browser.click("td.act button");
    browser.wait("document.querySelector('dialog[open] textarea')");
    browser.click("dialog button[type=submit]");
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
    browser.wait("document.querySelector('[name=current_password]')");
    browser.type_into("[name=current_password]", "not this one");
    browser.type_into("[name=new_password]", "a longer look");
    browser.type_into("[name=again]", "another");
    browser.click("form button[type=submit]");
    browser.wait("document.querySelector('form .notice').innerText.includes('differ')");
    browser.eval("document.querySelector('[name=again]').value = ''");
    browser.type_into("[name=again]", "a longer look");
    // A wrong current password says so, and signs nobody out.
    browser.click("form button[type=submit]");
    browser.wait("document.querySelector('form .notice').innerText.includes('password is wrong')");
    browser.eval("document.querySelector('[name=current_password]').value = ''");
    browser.type_into("[name=current_password]", "only looking");
    browser.click("form button[type=submit]");
    browser.wait("document.querySelector('main')?.innerText.includes('is changed')");
    log_in(&browser, "eve", "a longer look");
    browser.wait(ROW);
    // The session's token is where no script can read it.
    let kept = browser.eval("return document.cookie + JSON.stringify({...sessionStorage})");
    assert_eq!(kept, "{}");

    // The login ends while the page is open; the page comes back after a new one.
    browser.eval("location.hash = '#/agents/web-01'");
    browser.wait("document.querySelector('h1')?.textContent === 'web-01'");
    let users = server.get("/v1/users");
    let eve = users.as_array().unwrap().iter().find(|user| user["username"] == "eve").unwrap();
    let path = format!("/v1/users/{}/password", eve["id"].as_str().unwrap());
    server.post(&path, json!({"new_password": "an even longer look"}));
    // Unless a refresh has noticed it already.
    browser.eval("document.querySelector('.ranges button')?.click()");
    browser.wait("document.querySelector('main')?.innerText.includes('session has expired')");
    log_in(&browser, "eve", "an even longer look");
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

#[test]
fn a_session_is_kept_by_new_tabs_and_ended_at_the_server() {
    let mut server = Server::start("");
    let Some(browser) = Browser::start() else { return };
    server
        .post("/v1/users", json!({"username": "ann", "password": "a good look", "role": "admin"}));
    browser.open(&server.url());
    log_in(&browser, "ann", "a good look");
    browser.wait("document.querySelector('.tile strong')?.innerText === '0 of 0'");
    // Another tab is logged in as well, on whichever page its bookmark names.
    browser.open_tab(&format!("{}/#/alerts?severity=critical", server.url()));
    browser.wait("document.querySelector('h1')?.innerText === 'Alerts'");
    assert_eq!(browser.eval("return document.querySelector('[name=severity]').value"), "critical");
    let cookies = browser.cookies();
    let cookie = cookies.as_array().unwrap().first().expect("a session's cookie").clone();
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Strict")));
    let value =
        format!("{}={}", cookie["name"].as_str().unwrap(), cookie["value"].as_str().unwrap());

    let url = format!("{}/v1/agents", server.url());
    let status = |headers: &[(&str, &str)]| request("GET", &url, headers).status().as_u16();
    let page = ("X-Oxmon-Page", "http");
    assert_eq!(status(&[("Cookie", &value), page]), 200);
    assert_eq!(status(&[("Cookie", &value), page, ("Sec-Fetch-Site", "same-origin")]), 200);
    // What another site's page could have a browser send.
    assert_eq!(status(&[("Cookie", &value)]), 401);
    assert_eq!(status(&[("Cookie", &value), page, ("Sec-Fetch-Site", "cross-site")]), 401);
    assert_eq!(status(&[("Cookie", "oxmon_session_1=x"), page]), 401);

    browser.click("#logout");
    browser.wait("document.querySelector('main').innerText.includes('signed out')");
    assert_eq!(status(&[("Cookie", &value), page]), 401, "the session has ended at the server");
    browser.reload();
    browser.wait("document.querySelector('input[name=username]')");
}

#[test]
fn a_wall_display_needs_no_password_and_can_change_nothing() {
    let mut server = Server::start(ANY_CPU);
    let Some(browser) = Browser::start() else { return };
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let body = json!({"name": "wall", "read_only": true});
    let token = server.post("/v1/auth/tokens", body)["token"].as_str().unwrap().to_owned();
    browser.open(&format!("{}/#/?token={token}", server.url()));
    browser.wait(ROW);
    browser.wait("document.querySelector('main').innerText.includes('any-cpu')");
    assert_eq!(browser.eval("return location.href.includes('token')"), false);
    assert_eq!(browser.eval("return document.querySelectorAll('.act button').length"), 0);
    browser.reload();
    browser.wait(ROW);
    assert_eq!(browser.console_errors(), Vec::<String>::new());
}

#[test]
fn the_page_speaks_the_readers_language() {
    let server = Server::start("");
    let Some(browser) = Browser::start() else { return };
    browser.open(&server.url());
    browser.wait("document.querySelector('h1')?.innerText === 'Log in'");
    browser.click("#who button:last-child");
    browser.wait("document.querySelector('h1')?.innerText === '登录'");
    assert_eq!(browser.eval("return document.documentElement.lang"), "zh-CN");
    log_in(&browser, "admin", "changeme");
    browser.wait("document.querySelector('h1')?.innerText === '修改密码'");
    browser.reload();
    browser.wait("document.querySelector('h1')?.innerText === '修改密码'");
    browser.click("#who button:last-child");
    browser.wait("document.querySelector('h1')?.innerText === 'Change password'");
}

#[test]
fn a_login_from_elsewhere_with_the_default_password_leads_to_its_change_alone() {
    // By the machine's other address the browser is not local to the server.
    let Some(browser) = Browser::start() else { return };
    let Some(address) = crate::support::other_address() else { return };
    let server = Server::start_on(&["127.0.0.1", &address.to_string()]);
    browser.open(&format!("http://{address}:{}/#/alerts", server.http_port));
    log_in(&browser, "admin", "changeme");
    browser.wait("document.querySelector('[name=new_password]')");
    assert_eq!(browser.eval("return document.querySelector('nav').hidden"), true);
    browser.eval("location.hash = '#/alerts'");
    browser.wait("location.hash === '#/alerts'");
    browser.wait("document.querySelector('[name=new_password]')");
    browser.type_into("[name=current_password]", "changeme");
    browser.type_into("[name=new_password]", "a good look");
    browser.type_into("[name=again]", "a good look");
    browser.click("form button[type=submit]");
    browser.wait("document.querySelector('main').innerText.includes('is changed')");
    log_in(&browser, "admin", "a good look");
    browser.wait("document.querySelector('.tile strong')");
    assert_eq!(browser.eval("return document.querySelector('nav').hidden"), false);
}
