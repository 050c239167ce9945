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

    /// Opens an address in a new tab, which is the one that is driven from then on.
    pub fn open_tab(&self, url: &str) {
        let made = self.send("POST", "/window/new", Some(json!({ "type": "tab" })));
        self.send("POST", "/window", Some(json!({ "handle": made["handle"] })));
        self.open(url);
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.send("POST", "/refresh", Some(json!({})));
    }

    /// Goes back, as the browser's button does.
    pub fn back(&self) {
        self.send("POST", "/back", Some(json!({})));
    }

    /// The cookies of the page's address, those that no script sees among them.
    pub fn cookies(&self) -> Value {
        self.send("GET", "/cookie", None)
    }

    /// Gives the window a size.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height });
        self.send("POST", "/window/rect", Some(size));
    }

    /// Shows pages in the dark or the light theme, as if the reader's system asked for it.
    pub fn theme(&self, name: &str) {
        let feature = json!([{ "name": "prefers-color-scheme", "value": name }]);
        let body =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": feature } });
        self.send("POST", "/goog/cdp/execute", Some(body));
    }

    /// Runs a script in each document that is opened from now on, before its own scripts.
    pub fn before_each_page(&self, script: &str) {
        let body = json!({ "cmd": "Page.addScriptToEvaluateOnNewDocument",
                           "params": { "source": script } });
        self.send("POST", "/goog/cdp/execute", Some(body));
    }

    /// The window as a picture: a PNG in base64.
    pub fn screenshot(&self) -> String {
        let png = self.send("GET", "/screenshot", None);
        png.as_str().expect("a picture").to_owned()
    }

    /// Presses keys, wherever the focus is. `\u{e004}` is the tabulator, `\u{e007}` enter.
    pub fn press(&self, keys: &str) {
        let steps: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|way| json!({ "type": way, "value": key })))
            .collect();
        let keyboard = json!([{ "type": "key", "id": "keyboard", "actions": steps }]);
        self.send("POST", "/actions", Some(json!({ "actions": keyboard })));
    }

    /// What axe finds wrong on the page, a line each; nothing where axe is not installed.
    pub fn axe(&self) -> Vec<String> {
        let Some(script) = axe_script() else { return Vec::new() };
        self.eval(&format!("if (!window.axe) {{ {script} }}"));
        let run = "const done = arguments[0]; \
                   const line = (rule) => (it) => [rule.id, it.html.slice(0, 200), \
                   it.failureSummary].join(': '); \
                   axe.run(document, { resultTypes: ['violations'] }).then((found) => \
                   done(found.violations.flatMap((rule) => rule.nodes.map(line(rule)))))";
        let body = json!({ "script": run, "args": [] });
        let found = self.send("POST", "/execute/async", Some(body));
        let lines = found.as_array().expect("a list of violations");
        lines.iter().filter_map(Value::as_str).map(str::to_owned).collect()
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

/// The text of axe-core, which `scripts/setup.sh test` installs; a CI run must have it.
fn axe_script() -> Option<String> {
    let venv = std::env::var_os("OXMON_VENV").map(std::path::PathBuf::from);
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let venv = venv.unwrap_or_else(|| home.join(".cache/oxmon/venv"));
    let path = venv.with_file_name("npm").join("node_modules/axe-core/axe.min.js");
    let script = std::fs::read_to_string(path).ok();
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(script.is_some() || !ci, "axe-core is missing: `scripts/setup.sh test` installs it");
    script
}

/// Nothing but the machine itself has an address for this browser, so that it asks nobody for
/// updates.
fn capabilities(profile: &str) -> Value {
    let own = super::other_address().map_or(String::new(), |ip| format!(", EXCLUDE {ip}"));
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": { "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1280,900",
            format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1{own}"),
            format!("--user-data-dir={profile}"),
        ] },
    } } })
}
