//! Every page with names that are made to break it: looked at by axe in both themes and three
//! sizes, and walked through by keyboard alone.

use serde_json::{Value, json};

use super::{HOSTILE, log_in};
use crate::support::browser::Browser;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;

/// Pages, with what of each is there once it is drawn.
const PAGES: &[(&str, &str)] = &[
    ("#/", "tbody tr"),
    ("#/agents/HOST", ".series .line, .series circle"),
    ("#/alerts", "tbody tr"),
    ("#/alerts/history", "tbody tr"),
    ("#/alert/EVENT", ".facts"),
    ("#/rules", "tbody tr"),
    ("#/rules/new", "form [name=operator]"),
    ("#/rules/RULE", "form [name=operator]"),
    ("#/channels", "tbody tr"),
    ("#/channels/new", "form [name=recipients]"),
    ("#/channels/CHANNEL", "form [name=recipients]"),
    ("#/silences", "tbody tr"),
    ("#/explore?q=avg%20by%20(agent)%20(oxmon_cpu_usage)", "tbody tr"),
    ("#/certs", "tbody tr"),
    ("#/certs/localhost", ".table"),
    ("#/system/deliveries", "tbody tr"),
    ("#/system/storage", ".facts"),
    ("#/system/audit", "tbody tr"),
    ("#/system/users", "tbody tr"),
    ("#/system/tokens", "tbody tr"),
    ("#/system/config", "tbody tr"),
    ("#/password", "form"),
];

/// Dialogs: the page, the button that opens each, and what of it is there once it is drawn.
const DIALOGS: &[(&str, &str, &str)] = &[
    ("#/", "Add a host", "[name=id]"),
    ("#/agents/HOST", "Edit", "[name=display_name]"),
    ("#/agents/HOST", "Silence…", "[name=starts_at]"),
    ("#/agents/HOST", "Remove host", "[name=points]"),
    ("#/agents/HOST", "Own range…", "[name=from]"),
    ("#/alert/EVENT", "Acknowledge", "[name=comment]"),
    ("#/rules", "Stock rules…", "[type=checkbox]"),
    ("#/channels", "Test", "p.bad"),
    ("#/channels", "Delete", "button.danger"),
    ("#/silences", "New silence", "[name=starts_at]"),
    ("#/silences", "Recurring silence…", "[name=recurrence]"),
    ("#/certs", "Add domains", "[name=domains]"),
    ("#/system/users", "New user", "[name=username]"),
    ("#/system/tokens", "New API token", "[name=name]"),
];
const SIZES: [(u32, u32); 3] = [(1280, 900), (800, 1000), (390, 844)];

/// A name of 120 letters without a space, as long as a host's name may be here.
fn long_name() -> String {
    "w".repeat(120)
}

const CHINESE: &str = "数据库主机-北京-一号";

/// A server with hosts, alerts and everything else under such names.
fn furnished() -> Server {
    let rule = format!("{}{}", "[[alert.rules]]\nname = ", json!(format!("{HOSTILE} {CHINESE}")));
    let rule = format!(
        "{rule}\ntype = \"threshold\"\nmetric = \"cpu.usage\"\noperator = \"greater_equal\"\n\
         value = 0.0\nduration_secs = 0\nseverity = \"critical\"\n"
    );
    let mut server = Server::start(&rule);
    let client = Client::to(server.grpc_port);
    for name in [HOSTILE, &long_name(), CHINESE] {
        for back in [60_000, 30_000, 0] {
            let mut points = batch(name, now_ms() - back, &[("cpu.usage", 95.0), ("odd", 1.0)]);
            points.data_points[1].labels.insert("mount".into(), name.into());
            assert!(client.report(&points).unwrap().success);
        }
    }
    let note = format!("{HOSTILE} {CHINESE} {}", "x".repeat(200));
    let domain = json!({"domain": "localhost", "port": 1, "note": note, "enabled": false});
    server.post("/v1/certs/domains", domain);
    let name = format!("{HOSTILE} {CHINESE} {}", "x".repeat(200));
    let dead = format!("http://127.0.0.1:{}/", crate::support::free_port());
    let channel = json!({"name": name, "channel_type": "webhook", "description": name,
                         "config_json": {}, "recipients": [dead]});
    let channel = server.post("/v1/notifications/channels/config", channel);
    let id = channel["id"].as_str().unwrap();
    server.call("POST", &format!("/v1/notifications/channels/{id}/test"), None);
    let silence = json!({"duration_secs": 3600, "agent_pattern": "none", "comment": name});
    server.post("/v1/notifications/silence-windows", silence);
    let rule = json!({"name": format!("{name} own"), "rule_type": "threshold", "metric": "odd",
                      "agent_pattern": "none",
                      "config_json": {"operator": "greater_than", "value": 1}});
    server.post("/v1/alerts/rules", rule);
    let tags = json!({"tags": ["berlin"], "note": note, "display_name": name});
    server.call("PUT", &format!("/v1/agents/{}", long_name()), Some(tags));
    server.post("/v1/users", json!({"username": "x".repeat(64), "password": "a good look"}));
    server.post("/v1/auth/tokens", json!({"name": name, "read_only": true}));
    server
}

/// The addresses of a page: one for each name of a host, or for each alert.
fn addresses(server: &mut Server, page: &str) -> Vec<String> {
    let base = format!("{}/", server.url());
    let of = |rows: Value, name: &str, marker: &str| -> Vec<String> {
        let rows = rows.as_array().unwrap().clone();
        let ids = rows.iter().filter_map(|row| row[name].as_str());
        ids.map(|id| page.replace(marker, &escaped(id))).collect()
    };
    let found = if page.contains("HOST") {
        [HOSTILE, &long_name(), CHINESE].map(|host| page.replace("HOST", &escaped(host))).to_vec()
    } else if page.contains("EVENT") {
        of(server.get("/v1/alerts/active"), "id", "EVENT")
    } else if page.contains("RULE") {
        let mut rules = server.get("/v1/alerts/rules/config");
        rules.as_array_mut().unwrap().retain(|rule| rule["source"] == "api");
        of(rules, "id", "RULE")
    } else if page.contains("CHANNEL") {
        of(server.get("/v1/notifications/channels"), "id", "CHANNEL")
    } else {
        vec![page.to_owned()]
    };
    assert!(!found.is_empty(), "{page}");
    found.iter().map(|page| format!("{base}{page}")).collect()
}

fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A furnished server, once its three alerts fire, and a browser in which somebody is logged in.
fn furnished_and_open() -> Option<(Server, Browser)> {
    let mut server = furnished();
    let browser = Browser::start()?;
    crate::support::wait_for("three alerts", super::SOON, || {
        let active = server.call("GET", "/v1/alerts/active", None);
        (active.total == Some(3)).then_some(())
    });
    browser.open(&server.url());
    browser.wait("document.querySelector('[name=username]')");
    let mut found = Vec::new();
    looked_at(&browser, "the login", &mut found);
    nothing_found(&browser, &found);
    log_in(&browser, "admin", "changeme");
    browser.wait("location.hash === '#/password'");
    Some((server, browser))
}

/// Opens an address from an empty page: otherwise the page before it would stay for a moment.
fn open(browser: &Browser, address: &str) {
    browser.open("about:blank");
    browser.open(address);
}

/// What is wrong with what is shown, in both themes and every size.
fn looked_at(browser: &Browser, page: &str, found: &mut Vec<String>) {
    for (width, height) in SIZES {
        browser.resize(width, height);
        for theme in ["light", "dark"] {
            browser.theme(theme);
            let seen = browser.axe();
            found.extend(seen.iter().map(|it| format!("{page} {width} {theme}: {it}")));
        }
        let wide = "return document.documentElement.scrollWidth - innerWidth";
        let over = browser.eval(wide).as_f64().unwrap_or_default();
        if over > 0.0 {
            found.push(format!("{page} is {over} px wider than {width}"));
        }
    }
    browser.resize(1280, 900);
}

fn nothing_found(browser: &Browser, found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null);
    // The test of a channel that leads nowhere answers 424, which the browser notes by itself.
    let mut errors = browser.console_errors();
    errors.retain(|error| !error.contains("/test - Failed to load resource"));
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn every_page_takes_any_name_and_axe_finds_nothing_in_any_theme_or_size() {
    let Some((mut server, browser)) = furnished_and_open() else { return };
    let mut found: Vec<String> = Vec::new();
    for (page, drawn) in PAGES {
        for address in addresses(&mut server, page) {
            open(&browser, &address);
            browser.wait(&format!("document.querySelector({drawn:?})"));
            looked_at(&browser, &address, &mut found);
        }
    }
    nothing_found(&browser, &found);
}

#[test]
fn every_dialog_takes_any_name_passes_axe_and_gives_the_focus_back() {
    let Some((mut server, browser)) = furnished_and_open() else { return };
    let mut found: Vec<String> = Vec::new();
    for (page, opener, drawn) in DIALOGS {
        let address = addresses(&mut server, page).swap_remove(0);
        open(&browser, &address);
        let button = format!(
            "[...document.querySelectorAll('main button')].find((it) => it.innerText === {opener:?})"
        );
        browser.wait(&button);
        browser.eval(&format!("({button}).focus()"));
        browser.press("\u{e007}");
        browser.wait(&format!("document.querySelector('dialog[open]')?.querySelector({drawn:?})"));
        looked_at(&browser, &format!("{page} {opener}"), &mut found);
        // Escape closes it, and a person is where they were.
        browser.press("\u{e00c}");
        browser.wait("!document.querySelector('dialog[open]')");
        browser.wait(&format!("document.activeElement === {button}"));
    }
    nothing_found(&browser, &found);
}

#[test]
fn every_page_can_be_reached_and_used_by_keyboard_alone() {
    let mut server = furnished();
    let Some(browser) = Browser::start() else { return };
    browser.open(&server.url());
    browser.wait("document.activeElement?.name === 'username'");
    browser.press("admin\u{e004}changeme\u{e007}");
    browser.wait("location.hash === '#/password'");
    // From the start of the page, the tabulator reaches each page's link; enter follows it.
    let links =
        browser.eval("return [...document.querySelectorAll('nav#nav a')].map((a) => a.hash)");
    let links: Vec<String> =
        links.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    for link in &links {
        browser.eval("document.activeElement.blur(); window.scrollTo(0, 0)");
        let mut steps = 0;
        while browser.eval(&format!("return document.activeElement?.hash === {link:?}")) != true
            || browser.eval("return document.activeElement.closest('nav#nav') !== null") != true
        {
            browser.press("\u{e004}");
            steps += 1;
            assert!(steps < 40, "the tabulator does not reach {link}");
        }
        browser.press("\u{e007}");
        browser.wait(&format!("location.hash === {link:?}"));
        // The title of the new page has the focus, so that a screen reader begins there.
        browser.wait("document.activeElement?.tagName === 'H1'");
    }
    // On every page the tabulator stops at everything that can be pressed or filled in.
    let usable = "[...document.querySelectorAll('main button, main a[href], main input, main select, \
                  main textarea, main summary')].filter((it) => !it.disabled && it.checkVisibility())";
    for (page, drawn) in PAGES.iter().filter(|(page, _)| !page.contains("EVENT")) {
        let address = addresses(&mut server, page).swap_remove(0);
        open(&browser, &address);
        browser.wait(&format!("document.querySelector({drawn:?})"));
        browser.eval(
            "window.visited = new Set(); \
             document.addEventListener('focusin', (event) => window.visited.add(event.target))",
        );
        let count = browser.eval(&format!("return {usable}.length")).as_u64().unwrap();
        browser.press(&"\u{e004}".repeat(count as usize + 40));
        let missed = browser.eval(&format!(
            "return {usable}.filter((it) => !window.visited.has(it)).map((it) => it.outerHTML)"
        ));
        assert_eq!(missed, json!([]), "{page}");
    }
}
