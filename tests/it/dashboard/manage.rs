//! What administrators do from the page: rules, channels, silences, certificates, users, tokens.

use serde_json::{Value, json};

use super::{ANY_CPU, SOON, log_in};
use crate::support::browser::Browser;
use crate::support::endpoint::{Act, Endpoint};
use crate::support::free_port;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

/// A browser in which the administrator has logged in.
pub(super) fn as_admin(server: &Server) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.open(&server.url());
    log_in(&browser, "admin", "changeme");
    browser.wait("location.hash === '#/password'");
    Some(browser)
}

pub(super) fn go(browser: &Browser, hash: &str) {
    browser.eval(&format!("location.hash = {hash:?}"));
    browser.wait(&format!("location.hash === {hash:?}"));
}

/// Presses the first button or link with this text; of several, in the dialog that is open.
pub(super) fn press(browser: &Browser, text: &str) {
    let found = format!(
        "[...(document.querySelector('dialog[open]') ?? document) \
         .querySelectorAll('button, a')].find((it) => it.innerText === {text:?})"
    );
    browser.wait(&found);
    browser.eval(&format!("({found}).click()"));
}

pub(super) fn fill(browser: &Browser, name: &str, text: &str) {
    let css = format!("[name={name}]");
    let field = format!("document.querySelector('dialog[open] {css}, form {css}')");
    browser.wait(&field);
    browser.eval(&format!(
        "const it = {field}; it.value = {text:?}; \
         it.dispatchEvent(new Event('input')); it.dispatchEvent(new Event('change'))"
    ));
}

pub(super) fn says(browser: &Browser, text: &str) {
    browser.wait(&format!("document.body.innerText.includes({text:?})"));
}

/// Samples of an hour that are over 90 in its second half.
pub(super) fn busy_hour(server: &Server) {
    let client = Client::to(server.grpc_port);
    for minute in (0..60).rev() {
        let value = if minute < 30 { 95.0 } else { 10.0 };
        let points = batch("web-01", now_ms() - minute * 60_000, &[("cpu.usage", value)]);
        assert!(client.report(&points).unwrap().success);
    }
}

#[test]
fn rules_are_made_tried_changed_and_removed() {
    let mut server = Server::start("");
    busy_hour(&server);
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/rules");
    says(&browser, "No rule is in force");
    press(&browser, "Stock rules…");
    press(&browser, "Add the selected");
    let stock: Value =
        serde_json::from_str(include_str!("../../../config/rules.stock.json")).unwrap();
    let count = stock["rules"].as_array().unwrap().len();
    browser.wait(&format!("document.querySelectorAll('tbody tr').length === {count}"));
    browser.wait("!document.body.innerText.includes('No rule is in force')");

    press(&browser, "New rule");
    fill(&browser, "name", "busy");
    fill(&browser, "value", "90");
    says(&browser, "Now: 1 hosts (web-01)");
    press(&browser, "Last day");
    says(&browser, "It would have fired 1 times on 1 hosts");
    browser.wait("document.querySelector('.backtest .band-warning')");
    browser.wait("document.querySelector('.backtest .bound')");
    assert_eq!(server.call("GET", "/v1/alerts/rules/busy", None).status, 404, "only tried");
    press(&browser, "Create rule");
    browser.wait("location.hash === '#/rules'");
    let rule = server.get("/v1/alerts/rules/busy");
    let config: Value = serde_json::from_str(rule["config_json"].as_str().unwrap()).unwrap();
    assert_eq!(config, json!({"operator": "greater_than", "value": 90, "duration_secs": 300}));

    go(&browser, &format!("#/rules/{}", rule["id"].as_str().unwrap()));
    fill(&browser, "recovery_value", "95");
    press(&browser, "Save");
    // The server's words, at the field that they are about.
    browser.wait("document.querySelector('[name=recovery_value][aria-invalid]')");
    fill(&browser, "recovery_value", "80");
    press(&browser, "Save");
    browser.wait("location.hash === '#/rules'");
    let rule = server.get("/v1/alerts/rules/busy");
    assert!(rule["config_json"].as_str().unwrap().contains("80"), "{rule}");

    let row = "[...document.querySelectorAll('tbody tr')].find((it) => \
               it.querySelector('b').innerText === 'busy')";
    browser.wait(row);
    browser.eval(&format!("({row}).querySelectorAll('td.act button')[0].click()"));
    browser.wait(&format!("({row})?.innerText.includes('off')"));
    assert_eq!(server.get("/v1/alerts/rules/busy")["enabled"], false);
    browser.eval(&format!("({row}).querySelectorAll('td.act button')[1].click()"));
    press(&browser, "Delete");
    browser.wait(&format!("!({row})"));
    assert_eq!(server.call("GET", "/v1/alerts/rules/busy", None).status, 404);
}

#[test]
fn a_channel_is_made_and_tested_and_an_alert_shows_who_was_notified() {
    let server = Server::start(&format!("aggregation_window_secs = 0\n{ANY_CPU}"));
    let endpoint = Endpoint::start(|_, _| Act::Answer(200, "taken, thank you".to_owned()));
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/channels");
    says(&browser, "No channel is enabled");
    press(&browser, "New channel");
    fill(&browser, "channel_type", "webhook");
    fill(&browser, "name", "hook");
    fill(&browser, "headers", "Authorization=Bearer hush-hush");
    fill(&browser, "recipients", &endpoint.url("/hook"));
    press(&browser, "Create channel");
    browser.wait("location.hash === '#/channels' && document.querySelector('tbody tr')");
    press(&browser, "Test");
    says(&browser, "taken, thank you");
    press(&browser, "×");

    press(&browser, "Edit");
    browser.wait("document.querySelector('[name=headers]')?.value === 'Authorization=***'");
    press(&browser, "Save");
    browser.wait("location.hash === '#/channels'");

    let points = batch("web-01", now_ms(), &[("cpu.usage", 95.0)]);
    assert!(Client::to(server.grpc_port).report(&points).unwrap().success);
    wait_for("the notification", SOON, || (endpoint.requests().len() >= 2).then_some(()));
    go(&browser, "#/alerts");
    browser.wait("document.querySelector('td.wide a')");
    browser.eval("document.querySelector('td.wide a').click()");
    browser.wait("document.querySelector('.facts')");
    browser.wait("document.querySelector('.band-critical')");
    browser.wait("document.querySelector('.table .badge.good')?.innerText === 'delivered'");
    says(&browser, "taken, thank you");
    press(&browser, "Acknowledge");
    fill(&browser, "comment", "looking at it");
    browser.eval("document.querySelector('dialog[open] form [type=submit]').click()");
    says(&browser, "looking at it");
    says(&browser, "acknowledged");
    go(&browser, "#/system/deliveries?status=success");
    browser.wait("document.querySelectorAll('tbody tr').length >= 2");
}

#[test]
fn silences_are_made_for_an_hour_or_for_ever_again_and_ended() {
    let mut server = Server::start("");
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/silences");
    press(&browser, "New silence");
    press(&browser, "4 h from now");
    fill(&browser, "agent_pattern", "tag:web");
    fill(&browser, "comment", "moving racks");
    press(&browser, "Save");
    browser.wait("document.querySelector('tbody .badge')?.innerText === 'active'");
    says(&browser, "moving racks");
    let made = server.get("/v1/notifications/silence-windows")[0].clone();
    assert_eq!((&made["agent_pattern"], &made["created_by"]), (&json!("tag:web"), &json!("admin")));
    assert!(made["ends_at"].is_string() && made["active_until"] == made["ends_at"], "{made}");
    press(&browser, "Recurring silence…");
    press(&browser, "Save");
    browser.wait("document.querySelectorAll('tbody tr').length === 2");
    press(&browser, "End now");
    press(&browser, "End now");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
}

/// The text of the first line to copy in the dialog, after the address was set.
fn line_to_copy(browser: &Browser, server: &Server) -> String {
    fill(browser, "address", &format!("127.0.0.1:{}", server.grpc_port));
    let lines =
        "[...document.querySelectorAll('dialog[open] .copy code')].map((it) => it.innerText)";
    browser.wait(&format!("{lines}.length === 4"));
    let script = browser.eval(&format!("return {lines}.find((it) => it.includes('install.sh'))"));
    // `ship::newcomer` and `ship::install` run such a line.
    let script = script.as_str().unwrap();
    let endpoint =
        format!("install.sh agent --server-endpoint 127.0.0.1:{} --code ", server.grpc_port);
    assert!(script.contains(&endpoint) && script.ends_with(" --setup-systemd"), "{script}");
    let file = browser.eval(&format!("return {lines}.find((it) => it.startsWith('./'))"));
    file.as_str().unwrap().to_owned()
}

#[test]
fn a_host_joins_by_the_line_that_is_shown_and_is_named_tagged_and_removed() {
    let mut server = Server::start("require_agent_auth = true\n");
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/");
    press(&browser, "Add a host");
    fill(&browser, "id", "web-02");
    press(&browser, "Make a code");
    let line = line_to_copy(&browser, &server);
    says(&browser, "Waiting for the host to report");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(crate::support::agent::program(), dir.path().join("oxmon-agent"))
        .unwrap();
    let mut agent = std::process::Command::new("sh")
        .args(["-c", &line.replace("&& ./", "&& exec ./")])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    browser.wait("document.querySelector('.joined.good')?.innerText.includes('web-02')");
    agent.kill().unwrap();
    agent.wait().unwrap();
    press(&browser, "×");

    go(&browser, "#/agents/web-02");
    press(&browser, "Edit");
    fill(&browser, "display_name", "网站二号");
    fill(&browser, "tags", "web\nberlin");
    press(&browser, "Save");
    browser.wait("document.querySelector('h1')?.innerText === '网站二号'");
    let host = server.get("/v1/dashboard/agents?agent_id__contains=web-02")[0].clone();
    assert_eq!(host["tags"], json!(["berlin", "web"]), "{host}");
    // A rule by tag is about the host, as the form says and the backtest shows.
    go(&browser, "#/rules/new");
    fill(&browser, "agent_pattern", "tag:berlin");
    says(&browser, "Now: 1 hosts (web-02)");
    let rule = json!({"rule_type": "threshold", "metric": "cpu.usage", "agent_pattern": "tag:berlin",
                      "config_json": {"operator": "greater_equal", "value": 0}});
    assert_eq!(server.post("/v1/alerts/rules/test", rule)["series_evaluated"], 1);

    go(&browser, "#/?tag=berlin");
    browser.wait("document.querySelector('tbody tr')?.innerText.includes('#berlin')");
    // Tags are groups: each says how many of its hosts report, and shows them alone.
    browser.wait("document.querySelector('.chips a[aria-current]')?.innerText === '#berlin: 1 of 1 reporting'");
    browser.eval("document.querySelector('.chips a:not([aria-current])').click()");
    browser.wait("location.hash === '#/?tag=web'");
    go(&browser, "#/agents/web-02");
    press(&browser, "Remove host");
    fill(&browser, "points", "on");
    browser.eval("document.querySelector('dialog[open] form [type=submit]').click()");
    browser.wait("location.hash === '#/'");
    says(&browser, "No host has reported yet");
}

#[test]
fn promql_is_completed_drawn_and_kept_in_the_address() {
    let server = Server::start("");
    busy_hour(&server);
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/explore");
    browser.wait("document.querySelector('#expression')");
    browser.click("#expression");
    browser.press("max by (agent) (oxmon_cpu_us");
    browser.wait(
        "document.querySelector('#offers:not([hidden]) li')?.innerText === 'oxmon_cpu_usage'",
    );
    browser.press("\u{e015}\u{e007})\u{e007}");
    browser.wait("document.querySelectorAll('.series .line').length > 0");
    browser.wait("document.querySelector('tbody tr')?.innerText.includes('web-01')");
    assert!(browser.eval("return location.hash").as_str().unwrap().contains("oxmon_cpu_usage"));
    browser.reload();
    browser.wait("document.querySelectorAll('.series .line').length > 0");
    browser.eval("const it = document.querySelector('#expression'); it.value = 'sum('; it.focus()");
    browser.press("\u{e007}");
    browser.wait("document.querySelector('main p.bad')?.innerText.length > 0");
}

#[test]
fn certificates_users_and_tokens_are_managed() {
    let mut server = Server::start("");
    let Some(browser) = as_admin(&server) else { return };
    let (one, two) = (free_port(), free_port());
    go(&browser, "#/certs");
    press(&browser, "Add domains");
    fill(&browser, "domains", &format!("localhost:{one}\nlocalhost:{two}"));
    browser.eval("document.querySelector('dialog[open] form [type=submit]').click()");
    browser.wait("document.querySelectorAll('tbody .badge.critical').length === 2");
    says(&browser, "Nothing listens on the port");
    browser.eval("document.querySelector('td.name a').click()");
    browser.wait("document.querySelectorAll('tbody tr').length >= 2");
    let checks = "document.querySelectorAll('section:last-of-type tbody tr').length";
    let before = browser.eval(&format!("return {checks}"));
    press(&browser, "Check now");
    browser.wait(&format!("{checks} > {before}"));

    go(&browser, "#/system/users");
    press(&browser, "New user");
    fill(&browser, "username", "eve");
    fill(&browser, "password", "only looking");
    press(&browser, "Save");
    browser.wait("document.querySelectorAll('tbody tr').length === 2");
    go(&browser, "#/system/tokens");
    press(&browser, "New API token");
    fill(&browser, "name", "wall");
    press(&browser, "Make token");
    browser.wait("document.querySelectorAll('dialog[open] .copy code').length === 2");
    let link = browser.eval("return document.querySelectorAll('.copy code')[1].innerText");
    browser.open_tab(link.as_str().unwrap());
    browser.wait("document.querySelector('.tile strong')");
    let users = server.get("/v1/users");
    assert!(users.as_array().unwrap().iter().any(|it| it["username"] == "eve"), "{users}");

    // A viewer is offered nothing that would be refused.
    browser.eval("sessionStorage.clear(); localStorage.clear()");
    browser.open(&format!("{}/#/system", server.url()));
    browser.reload();
    log_in(&browser, "eve", "only looking");
    browser.wait("document.querySelectorAll('.tabs a').length === 3");
    for page in ["#/rules", "#/channels", "#/silences", "#/certs"] {
        go(&browser, page);
        browser.wait("document.querySelector('main .table, main .empty')");
        assert_eq!(browser.eval("return document.querySelectorAll('.head button').length"), 0);
        assert_eq!(browser.eval("return document.querySelectorAll('td.act').length"), 0);
    }
}
