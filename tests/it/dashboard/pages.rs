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
    ("#/channels", "tbody tr"),
    ("#/channels/new", "form [name=recipients]"),
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
    server.post("/v1/users", json!({"username": "x".repeat(64), "password": "a good look"}));
    server.post("/v1/auth/tokens", json!({"name": name, "read_only": true}));
    server
}

fn page_address(server: &Server, page: &str, host: &str) -> String {
    let host = host.replace('<', "%3C").replace('>', "%3E").replace(' ', "%20").replace('=', "%3D");
    format!("{}/{}", server.url(), page.replace("HOST", &host))
}

#[test]
fn every_page_takes_any_name_and_axe_finds_nothing_in_any_theme_or_size() {
    let mut server = furnished();
    let Some(browser) = Browser::start() else { return };
    let event = crate::support::wait_for("an alert", super::SOON, || {
        server.get("/v1/alerts/active")[0]["id"].as_str().map(str::to_owned)
    });
    browser.open(&server.url());
    log_in(&browser, "admin", "changeme");
    browser.wait("location.hash === '#/password'");
    let long = long_name();
    let mut found: Vec<String> = Vec::new();
    for (page, drawn) in PAGES {
        let hosts: &[&str] =
            if page.contains("HOST") { &[HOSTILE, &long, CHINESE] } else { &[HOSTILE] };
        for host in hosts {
            browser.open(&page_address(&server, &page.replace("EVENT", &event), host));
            browser.wait(&format!("document.querySelector({drawn:?})"));
            for (width, height) in [(1280, 900), (800, 1000), (390, 844)] {
                browser.resize(width, height);
                for theme in ["light", "dark"] {
                    browser.theme(theme);
                    let seen = browser.axe();
                    found.extend(seen.iter().map(|it| format!("{page} {width} {theme}: {it}")));
                }
                let wide = "return document.documentElement.scrollWidth - innerWidth";
                let over = browser.eval(wide).as_f64().unwrap_or_default();
                if over > 0.0 {
                    found.push(format!("{page} of {host} is {over} px wider than {width}"));
                }
            }
            browser.resize(1280, 900);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null);
    assert_eq!(browser.console_errors(), Vec::<String>::new());
}

#[test]
fn every_page_can_be_reached_and_used_by_keyboard_alone() {
    let server = furnished();
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
        // Whatever can be pressed can be reached: nothing has a positive or a removed tab index.
        let lost = "return [...document.querySelectorAll('main button, main a, main input, \
                    main select')].filter((it) => it.tabIndex !== 0).length";
        assert_eq!(browser.eval(lost), 0, "{link}");
    }
}
