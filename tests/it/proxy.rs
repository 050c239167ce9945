//! Proxies: which calls go through one, by the configuration and by the environment, and which
//! never do.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::endpoint::closed_port;
use crate::support::mail_server::MailServer;
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::{signal, wait_for};

const SOON: Duration = Duration::from_secs(30);
const CONFIG: &str = "/v1/notifications/channels/config";

/// A running `tests/fixtures/http_proxy.py`.
struct Proxy {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Proxy {
    fn start(credentials: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/http_proxy.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(dir.path().join("asked")).args(credentials);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, dir, port: line.trim().parse().unwrap() }
    }

    /// What it was asked: `POST http://…` or `CONNECT host:port`.
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        let line = |line: &str| -> String {
            let asked: Value = serde_json::from_str(line).unwrap();
            format!("{} {}", asked["method"].as_str().unwrap(), asked["target"].as_str().unwrap())
        };
        text.lines().map(line).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with these variables in its environment.
fn under(variables: &[(&str, &str)], extra: &str) -> Server {
    let pairs = variables.iter().map(|(name, value)| format!("{name}={value}"));
    let words: Vec<String> = ["env".to_owned()].into_iter().chain(pairs).collect();
    Server::start_under(&words, extra)
}

/// Sends a test message to a new webhook; gives the answer's status and message.
fn call(server: &mut Server, url: &str) -> (u16, String) {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let name = format!("hook-{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let body = json!({"name": name, "channel_type": "webhook", "config_json": {},
                      "recipients": [url]});
    server.post(CONFIG, body);
    let answer = server.call("POST", &format!("/v1/notifications/channels/{name}/test"), None);
    (answer.status, answer.body["err_msg"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_environments_proxies_are_used_by_the_rules_of_curl() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("hook", "DNS:hook.test", 10);
    let (plain, tls) = (Sink::start(), Sink::tls(&pem, &key));
    let (one, other) = (Proxy::start(None), Proxy::start(None));
    let ca = pki.dir.path().join("ca.pem");
    let variables = [
        ("http_proxy", format!("http://127.0.0.1:{}", one.port)),
        ("HTTP_PROXY", format!("http://127.0.0.1:{}", closed_port())),
        ("HTTPS_PROXY", format!("http://127.0.0.1:{}", other.port)),
        ("no_proxy", format!("intern.test, 192.0.2.0/24,127.0.0.1:{}", plain.port)),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut server = under(&variables, &format!("[notify]\nca_file = {ca:?}\n"));
    let url = format!("http://hook.test:{}/plain?a=b", plain.port);
    assert_eq!(call(&mut server, &url).0, 200);
    assert_eq!(one.asked(), [format!("POST {url}")], "a plain endpoint by its whole URL");
    assert_eq!(plain.requests()[0]["path"], "/plain");
    assert_eq!(plain.requests()[0]["query"], json!({"a": ["b"]}));
    assert_eq!(call(&mut server, &format!("https://hook.test:{}/tls", tls.port)).0, 200);
    assert_eq!(other.asked(), [format!("CONNECT hook.test:{}", tls.port)], "through a tunnel");
    assert_eq!(tls.requests()[0]["path"], "/tls");
    assert_eq!(call(&mut server, &plain.url("/direct")).0, 200);
    assert_eq!((one.asked().len(), plain.requests().len()), (1, 2), "no_proxy with its port");
    // A name that only the proxy knows is looked up here, in vain.
    let (status, _) = call(&mut server, &format!("http://a.intern.test:{}/", plain.port));
    assert_eq!((status, one.asked().len()), (424, 1));
}

#[test]
fn the_configurations_proxy_comes_first_with_its_password_and_none_means_none() {
    let (sink, proxy) = (Sink::start(), Proxy::start(Some("ox:s3cret-word")));
    let url = format!("http://hook.test:{}/x", sink.port);
    let nowhere = format!("http://127.0.0.1:{}", closed_port());
    let extra = format!(
        "[outgoing]\nproxy = \"http://ox:s3cret-word@127.0.0.1:{}\"\nno_proxy = [\"10.0.0.0/8\"]\n",
        proxy.port
    );
    let mut server = under(&[("http_proxy", &nowhere), ("no_proxy", "*")], &extra);
    assert_eq!(call(&mut server, &url).0, 200);
    assert_eq!(proxy.asked(), [format!("POST {url}")]);
    let shown = server.get("/v1/system/config").to_string() + &server.log();
    assert!(shown.contains("outgoing.proxy") && !shown.contains("s3cret-word"), "{shown}");
    // SIGHUP reads it again.
    let path = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let wrong = text.replace("ox:s3cret-word@", "ox:wrong@");
    std::fs::write(&path, wrong).unwrap();
    signal(&server.child, "HUP");
    wait_for("the reload", SOON, || server.log().contains("server.toml again").then_some(()));
    let (status, said) = wait_for("the new proxy", SOON, || {
        Some(call(&mut server, &url)).filter(|(status, _)| *status != 200)
    });
    assert!(status == 424 && said.contains("407"), "{said}");

    let mut server = under(&[("http_proxy", &nowhere)], "[outgoing]\nproxy = \"none\"\n");
    assert_eq!(call(&mut server, &sink.url("/direct")).0, 200);
    let mut server = under(&[("all_proxy", &nowhere)], "");
    let (status, said) = call(&mut server, &sink.url("/away"));
    assert!(status == 424 && said.contains(&format!("through the proxy {nowhere}")), "{said}");
}

#[test]
fn a_proxy_that_can_not_be_used_is_named() {
    let sink = Sink::start();
    let mut server = under(&[("all_proxy", "socks5://127.0.0.1:1080")], "");
    let (status, said) = call(&mut server, &sink.url("/x"));
    assert!(status == 424 && said.contains("must be an http:// URL"), "{said}");
    assert!(server.log().contains("the proxy socks5://127.0.0.1:1080 can't be used"));
}

#[test]
fn mail_and_certificate_checks_go_direct() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("checked", "IP:127.0.0.1", 10);
    let tls = Sink::tls(&pem, &key);
    let mails = MailServer::start(&[]);
    let proxy = Proxy::start(None);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let ca = pki.dir.path().join("ca.pem");
    let all = [("all_proxy", url.as_str()), ("http_proxy", &url), ("https_proxy", &url)];
    let mut server = under(&all, &format!("[cert_check]\nca_file = {ca:?}\n"));
    let config = json!({"smtp_host": "127.0.0.1", "smtp_port": mails.port, "from_name": "oxmon",
                        "from_email": "a@example.com", "tls": "none"});
    server.post(
        CONFIG,
        json!({"name": "mail", "channel_type": "email", "config_json": config,
                               "recipients": ["ops@example.com"]}),
    );
    let answer = server.call("POST", "/v1/notifications/channels/mail/test", None);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(mails.wait(1).len(), 1);
    let domain = json!({"domain": "127.0.0.1", "port": tls.port});
    let id = server.post("/v1/certs/domains", domain)["id"].as_str().unwrap().to_owned();
    let check = server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
    assert_eq!(check["is_valid"], true, "{check}");
    assert_eq!(proxy.asked(), Vec::<String>::new());
}
