//! The pictures of the README: the dashboard with made-up hosts. `OXMON_WRITE_IMAGES=1` writes them
//! into `docs/img`, in both languages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::log_in;
use crate::support::browser::Browser;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;

const HOSTS: [(&str, f64); 6] = [
    ("backup-01", 8.0),
    ("db-01", 46.0),
    ("db-02", 31.0),
    ("mail-01", 14.0),
    ("web-01", 38.0),
    ("web-02", 83.0),
];
const STEP_MS: i64 = 300_000;
/// Samples of each series: a day's.
const SAMPLES: i64 = 288;

const RULE: &str = "aggregation_window_secs = 0\n[[alert.rules]]\nname = \"cpu-high\"\n\
    type = \"threshold\"\nmetric = \"cpu.usage\"\noperator = \"greater_than\"\nvalue = 90.0\n\
    duration_secs = 600\nseverity = \"warning\"\n";

/// A day of one host: waves around its usual load, one peak, disks that fill slowly.
fn report(server: &Server, name: &str, usual: f64) {
    let client = Client::to(server.grpc_port);
    let now = now_ms();
    for at in 0..SAMPLES {
        let (x, left) = (at as f64 / 20.0, SAMPLES - at);
        let wave = usual + 9.0 * (x + usual).sin() + 4.0 * (x * 3.7).cos();
        let cpu = if left < 8 && usual > 80.0 { 97.0 } else { wave.clamp(1.0, 92.0) };
        let values = [
            ("cpu.usage", cpu),
            ("memory.used_percent", 35.0 + usual / 3.0 + 3.0 * (x / 2.0).sin()),
            ("load.load_1", cpu / 22.0),
            ("load.load_5", usual / 24.0 + 0.2 * x.sin()),
            ("load.load_15", usual / 25.0),
            ("network.bytes_recv", (usual + 12.0 * (x * 2.0).sin() + 20.0) * 21_000.0),
            ("network.bytes_sent", (usual + 10.0 * (x * 1.5).cos() + 15.0) * 34_000.0),
            ("disk.used_percent", 41.0 + usual / 9.0),
            ("disk.used_percent", 62.0 + x),
        ];
        let mut points = batch(name, now - (left - 1) * STEP_MS, &values);
        for (point, mount) in points.data_points[7..].iter_mut().zip(["/", "/data"]) {
            point.labels.insert("mount".into(), mount.into());
        }
        assert!(client.report(&points).unwrap().success);
    }
}

#[test]
fn the_readmes_pictures_can_be_made_at_any_time() {
    let mut server = Server::start(RULE);
    let Some(browser) = Browser::start() else { return };
    for (name, usual) in HOSTS {
        report(&server, name, usual);
    }
    for (host, tags) in [("web-01", ["web"]), ("web-02", ["web"]), ("db-01", ["db"])] {
        server.call("PUT", &format!("/v1/agents/{host}"), Some(json!({"tags": tags})));
    }
    server
        .post("/v1/users", json!({"username": "ann", "password": "a good look", "role": "admin"}));
    let hook = json!({"name": "chat", "channel_type": "webhook", "config_json": {},
                      "recipients": ["http://127.0.0.1:1/"]});
    server.post("/v1/notifications/channels/config", hook);
    browser.open(&server.url());
    log_in(&browser, "ann", "a good look");
    browser.wait("document.querySelector('.tile strong')");
    for (name, language) in [("en", "en"), ("zh-CN", "zh-CN")] {
        browser.eval(&format!("localStorage.setItem('oxmon.language', {language:?})"));
        for (picture, hash, drawn) in [
            ("overview", "#/", "tbody tr:nth-child(6)"),
            ("host", "#/agents/web-02?range=24h", ".chart:nth-child(6) .series .line"),
        ] {
            browser.open(&format!("{}/{hash}", server.url()));
            browser.reload();
            browser.wait(&format!("document.querySelector({drawn:?})"));
            let png = BASE64_STANDARD.decode(browser.screenshot()).unwrap();
            assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{} bytes", png.len());
            if std::env::var_os("OXMON_WRITE_IMAGES").is_some() {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/img");
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(format!("{folder}/{picture}.{name}.png"), png).unwrap();
            }
        }
    }
}
