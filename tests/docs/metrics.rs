//! `docs/metrics.md`, made from the collectors' table.

use oxmon::agent::collectors::{Metric, OWN_METRICS, SPECS};

const HEAD: &str = "\
# Metrics

Made from the collectors' table by `make docs`; a test fails when it is stale. Percentages are
rounded to 0.01 and rates to 0.1. A rate needs two ticks, so the first tick of an agent has none; a
counter that went back (a reset, a wrap) gives no rate for that tick.

";

const CERTIFICATES: [Metric; 2] = [
    Metric {
        name: "certificate.days_until_expiry",
        unit: "days",
        label: Some("domain"),
        help: "Days until the served certificate ends; negative once it has.",
    },
    Metric {
        name: "certificate.is_valid",
        unit: "0 or 1",
        label: Some("domain"),
        help: "Whether the certificate is good for its name now, and its chain is trusted.",
    },
];

fn table(out: &mut String, title: &str, metrics: &[Metric]) {
    out.push_str(&format!(
        "## {title}\n\n| metric | unit | label | meaning |\n|---|---|---|---|\n"
    ));
    for metric in metrics {
        let label = metric.label.map_or("–".to_owned(), |label| format!("`{label}`"));
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
        table(&mut out, spec.name, spec.metrics);
    }
    table(&mut out, "the agent itself", OWN_METRICS);
    out.push_str("The server adds two for each domain that it checks, as those of the agent `cert-checker`; a\nport other than 443 is a label of its own.\n\n");
    table(&mut out, "certificates", &CERTIFICATES);
    super::check("metrics.md", &format!("{}\n", out.trim_end()));
}
