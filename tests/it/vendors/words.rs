//! Each kind of message as its readers get it, in both languages: over a push service, and by mail.

use std::time::Duration;

use base64::Engine as _;
use oxmon::base::clock::{MINUTE_MS, SECOND_MS};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::free_port;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::mail_server::MailServer;
use crate::support::server::Server;
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(30);
const HEAD: &str = "aggregation_window_secs = 1\ntime_zone = 'Asia/Shanghai'\n\
    language = 'zh-CN'\npublic_url = 'https://oxmon.example.com/'\n\
    [cert_check]\nenabled = false\n";

/// A server with two readers: one has the server's language, the other asks for English.
struct Readers {
    server: Server,
    chinese: Endpoint,
    english: Endpoint,
    seen: usize,
}

impl Readers {
    fn start() -> Self {
        let ok = || Endpoint::start(|_, _| Act::Answer(200, "{}".to_owned()));
        let (chinese, english) = (ok(), ok());
        let mut server = Server::start(HEAD);
        for (name, endpoint, language) in
            [("zh", &chinese, Value::Null), ("en", &english, json!("en"))]
        {
            let config = json!({"topic": "t", "url": endpoint.url(""), "language": language});
            let body = json!({"name": name, "channel_type": "ntfy", "config_json": config});
            server.post("/v1/notifications/channels/config", body);
        }
        Self { server, chinese, english, seen: 0 }
    }

    fn rule(&mut self, name: &str, kind: &str, metric: &str, config: Value) -> Value {
        let body = json!({"name": name, "rule_type": kind, "metric": metric, "silence_secs": 0,
                          "severity": "critical", "config_json": config});
        self.server.post("/v1/alerts/rules", body)
    }

    fn disk(&self, host: &str, at_ms: i64, value: f64) {
        let points = vec![Point::labelled("disk.used_percent", "mount", "/data", at_ms, value)];
        let sent = Batch { agent_id: host.into(), timestamp_ms: at_ms, points };
        let reply = Client::to(self.server.grpc_port).report(&batch_to_proto(&sent)).unwrap();
        assert!(reply.success, "{}", reply.message);
    }

    /// The next message in English and in Chinese: title, text and link.
    fn next(&mut self) -> [[String; 3]; 2] {
        self.seen += 1;
        [&self.english, &self.chinese].map(|endpoint| {
            let body = endpoint.wait(self.seen)[self.seen - 1].json();
            ["title", "message", "click"].map(|name| body[name].as_str().unwrap_or("").to_owned())
        })
    }

    #[track_caller]
    fn says(&mut self, english: (&str, &str), chinese: (&str, &str)) {
        let [in_english, in_chinese] = self.next();
        assert_eq!((in_english[0].as_str(), in_english[1].as_str()), english);
        assert_eq!((in_chinese[0].as_str(), in_chinese[1].as_str()), chinese);
        assert!(in_english[2].starts_with("https://oxmon.example.com/#/alert/"), "{in_english:?}");
    }
}

/// `2026-02-09 16:30:00 +08:00`
fn shown(at_ms: i64) -> String {
    let text = oxmon::base::clock::rfc3339(at_ms + 8 * 3_600 * SECOND_MS);
    text.replace('T', " ").replace('Z', " +08:00")
}

#[test]
fn firing_recovery_end_and_a_group_read_well_in_both_languages() {
    let mut readers = Readers::start();
    let over = json!({"operator": "greater_than", "value": 90.0});
    let rule = readers.rule("Disk full", "threshold", "disk.used_percent", over);
    let at = now_ms() - 5 * MINUTE_MS;
    let at = at - at % SECOND_MS;
    readers.disk("web-1", at, 96.5);
    let since = shown(at);
    readers.says(
        (
            "[CRITICAL] Disk full: web-1 /data",
            &format!("disk usage of /data on web-1 is 96.5%, over 90%, since {since}"),
        ),
        (
            "[严重] Disk full：web-1 /data",
            &format!("web-1 上 /data 的磁盘使用率为 96.5%，高于 90%，始于 {since}"),
        ),
    );
    readers.disk("web-1", at + MINUTE_MS, 80.0);
    let until = shown(at + MINUTE_MS);
    readers.says(
        (
            "[RESOLVED] Disk full: web-1 /data",
            &format!(
                "disk usage of /data on web-1 is back at 80% (threshold: over 90%) after 1 min, \
                 from {since} to {until}"
            ),
        ),
        (
            "[已恢复] Disk full：web-1 /data",
            &format!(
                "web-1 上 /data 的磁盘使用率已恢复到 80%（阈值：高于 90%），历时 1 分钟，{since} 至 {until}"
            ),
        ),
    );
    for host in 0..5 {
        readers.disk(&format!("web-{host}"), at + 2 * MINUTE_MS, 95.0);
    }
    let [english, chinese] = readers.next();
    assert_eq!(english[0], "[CRITICAL] Disk full: 5 alerts on web-0, web-1, web-2 and 2 more");
    assert_eq!(chinese[0], "[严重] Disk full：5 条告警，web-0、web-1、web-2 及另外 2 台");
    assert_eq!(english[1].lines().count(), 5, "{}", english[1]);
    assert!(chinese[1].starts_with("- web-0 上 /data 的磁盘使用率为 95%"), "{}", chinese[1]);
    assert_eq!(chinese[2], "https://oxmon.example.com/#/alerts");
    let path = format!("/v1/alerts/rules/{}", rule["id"].as_str().unwrap());
    assert_eq!(readers.server.call("DELETE", &path, None).status, 200);
    let [english, chinese] = readers.next();
    let line = english[1].lines().find(|line| line.contains("web-3")).unwrap();
    let wanted = "- The alert on disk usage of /data on web-3 ended: the rule was deleted, after ";
    assert!(line.starts_with(wanted), "{line}");
    let wanted = "web-3 上 /data 的磁盘使用率的告警已结束：规则已删除，历时 ";
    assert!(chinese[1].contains(wanted), "{}", chinese[1]);
}

#[test]
fn certificates_and_absent_hosts_say_why_in_both_languages() {
    let mut readers = Readers::start();
    let under = json!({"operator": "less_than", "value": 1.0});
    readers.rule("Certificate", "threshold", "certificate.is_valid", under);
    let port = free_port();
    let domain = json!({"domain": "127.0.0.11", "port": port});
    let made = readers.server.post("/v1/certs/domains", domain);
    let path = format!("/v1/certs/domains/{}/check", made["id"].as_str().unwrap());
    let checked = readers.server.post(&path, json!({}));
    let reason = checked["error"].as_str().unwrap();
    let [english, chinese] = readers.next();
    let name = format!("127.0.0.11:{port}");
    assert_eq!(english[0], format!("[CRITICAL] Certificate: {name}"));
    assert_eq!(chinese[0], format!("[严重] Certificate：{name}"));
    let wanted = format!("The certificate of {name} is not valid: {reason}, since ");
    assert!(english[1].starts_with(&wanted), "{english:?}");
    assert_eq!(reason, format!("nothing listens on {name}: the connection is refused"));
    let wanted = format!("{name} 的证书无效：{name} 上没有服务在监听，连接被拒绝，始于 ");
    assert!(chinese[1].starts_with(&wanted), "{chinese:?}");
    readers.rule("Gone", "no_data", "*", json!({"duration_secs": 2}));
    let reply = Client::to(readers.server.grpc_port).report(&batch(
        "gone-1",
        now_ms(),
        &[("cpu.usage", 1.0)],
    ));
    assert!(reply.unwrap().success);
    let [english, chinese] = readers.next();
    assert_eq!(english[0], "[CRITICAL] Gone: gone-1");
    assert!(english[1].starts_with("gone-1 has not reported for "), "{english:?}");
    assert!(english[1].contains(" s (threshold: 2 s), since "), "{english:?}");
    assert!(chinese[1].starts_with("gone-1 已有 ") && chinese[1].contains("（阈值：2 秒）"));
    let reply = Client::to(readers.server.grpc_port).report(&batch(
        "gone-1",
        now_ms(),
        &[("cpu.usage", 1.0)],
    ));
    assert!(reply.unwrap().success);
    let [english, chinese] = readers.next();
    assert!(english[1].starts_with("gone-1 reports again after "), "{english:?}");
    assert!(chinese[1].starts_with("gone-1 已恢复上报，历时 "), "{chinese:?}");
}

#[test]
fn changes_and_trends_read_well_in_both_languages() {
    let mut readers = Readers::start();
    let at = now_ms() - 20 * MINUTE_MS;
    let at = at - at % SECOND_MS;
    readers.rule(
        "Jump",
        "rate_of_change",
        "disk.used_percent",
        json!({"rate_threshold": 50.0, "window_secs": 300}),
    );
    readers.disk("web-1", at, 20.0);
    readers.disk("web-1", at + MINUTE_MS, 40.0);
    let [english, chinese] = readers.next();
    let since = shown(at + MINUTE_MS);
    assert_eq!(english[0], "[CRITICAL] Jump: web-1 /data");
    assert_eq!(chinese[0], "[严重] Jump：web-1 /data");
    let wanted = format!(
        "disk usage of /data on web-1 rose by 100% within 5 min, from 20% to 40%, more than 50%, at \
         {since}"
    );
    assert_eq!(english[1], wanted);
    let wanted = format!(
        "web-1 上 /data 的磁盘使用率在 5 分钟内上升了 100%，从 20% 升到 40%，超过 50%，时间 {since}"
    );
    assert_eq!(chinese[1], wanted);

    readers.rule(
        "Filling",
        "trend_prediction",
        "disk.used_percent",
        json!({"predict_threshold": 95.0, "horizon_secs": 86_400, "min_data_points": 3}),
    );
    for minute in 0..6 {
        let at = at + (2 + minute) * MINUTE_MS;
        readers.disk("db-1", at, 50.0 + minute as f64);
    }
    let [english, chinese] = readers.next();
    assert_eq!(english[0], "[CRITICAL] Filling: db-1 /data");
    let wanted = "disk usage of /data on db-1 is 55% and will reach 95% at ";
    assert!(english[1].starts_with(wanted), "{english:?}");
    assert!(english[1].ends_with(" if it goes on like this"), "{english:?}");
    assert!(
        chinese[1].starts_with("db-1 上 /data 的磁盘使用率为 55%，照此趋势将在 "),
        "{chinese:?}"
    );
    assert!(chinese[1].ends_with(" 达到 95%"), "{chinese:?}");
}

#[test]
fn queries_and_expiring_certificates_read_well_in_both_languages() {
    let mut readers = Readers::start();
    readers.rule(
        "Expiring",
        "cert_expiration",
        "certificate.days_until_expiry",
        json!({"warning_days": 30, "critical_days": 7}),
    );
    // Alerts of a domain that is not watched end at once.
    readers.server.post("/v1/certs/domains", json!({"domain": "example.com"}));
    let mut points = batch("cert-checker", now_ms(), &[("certificate.days_until_expiry", 6.0)]);
    points.data_points[0].labels.insert("domain".into(), "example.com".into());
    assert!(Client::to(readers.server.grpc_port).report(&points).unwrap().success);
    readers.says(
        (
            "[CRITICAL] Expiring: example.com",
            "The certificate of example.com expires in 6 days (threshold: 7 days)",
        ),
        ("[严重] Expiring：example.com", "example.com 的证书将在 6 天后过期（阈值：7 天）"),
    );

    let waiting = batch("q-1", now_ms(), &[("queue.length", 2.0)]);
    assert!(Client::to(readers.server.grpc_port).report(&waiting).unwrap().success);
    let config = json!({"expr": "sum(oxmon_queue_length) < 3", "interval_secs": 1});
    let body = json!({"name": "Replicas", "rule_type": "promql", "severity": "critical",
                      "config_json": config});
    readers.server.post("/v1/alerts/rules", body);
    let [english, chinese] = readers.next();
    assert_eq!(
        [english[0].as_str(), chinese[0].as_str()],
        ["[CRITICAL] Replicas", "[严重] Replicas"]
    );
    assert!(
        english[1].starts_with("Replicas is 2: sum(oxmon_queue_length) < 3, since "),
        "{english:?}"
    );
    assert!(
        chinese[1].starts_with("Replicas 为 2：sum(oxmon_queue_length) < 3，始于 "),
        "{chinese:?}"
    );
}

#[test]
fn a_mail_in_chinese_has_the_sentence_and_a_link_in_both_parts() {
    let mails = MailServer::start(&[]);
    let mut server = Server::start(HEAD);
    let config = json!({"smtp_host": "127.0.0.1", "smtp_port": mails.port, "from_name": "oxmon",
                        "from_email": "alerts@example.com", "tls": "none"});
    let body = json!({"name": "mail", "channel_type": "email", "config_json": config,
                      "recipients": ["ops@example.com"]});
    server.post("/v1/notifications/channels/config", body);
    let body = json!({"name": "热", "rule_type": "threshold", "metric": "cpu.usage",
        "severity": "warning", "config_json": {"operator": "greater_than", "value": 90.0}});
    server.post("/v1/alerts/rules", body);
    let reply =
        Client::to(server.grpc_port).report(&batch("web-1", now_ms(), &[("cpu.usage", 95.0)]));
    assert!(reply.unwrap().success);
    let mail = wait_for("the mail", LIMIT, || mails.wait(1).first().cloned());
    let data = mail["data"].as_str().unwrap();
    let parts: Vec<String> = data.split("\r\n--").filter_map(decoded).collect();
    assert_eq!(parts.len(), 2, "{data}");
    for part in &parts {
        assert!(part.contains("[警告] 热：web-1"), "{part}");
        assert!(part.contains("web-1 的 CPU 使用率为 95%，高于 90%，始于 "), "{part}");
        assert!(part.contains("https://oxmon.example.com/#/alert/"), "{part}");
    }
    assert!(parts[1].contains("<th align=\"left\">主机</th>"), "{}", parts[1]);
}

/// The text of a part of a mail, whichever way it is encoded.
fn decoded(part: &str) -> Option<String> {
    let (head, body) = part.rsplit_once("\r\n\r\n").filter(|(_, body)| !body.is_empty())?;
    if head.contains("base64") {
        let packed: String = body.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok()?;
        return String::from_utf8(bytes).ok();
    }
    if !head.contains("quoted-printable") {
        return None;
    }
    let joined = body.replace("=\r\n", "").replace('%', "%25").replace('=', "%");
    Some(percent_encoding::percent_decode_str(&joined).decode_utf8().ok()?.into_owned())
}
