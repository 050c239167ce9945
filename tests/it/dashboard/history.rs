//! What a person looks at after an alert: the history with its filters, the processes of the
//! moment, and what a rule in PromQL would have done.

use std::time::Duration;

use serde_json::{Value, json};

use super::manage::{as_admin, busy_hour, fill, go, press, says};
use super::{ANY_CPU, SOON};
use crate::support::agent::Agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

/// The number of rows of the page's table.
const ROWS: &str = "document.querySelectorAll('main tbody tr').length";

#[test]
fn the_history_is_filtered_by_host_rule_metric_severity_and_state() {
    let rule = |name: &str, metric: &str, severity: &str| {
        format!(
            "[[alert.rules]]\nname = \"{name}\"\ntype = \"threshold\"\nmetric = \"{metric}\"\n\
             operator = \"greater_than\"\nvalue = 90.0\nduration_secs = 0\nseverity = \"{severity}\"\n"
        )
    };
    let rules =
        rule("hot cpu", "cpu.usage", "critical") + &rule("full", "memory.used_percent", "warning");
    let mut server = Server::start(&rules);
    let client = Client::to(server.grpc_port);
    let at = now_ms() - 60_000;
    for (host, cpu, memory) in [("web-01", 95.0, 95.0), ("db-01", 95.0, 10.0)] {
        let values = [("cpu.usage", cpu), ("memory.used_percent", memory)];
        assert!(client.report(&batch(host, at, &values)).unwrap().success);
    }
    // One recovers: an event of its own.
    assert!(client.report(&batch("db-01", at + 10_000, &[("cpu.usage", 5.0)])).unwrap().success);
    wait_for("four events", SOON, || {
        let history = server.call("GET", "/v1/alerts/history?limit=0", None);
        (history.total == Some(4)).then_some(())
    });
    let Some(browser) = as_admin(&server) else { return };
    for (query, rows) in [
        ("", 4),
        ("?host=web", 2),
        ("?rule=hot", 3),
        ("?metric=memory.used_percent", 1),
        ("?severity=warning", 1),
        ("?state=3", 2),
        ("?rule=hot&state=1&host=web", 1),
        ("?rule=nothing", 0),
    ] {
        go(&browser, &format!("#/alerts/history{query}"));
        browser.wait(&format!(
            "document.querySelector('h1')?.innerText === 'Alerts' && {ROWS} === {rows} && \
             ({rows} > 0 || document.querySelector('.empty:not([hidden])'))"
        ));
    }
    // By hand too, with what is known offered.
    go(&browser, "#/alerts/history");
    browser.wait("document.querySelector('[name=rule]')?.list?.options.length === 2");
    browser.eval(
        "const it = document.querySelector('[name=state]'); it.value = '3'; \
         it.dispatchEvent(new Event('change'))",
    );
    browser.wait(&format!("{ROWS} === 2"));
    browser.wait("location.hash.includes('state=3')");
    go(&browser, "#/alerts?state=1&severity=critical");
    browser.wait(&format!("{ROWS} === 1"));
    // What fires and what recovers leaves a line in the log.
    let log = server.log();
    for line in [
        "alert firing, critical: cpu.usage on db-01 is 95",
        "alert resolved, critical: cpu.usage on db-01",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
    let wrong = server.call("GET", "/v1/alerts/history?status__eq=firing", None);
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

#[test]
fn an_alert_shows_the_processes_of_its_moment() {
    let mut server = Server::start(ANY_CPU);
    let _agent = Agent::start("web-01", server.grpc_port, "");
    let id = wait_for("an alert with processes", Duration::from_secs(60), || {
        let active = server.get("/v1/alerts/active");
        let id = active[0]["id"].as_str()?.to_owned();
        let event = server.get(&format!("/v1/alerts/history/{id}"));
        event["processes"]["processes"].as_array().filter(|all| !all.is_empty())?;
        Some(id)
    });
    let event = server.get(&format!("/v1/alerts/history/{id}"));
    let most = event["processes"]["processes"].as_array().unwrap().iter();
    let most: &Value =
        most.max_by_key(|it| (it["cpu_percent"].as_f64().unwrap() * 100.0) as u64).unwrap();
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, &format!("#/alert/{id}"));
    says(&browser, "Processes that used the most");
    let who = format!("pid {}, user {}", most["pid"], most["user"].as_str().unwrap());
    // The one with the most CPU comes first, since that is what the alert is about.
    let first = "document.querySelector('section:not([hidden]) tbody tr td.name')?.innerText";
    browser.wait(&format!("{first}?.includes({who:?})"));
    browser.wait(&format!("{first}?.includes({:?})", most["name"].as_str().unwrap()));
    assert_eq!(browser.console_errors(), Vec::<String>::new());
}

#[test]
fn a_rule_in_promql_is_tried_on_a_chart_and_its_alert_has_one() {
    let mut server = Server::start("");
    busy_hour(&server);
    let Some(browser) = as_admin(&server) else { return };
    go(&browser, "#/rules/new");
    fill(&browser, "rule_type", "promql");
    fill(&browser, "name", "hot");
    fill(&browser, "expr", "max by (agent) (oxmon_cpu_usage) > 90");
    press(&browser, "Last day");
    says(&browser, "It would have fired 1 times on 1 hosts");
    // What is compared is drawn, with the number that it is compared with.
    browser.wait("document.querySelector('.backtest .chart h3')?.innerText === 'max by (agent) (oxmon_cpu_usage)'");
    browser.wait("document.querySelectorAll('.backtest .series .line').length === 1");
    browser.wait("document.querySelector('.backtest .bound')");
    browser.wait("document.querySelector('.backtest .band-warning')");
    fill(&browser, "interval_secs", "1");
    fill(&browser, "duration_secs", "0");
    press(&browser, "Create rule");
    browser.wait("location.hash === '#/rules'");
    let id = wait_for("the alert", SOON, || {
        server.get("/v1/alerts/active")[0]["id"].as_str().map(str::to_owned)
    });
    go(&browser, &format!("#/alert/{id}"));
    browser.wait("document.querySelector('main .chart .bound')");
    browser.wait("document.querySelectorAll('main .chart .series .line').length === 1");
    let expr = json!("max by (agent) (oxmon_cpu_usage)");
    assert_eq!(browser.eval("return document.querySelector('main .chart h2').innerText"), expr);
}
