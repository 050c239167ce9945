//! `docs/metrics.md`, made from the collectors' table.

use oxmon::agent::collectors::{Metric, OWN_METRICS, Pace, SPECS};

const HEAD: &str = "\
# Metrics

Made from the collectors' table by `make docs`; a test fails when it is stale. Percentages are
rounded to 0.01 and rates to 0.1, those of rare events to 0.001. Each heading is the name of a
collector, which `collectors.disable` of the agent's configuration takes. A rate needs two
collections, so the first one of an agent has none; a counter that went back (a reset, a wrap)
gives no rate for that collection.

";

const CERTIFICATES: [Metric; 2] = [
    Metric {
        name: "certificate.days_until_expiry",
        unit: "days",
        labels: &["domain"],
        help: "Days until the served certificate ends; negative once it has.",
    },
    Metric {
        name: "certificate.is_valid",
        unit: "0 or 1",
        labels: &["domain"],
        help: "Whether the certificate is good for its name now, and its chain is trusted.",
    },
];

fn table(out: &mut String, title: &str, metrics: &[Metric]) {
    out.push_str(&format!(
        "## {title}\n\n| metric | unit | label | meaning |\n|---|---|---|---|\n"
    ));
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let label = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        out.push_str(&format!(
            "| `{}` | {} | {label} | {} |\n",
            metric.name, metric.unit, metric.help
        ));
    }
    out.push('\n');
}

#[test]
fn metrics_are_documented() {
    let mut out = HEAD.to_owned();
    for spec in SPECS {
        let when = match (spec.on, spec.pace) {
            (true, Pace::Always) => "",
            (true, Pace::Minute) => " (once a minute)",
            (false, _) => " (off unless it is enabled)",
        };
        table(&mut out, &format!("{}{when}", spec.name), spec.metrics);
    }
    table(&mut out, "the agent itself", OWN_METRICS);
    out.push_str("The server adds two for each domain that it checks, as those of the agent `cert-checker`; a\nport other than 443 is a label of its own.\n\n");
    table(&mut out, "certificates", &CERTIFICATES);
    super::check("metrics.md", &format!("{}\n", out.trim_end()));
}
