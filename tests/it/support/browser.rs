//! A headless Chromium, driven as a person would through the W3C WebDriver protocol.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{free_port, wait_for};

const SOON: Duration = Duration::from_secs(30);
/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with a fresh profile. Dropping it ends it and its driver.
pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser; `None`, said loudly, where there is none outside of CI.
    pub fn start() -> Option<Self> {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(driver) = driver else {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "chromedriver is missing: `scripts/setup.sh test` installs it");
            eprintln!("SKIPPED: chromedriver is missing; `scripts/setup.sh test` installs it");
            return None;
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let profile = tempfile::tempdir().expect("a temporary folder");
        let url = format!("http://127.0.0.1:{port}");
        let mut browser = Self { driver, session: url.clone(), agent, _profile: profile };
        wait_for("the browser's driver", SOON, || {
            browser.try_send("GET", "/status", None).filter(|status| status["ready"] == true)
        });
        let wanted = capabilities(&browser._profile.path().display().to_string());
        let made = browser.send("POST", "/session", Some(wanted));
        browser.session = format!("{url}/session/{}", made["sessionId"].as_str().expect("an id"));
        Some(browser)
    }

    pub fn open(&self, url: &str) {
        self.send("POST", "/url", Some(json!({ "url": url })));
    }

    /// What a function's body returns in the page.
    pub fn eval(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", Some(json!({ "script": script, "args": [] })))
    }

    /// Waits until an expression is true in the page.
    pub fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        let deadline = Instant::now() + SOON;
        while self.eval(&script) != true {
            let late = Instant::now() > deadline;
            assert!(!late, "{expression} stays false; the page:\n{}", self.text("body"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The text of the first element, as it is shown.
    pub fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({css:?})?.innerText ?? ''");
        self.eval(&script).as_str().unwrap_or_default().to_owned()
    }

    pub fn click(&self, css: &str) {
        self.send("POST", &format!("/element/{}/click", self.find(css)), Some(json!({})));
    }

    /// Types into a field after what is in it.
    pub fn type_into(&self, css: &str, text: &str) {
        let path = format!("/element/{}/value", self.find(css));
        self.send("POST", &path, Some(json!({ "text": text })));
    }

    fn find(&self, css: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = self.send("POST", "/element", Some(wanted));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no element {css}")).to_owned()
    }

    /// Errors in the console since the last call.
    pub fn console_errors(&self) -> Vec<String> {
        let severe = |entry: &&Value| entry["level"] == "SEVERE";
        let log = self.log("browser");
        log.iter().filter(severe).map(|entry| entry["message"].to_string()).collect()
    }

    /// Every address on the network that was asked for since the last call; what the browser has
    /// in itself, such as its page for a new tab, is left out.
    pub fn requests(&self) -> Vec<String> {
        let log = self.log("performance");
        let events = log.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let sent = event["method"] == "Network.requestWillBeSent";
            sent.then(|| event["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        events.filter(|url| url.starts_with("http") || url.starts_with("ws")).collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.send("POST", "/se/log", Some(json!({ "type": kind })));
        log.as_array().expect("a log").clone()
    }

    fn send(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.try_send(method, path, body).expect("the driver answers");
        assert!(answer["error"].is_null(), "{method} {path}: {answer}");
        answer
    }

    /// `value` of the driver's answer.
    fn try_send(&self, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
        let url = format!("{}{path}", self.session);
        let request = ureq::http::Request::builder().method(method).uri(url);
        let sent = match body {
            Some(body) => self.agent.run(request.body(body.to_string()).ok()?),
            None => self.agent.run(request.body(()).ok()?),
        };
        let text = sent.ok()?.body_mut().with_config().limit(64 << 20).read_to_string().ok()?;
        let mut answer: Value = serde_json::from_str(&text).ok()?;
        Some(answer["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.try_send("DELETE", "", None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Nothing but loopback has an address for this browser, so that it asks nobody for updates.
fn capabilities(profile: &str) -> Value {
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": { "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1280,900",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            format!("--user-data-dir={profile}"),
        ] },
    } } })
}
