#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::model::series::{Labels as SeriesLabels, SeriesKey};

fn row(metric: &str, labels: &[(&str, &str)], value: f64) -> LatestRow {
    let labels = SeriesLabels::from_pairs(labels.iter().copied());
    let key = SeriesKey { agent: "web-01".into(), metric: metric.into(), labels };
    LatestRow { key, timestamp_ms: 1_700_000_000_000, value }
}

fn shown(rows: &[LatestRow], taken: &[&str]) -> String {
    let mut out = String::new();
    let taken = taken.iter().map(|name| (*name).to_owned()).collect();
    let help = |metric: &str| (metric == "cpu.usage").then(|| "CPU.".to_owned());
    assert_eq!(series(&mut out, rows, &taken, help, usize::MAX), 0);
    out
}

#[test]
fn what_exceeds_the_bytes_is_left_out_and_counted() {
    let rows: Vec<LatestRow> = (0..100)
        .map(|number| row(if number < 90 { "a" } else { "b" }, &[("n", &number.to_string())], 1.0))
        .collect();
    let mut out = String::new();
    let left_out = series(&mut out, &rows, &BTreeSet::new(), |_| None, 2_000);
    assert_eq!(samples(&out).len() + left_out, 100);
    assert!((2_000..2_200).contains(&out.len()), "{}", out.len());
    assert!(!out.contains("oxmon_b"), "a family without a series has no head");
}

fn samples(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn a_series_has_its_agent_its_labels_and_its_time() {
    let text = shown(&[row("cpu.usage", &[], 12.5), row("disk.used", &[("mount", "/")], 7.0)], &[]);
    let expected = "# HELP oxmon_cpu_usage CPU. (cpu.usage)\n\
        # TYPE oxmon_cpu_usage gauge\n\
        oxmon_cpu_usage{agent=\"web-01\"} 12.5 1700000000000\n\
        # HELP oxmon_disk_used disk.used, as it was reported.\n\
        # TYPE oxmon_disk_used gauge\n\
        oxmon_disk_used{agent=\"web-01\",mount=\"/\"} 7 1700000000000\n";
    assert_eq!(text, expected);
}

#[test]
fn names_are_made_to_fit_and_none_is_lost() {
    let name = |metric: &str| family_name(metric, &BTreeSet::new());
    assert_eq!(name("app/Requests-per.second"), "oxmon_app_requests_per_second");
    assert_eq!(name("queueDepth"), "oxmon_queue_depth");
    assert_eq!(name("app.latency_ms"), "oxmon_app_latencyms");
    assert_eq!(name("ms"), "oxmonms");
    assert_eq!(name("a.k.b"), "oxmon_akb");
    assert_eq!(name("net.kilobytes"), "oxmon_netkilobytes");
    assert_eq!(name("net.bytes"), "oxmon_net_bytes");
    assert_eq!(name("é"), "oxmon");
    // Two names that become one differ by a label.
    let text = shown(&[row("x.y", &[], 1.0), row("x_y", &[], 2.0)], &[]);
    let wanted = [
        "oxmon_x_y{agent=\"web-01\",metric=\"x.y\"} 1 1700000000000",
        "oxmon_x_y{agent=\"web-01\",metric=\"x_y\"} 2 1700000000000",
    ];
    assert_eq!(samples(&text), wanted);
}

#[test]
fn what_agents_send_does_not_clash_with_the_servers_own() {
    let text = shown(&[row("storage.head_bytes", &[], 1.0)], &["oxmon_storage_head_bytes"]);
    assert!(text.contains("\noxmon_storage_head_bytes_reported{"), "{text}");
}

#[test]
fn labels_are_escaped_renamed_and_never_there_twice() {
    let labels = [("agent", "x"), ("a-b", "1"), ("a.b", "2"), ("__name__", "n"), ("9", "\"\\\n")];
    let text = shown(&[row("m1", &labels, 1.0)], &[]);
    let line = samples(&text)[0];
    let wanted = "oxmon_m1{agent=\"web-01\",label_9=\"\\\"\\\\\\n\",label_name__=\"n\",\
        a_b=\"1\",exported_a_b=\"2\",exported_agent=\"x\"} 1 1700000000000";
    assert_eq!(line, wanted);
    // Two series whose labels become the same.
    let text = shown(&[row("m1", &[("a-b", "1")], 1.0), row("m1", &[("a.b", "1")], 2.0)], &[]);
    assert!(samples(&text)[1].contains("a_b=\"1\",series=\"2\""), "{text}");
}

#[test]
fn what_looks_like_another_kind_has_no_kind() {
    for metric in ["memory.total", "x.count", "x.sum", "x.bucket"] {
        assert!(shown(&[row(metric, &[], 1.0)], &[]).contains(" untyped\n"), "{metric}");
    }
    assert!(shown(&[row("x1", &[("le", "1")], 1.0)], &[]).contains(" untyped\n"));
    assert!(shown(&[row("x1", &[("scale", "1")], 1.0)], &[]).contains(" gauge\n"));
}

#[test]
fn own_metrics_come_in_base_units() {
    let text = shown(&[row("agent.collect_ms", &[("collector", "cpu")], 250.0)], &[]);
    assert!(text.contains("oxmon_agent_collect_seconds{agent=\"web-01\",collector=\"cpu\"} 0.25 "));
    let text = shown(&[row("certificate.days_until_expiry", &[("domain", "a")], 2.0)], &[]);
    assert!(
        text.contains(
            "oxmon_certificate_seconds_until_expiry{agent=\"web-01\",domain=\"a\"} 172800 "
        )
    );
}

proptest! {
    #[test]
    fn whatever_is_sent_every_sample_is_there_and_is_one_of_its_own(
        names in proptest::collection::vec("[a-zA-Z0-9._ é\\-]{1,12}", 1..12),
        label in "[a-zA-Z0-9._ é\\-]{1,8}",
        value in "\\PC{0,8}",
    ) {
        let names: BTreeSet<String> = names.into_iter().collect();
        let rows: Vec<LatestRow> =
            names.iter().map(|name| row(name, &[(label.as_str(), value.as_str())], 1.0)).collect();
        let text = shown(&rows, &["oxmon_a"]);
        let lines = samples(&text);
        let unlike: BTreeSet<&&str> = lines.iter().collect();
        prop_assert_eq!((lines.len(), unlike.len()), (rows.len(), rows.len()));
        for line in lines {
            let name = line.split('{').next().unwrap_or_default();
            prop_assert!(name.split('_').all(|word| !is_refused(word)), "{}", line);
            let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            prop_assert!(name.chars().all(fits), "{}", line);
        }
    }
}
