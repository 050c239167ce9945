//! Each kind of message as people read it, in both languages.
#![allow(clippy::unwrap_used)]

use jiff::tz::TimeZone;

use super::*;
use crate::model::alert::{AlertStatus, TopProcess, Usage};
use crate::model::series::Labels;
use crate::server::notify::lang::Language;
use crate::server::notify::message::tests::{item, notification};

const MINUTE_MS: i64 = 60_000;

fn both(show: impl Fn(&Voice<'_>) -> String) -> [String; 2] {
    let zone = TimeZone::fixed(jiff::tz::offset(8));
    [Language::En, Language::ZhCn].map(|language| {
        let url = Some("https://oxmon.example.com/");
        show(&Voice { words: language.words(), zone: &zone, public_url: url })
    })
}

fn fired(metric: &str, (value, threshold): (f64, f64), cause: Cause) -> AlertEvent {
    AlertEvent {
        metric_name: metric.to_owned(),
        labels: Labels::none(),
        value,
        threshold,
        facts: Some(Box::new(Facts { cause, end: None, process: None })),
        ..item("web-1", "the history's message")
    }
}

fn over(by: f64) -> AlertEvent {
    fired("disk.used_percent", (by, 90.0), Cause::Threshold { relation: Relation::Over })
}

/// The end of an event after ten minutes.
fn over_at(event: AlertEvent, value: f64, end: Option<End>) -> AlertEvent {
    let cause = event.facts.as_ref().unwrap().cause.clone();
    AlertEvent {
        value,
        status: AlertStatus::Resolved,
        timestamp_ms: event.first_triggered_at_ms + 10 * MINUTE_MS,
        facts: Some(Box::new(Facts { cause, end, process: None })),
        ..event
    }
}

#[track_caller]
fn says(event: &AlertEvent, kind: Kind, english: &str, chinese: &str) {
    assert_eq!(both(|voice| voice.sentence(event, kind)), [english, chinese]);
}

#[test]
fn a_threshold_says_value_bound_how_long_and_since_when() {
    let disk = AlertEvent { labels: Labels::one("mount", "/data"), ..over(96.5) };
    says(
        &disk,
        Kind::Firing,
        "disk usage of /data on web-1 is 96.5%, over 90% for 1 min, since 2026-02-09 16:29:00 +08:00",
        "web-1 上 /data 的磁盘使用率为 96.5%，高于 90% 已持续 1 分钟，始于 2026-02-09 16:29:00 +08:00",
    );
    says(
        &over_at(disk.clone(), 80.0, None),
        Kind::Resolved,
        "disk usage of /data on web-1 is back at 80% (threshold: over 90%) after 10 min, from \
         2026-02-09 16:29:00 +08:00 to 2026-02-09 16:39:00 +08:00",
        "web-1 上 /data 的磁盘使用率已恢复到 80%（阈值：高于 90%），历时 10 分钟，2026-02-09 16:29:00 +08:00 至 \
         2026-02-09 16:39:00 +08:00",
    );
    let gib = 1_073_741_824.0;
    let cause = Cause::Threshold { relation: Relation::Under };
    let at_once = AlertEvent {
        first_triggered_at_ms: disk.timestamp_ms,
        ..fired("memory.buffers", (gib / 2.0, gib), cause)
    };
    says(
        &at_once,
        Kind::Firing,
        "memory.buffers on web-1 is 0.5 GiB, under 1 GiB, since 2026-02-09 16:30:00 +08:00",
        "web-1 的 memory.buffers 为 0.5 GiB，低于 1 GiB，始于 2026-02-09 16:30:00 +08:00",
    );
}

#[test]
fn the_process_that_uses_the_most_is_named_in_both_languages() {
    let mut busy = fired("cpu.usage", (97.0, 90.0), Cause::Threshold { relation: Relation::Over });
    let (name, user) = ("python3".to_owned(), "app".to_owned());
    let process = TopProcess { of: Usage::Cpu, used: 97.4, name, pid: 812, user };
    busy.facts.as_mut().unwrap().process = Some(process);
    says(
        &busy,
        Kind::Firing,
        "CPU usage on web-1 is 97%, over 90% for 1 min, since 2026-02-09 16:29:00 +08:00; most CPU: \
         python3 (pid 812, user app) 97%",
        "web-1 的 CPU 使用率为 97%，高于 90% 已持续 1 分钟，始于 2026-02-09 16:29:00 +08:00；占用 CPU 最多的进程：\
         python3（pid 812，用户 app）97%",
    );
}

#[test]
fn changes_and_trends_say_from_where_and_until_when() {
    let cause = Cause::Change { from: 50.0, window_ms: 5 * MINUTE_MS };
    let change = fired("memory.used_percent", (67.5, 20.0), cause);
    says(
        &change,
        Kind::Firing,
        "memory usage on web-1 rose by 35% within 5 min, from 50% to 67.5%, more than 20%, at \
         2026-02-09 16:30:00 +08:00",
        "web-1 的内存使用率在 5 分钟内上升了 35%，从 50% 升到 67.5%，超过 20%，时间 2026-02-09 16:30:00 +08:00",
    );
    let [english, _] =
        both(|voice| voice.sentence(&over_at(change.clone(), 60.0, None), Kind::Resolved));
    assert!(english.starts_with(
        "memory usage on web-1 changes by at most 20% within 5 min again and is 60%, after 10 min"
    ));
    let mut trend = fired("disk.used_percent", (91.0, 95.0), Cause::Trend);
    trend.predicted_breach_ms = Some(trend.timestamp_ms + 60 * MINUTE_MS);
    says(
        &trend,
        Kind::Firing,
        "disk usage on web-1 is 91% and will reach 95% at 2026-02-09 17:30:00 +08:00 if it goes on \
         like this",
        "web-1 的磁盘使用率为 91%，照此趋势将在 2026-02-09 17:30:00 +08:00 达到 95%",
    );
}

#[test]
fn certificates_say_which_domain_and_why() {
    let certificate = |metric: &str, value, cause| AlertEvent {
        agent_id: CERT_AGENT.to_owned(),
        labels: Labels::one("domain", "example.com"),
        ..fired(metric, (value, 7.0), cause)
    };
    let metric = "certificate.days_until_expiry";
    let expires = certificate(metric, 6.0, Cause::CertExpiry);
    says(
        &expires,
        Kind::Firing,
        "The certificate of example.com expires in 6 days (threshold: 7 days)",
        "example.com 的证书将在 6 天后过期（阈值：7 天）",
    );
    says(
        &certificate(metric, -1.0, Cause::CertExpiry),
        Kind::Firing,
        "The certificate of example.com expired 1 day ago",
        "example.com 的证书已过期 1 天",
    );
    let days = certificate(metric, 6.0, Cause::Threshold { relation: Relation::Under });
    assert_eq!(
        both(|voice| voice.sentence(&days, Kind::Firing)),
        both(|voice| voice.sentence(&expires, Kind::Firing))
    );
    let reason = "the certificate is self-signed, and not among the trusted ones".to_owned();
    let cause = Cause::CertInvalid { reason };
    let invalid = certificate("certificate.is_valid", 0.0, cause);
    says(
        &invalid,
        Kind::Firing,
        "The certificate of example.com is not valid: the certificate is self-signed, and not among \
         the trusted ones, since 2026-02-09 16:29:00 +08:00",
        "example.com 的证书无效：证书是自签名的，不在受信任之列，始于 2026-02-09 16:29:00 +08:00",
    );
    let [english, chinese] = both(|voice| voice.title(&notification(vec![invalid.clone()])));
    assert_eq!(english, "[CRITICAL] Disk full: example.com");
    assert_eq!(chinese, "[严重] Disk full：example.com");
}

#[test]
fn an_absent_host_and_an_end_say_why() {
    let cause = Cause::NoData { clock_ahead_ms: Some(-7_200_000) };
    let absent = fired("*", (121.0, 120.0), cause);
    says(
        &absent,
        Kind::Firing,
        "web-1 has not reported for 2 min 1 s (threshold: 2 min), since 2026-02-09 16:29:00 +08:00; \
         its clock is 2 h behind the server's",
        "web-1 已有 2 分钟 1 秒未上报（阈值：2 分钟），始于 2026-02-09 16:29:00 +08:00；它的时钟比服务器慢 2 小时",
    );
    says(
        &over_at(over(95.0), 95.0, Some(End::Because("the rule was deleted".to_owned()))),
        Kind::Resolved,
        "The alert on disk usage on web-1 ended: the rule was deleted, after 10 min, from \
         2026-02-09 16:29:00 +08:00 to 2026-02-09 16:39:00 +08:00",
        "web-1 的磁盘使用率的告警已结束：规则已删除，历时 10 分钟，2026-02-09 16:29:00 +08:00 至 2026-02-09 \
         16:39:00 +08:00",
    );
    let [english, chinese] = both(|voice| {
        let by = over_at(over(95.0), 95.0, Some(End::By("{who} <b>".to_owned())));
        voice.sentence(&by, Kind::Resolved)
    });
    assert!(english.contains("was resolved by {who} <b> after 10 min"), "{english}");
    assert!(chinese.contains("已由 {who} <b> 解除"), "{chinese}");
}

#[test]
fn queries_have_their_own_words_and_old_events_their_message() {
    let query = |text: Option<&str>| Cause::Query {
        expr: "sum(up) < 3".to_owned(),
        text: text.map(str::to_owned),
    };
    let all =
        AlertEvent { agent_id: QUERY_AGENT.to_owned(), ..fired("*", (2.0, 3.0), query(None)) };
    let [english, _] = both(|voice| voice.sentence(&all, Kind::Firing));
    let wanted = "Disk full is 2: sum(up) < 3 for 1 min, since 2026-02-09 16:29:00 +08:00";
    assert_eq!(english, wanted);
    let [english, chinese] = both(|voice| voice.title(&notification(vec![all.clone()])));
    assert_eq!([english.as_str(), chinese.as_str()], ["[CRITICAL] Disk full", "[严重] Disk full"]);
    let own = fired("*", (2.0, 3.0), query(Some("too few replicas")));
    let [english, _] = both(|voice| voice.sentence(&own, Kind::Firing));
    assert_eq!(english, "too few replicas, since 2026-02-09 16:29:00 +08:00");
    let old = AlertEvent { facts: None, ..over(95.0) };
    let [english, chinese] = both(|voice| voice.sentence(&old, Kind::Firing));
    let times = "2026-02-09 16:29:00 +08:00";
    assert_eq!(english, format!("disk usage on web-1: the history's message (since {times})"));
    assert_eq!(chinese, format!("web-1 的磁盘使用率：the history's message（始于 {times}）"));
}

#[test]
fn a_group_names_hosts_counts_the_rest_and_links_to_all() {
    let items = (0..8).map(|index| item(&format!("web-{index}"), "m")).collect();
    let many = notification(items);
    assert_eq!(
        both(|voice| voice.title(&many)),
        [
            "[CRITICAL] Disk full: 8 alerts on web-0, web-1, web-2 and 5 more",
            "[严重] Disk full：8 条告警，web-0、web-1、web-2 及另外 5 台",
        ]
    );
    let [english, chinese] = both(|voice| voice.text(&many, str::to_owned, 333));
    assert!(english.starts_with("- disk usage of / on web-0 is 96.5%"), "{english}");
    assert!(english.ends_with("… and 5 more"), "{english}");
    assert!(chinese.contains("\n……另有 ") && chinese.ends_with(" 条"), "{chinese}");
    let link = |notification: &Notification| {
        both(|voice| {
            let (link, words) = voice.link(notification).unwrap();
            format!("{words} {link}")
        })
    };
    let base = "https://oxmon.example.com/#";
    assert_eq!(link(&many)[0], format!("Open the alerts {base}/alerts"));
    let one = notification(vec![item("web-1", "m")]);
    assert_eq!(link(&one)[1], format!("查看告警 {base}/alert/event-web-1"));
    let trial = Notification::test(0, "chat");
    assert!(both(|voice| voice.text(&trial, str::to_owned, 1_000))[1].contains("渠道 chat 的测试"));
}

#[test]
fn a_text_never_grows_over_its_limit() {
    let long = "磁盘\"已满\"".repeat(200);
    let escape = crate::server::notify::message::escape_html;
    for count in [1, 2, 50] {
        let item = |index| AlertEvent { facts: None, ..item(&format!("主机-{index}"), &long) };
        let many = notification((0..count).map(item).collect());
        for limit in [100, 333, 2_048, 4_000] {
            for text in both(|voice| voice.text(&many, escape, limit)) {
                assert!(text.len() <= limit, "{} > {limit}", text.len());
                assert!(count == 1 || text.contains("more") || text.contains("另有"), "{text}");
                assert!(!text.replace("&quot;", "").contains('&'), "an entity is cut: {text}");
            }
        }
    }
}
