//! Prometheus' text format: the server's own figures, and the latest value of every series.
//!
//! What agents send is named by them, so names are made to fit: `cpu.usage` becomes
//! `oxmon_cpu_usage`, and whatever Prometheus' linter (`promtool check metrics`) finds fault with
//! is changed until it finds none. No sample is lost on the way, and none clashes with another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use crate::server::storage::LatestRow;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics of oxmon's own whose unit is not a base unit, with their name and factor in one.
const IN_BASE_UNITS: [(&str, &str, f64); 2] = [
    ("agent.collect_ms", "agent_collect_seconds", 0.001),
    ("certificate.days_until_expiry", "certificate_seconds_until_expiry", 86_400.0),
];

/// Words that a name must not have between its underscores: short units and kinds of metrics.
const NO_WORDS: [&str; 18] = [
    "s",
    "ms",
    "us",
    "ns",
    "sec",
    "b",
    "kb",
    "mb",
    "gb",
    "tb",
    "pb",
    "m",
    "h",
    "d",
    "counter",
    "gauge",
    "histogram",
    "summary",
];
const BASE_UNITS: [&str; 10] = [
    "amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds",
    "volts",
];
const OTHER_UNITS: [&str; 14] = [
    "minutes",
    "hours",
    "days",
    "weeks",
    "kelvins",
    "fahrenheit",
    "rankine",
    "inches",
    "yards",
    "miles",
    "bits",
    "calories",
    "pounds",
    "ounces",
];
const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
    "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

/// The server's own figures, and the names that they take.
///
/// # Errors
///
/// When a figure can't be written, which the registry rules out.
pub(crate) fn own(registry: &Registry) -> Result<(String, BTreeSet<String>), prometheus::Error> {
    let families = registry.gather();
    let mut text = String::new();
    TextEncoder::new().encode_utf8(&families, &mut text)?;
    Ok((text, families.iter().flat_map(names_of).collect()))
}

/// The names that the server's own figures take.
pub(crate) fn own_names(registry: &Registry) -> BTreeSet<String> {
    registry.gather().iter().flat_map(names_of).collect()
}

fn names_of(family: &MetricFamily) -> Vec<String> {
    let name = family.name();
    let endings: &[&str] = match family.get_field_type() {
        MetricType::HISTOGRAM | MetricType::SUMMARY => &["", "_bucket", "_sum", "_count"],
        _ => &[""],
    };
    endings.iter().map(|ending| format!("{name}{ending}")).collect()
}

/// Appends the latest value of every series, each with its time, under names that are not `taken`,
/// until `out` has `bytes_max`. `help` says what a metric means, where that is known. Gives how
/// many series are left out.
pub(crate) fn series(
    out: &mut String,
    rows: &[LatestRow],
    taken: &BTreeSet<String>,
    help: impl Fn(&str) -> Option<String>,
    bytes_max: usize,
) -> usize {
    let mut families: BTreeMap<String, Vec<&LatestRow>> = BTreeMap::new();
    for row in rows {
        families.entry(family_name(&row.key.metric, taken)).or_default().push(row);
    }
    let mut left_out = 0;
    for (name, rows) in &families {
        left_out += family(out, name, rows, &help, bytes_max);
    }
    left_out
}

/// Appends one family; gives how many of its series are left out.
fn family(
    out: &mut String,
    name: &str,
    rows: &[&LatestRow],
    help: &impl Fn(&str) -> Option<String>,
    bytes_max: usize,
) -> usize {
    let mut left_out = 0;
    let metrics: BTreeSet<&str> = rows.iter().map(|row| &*row.key.metric).collect();
    // Names that differ only by what had to be changed share a family.
    let several = metrics.len() > 1;
    let mut lines = String::new();
    let mut seen = BTreeSet::new();
    let mut plain = true;
    for row in rows {
        if out.len() + lines.len() >= bytes_max {
            left_out += 1;
            continue;
        }
        let labels = labels(row, several, &mut seen);
        plain &= !labels.contains(",le=\"") && !labels.contains(",quantile=\"");
        let value = row.value * factor(&row.key.metric);
        // Writing into a string can't fail.
        let _ = writeln!(lines, "{name}{{{labels}}} {value} {}", row.timestamp_ms);
    }
    if lines.is_empty() {
        return left_out;
    }
    let endings = ["_total", "_count", "_sum", "_bucket"];
    // What looks like part of another kind of metric has no kind, since it is none of that kind.
    let gauge = plain && !endings.iter().any(|ending| name.ends_with(ending));
    let text = match metrics.first() {
        Some(metric) if !several => help(metric).map_or_else(
            || format!("{metric}, as it was reported."),
            |help| format!("{help} ({metric})"),
        ),
        _ => "Metrics whose names differ only in what a name can't have here.".to_owned(),
    };
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    let kind = if gauge { "gauge" } else { "untyped" };
    let _ = write!(out, "# HELP {name} {text}\n# TYPE {name} {kind}\n{lines}");
    left_out
}

/// What a value is multiplied with, so that it is in the unit that the family's name says.
pub(crate) fn factor(metric: &str) -> f64 {
    IN_BASE_UNITS.iter().find(|(from, ..)| *from == metric).map_or(1.0, |(.., factor)| *factor)
}

/// The name of a metric's family, which is not in `taken`.
pub(crate) fn family_name(metric: &str, taken: &BTreeSet<String>) -> String {
    let known = IN_BASE_UNITS.iter().find(|(from, ..)| *from == metric);
    let base = known.map_or_else(|| snake(metric), |(_, to, _)| (*to).to_owned());
    let mut words = vec!["oxmon".to_owned()];
    words.extend(base.split('_').filter(|word| !word.is_empty()).map(str::to_owned));
    // A word that would be taken for a unit is joined to the one before it.
    while let Some(at) = words.iter().position(|word| is_refused(word)) {
        let word = words.remove(at);
        words[at - 1].push_str(&word);
    }
    let mut name = words.join("_");
    while taken.contains(&name) {
        name.push_str("_reported");
    }
    name
}

/// Whether the linter takes a word for a unit that should be another, or for a kind of metric.
fn is_refused(word: &str) -> bool {
    let mut prefixed = PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix));
    NO_WORDS.contains(&word)
        || OTHER_UNITS.contains(&word)
        || prefixed.any(|unit| BASE_UNITS.contains(&unit) || OTHER_UNITS.contains(&unit))
}

/// `fooBar.baz-qux` as `foo_bar_baz_qux`.
fn snake(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = '_';
    for letter in text.chars() {
        if before.is_ascii_lowercase() && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
        before = letter;
    }
    out
}

/// A sample's labels, none of them twice, and unlike those `seen` before.
fn labels(row: &LatestRow, with_metric: bool, seen: &mut BTreeSet<String>) -> String {
    let mut labels = Labels::default();
    labels.add("agent".to_owned(), &row.key.agent);
    if with_metric {
        labels.add("metric".to_owned(), &row.key.metric);
    }
    for (name, value) in row.key.labels.iter() {
        labels.add(label_name(name), value);
    }
    let mut number = 2;
    while !seen.insert(labels.text.clone()) {
        labels.add("series".to_owned(), &number.to_string());
        number += 1;
    }
    labels.text
}

/// Labels as they are written.
#[derive(Default)]
struct Labels {
    text: String,
    names: BTreeSet<String>,
}

impl Labels {
    fn add(&mut self, mut name: String, value: &str) {
        while !self.names.insert(name.clone()) {
            // What Prometheus itself does with a label that a target has too.
            name.insert_str(0, "exported_");
        }
        let comma = if self.text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(self.text, "{comma}{name}=\"{value}\"");
    }
}

/// A label's name as Prometheus takes it.
pub(crate) fn label_name(name: &str) -> String {
    let name = snake(name);
    // Two underscores are Prometheus' own.
    if name.starts_with("__") || name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("label_{}", name.trim_start_matches('_'))
    } else {
        name
    }
}

#[cfg(test)]
mod tests;
