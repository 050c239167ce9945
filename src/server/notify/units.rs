//! Values as people read them: with the unit of their metric, bytes in binary sizes.

use crate::server::alert::evaluate::{number, numbers};
use crate::server::notify::lang::{Words, fill, find};

/// The unit of a metric: that of the agent's collectors, or what its name says.
pub(crate) fn unit(metric: &str) -> &'static str {
    if let Some(known) = crate::agent::collectors::metric(metric) {
        return known.unit;
    }
    let name = metric.strip_suffix("_total").unwrap_or(metric);
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&["_percent", ".percent"]) {
        "%"
    } else if ends(&["_bytes", ".bytes"]) {
        "bytes"
    } else if ends(&["_seconds", ".seconds"]) {
        "s"
    } else if ends(&["_celsius", ".celsius"]) {
        "°C"
    } else {
        ""
    }
}

/// A value and its bound, with as many digits as tell one from the other.
pub(crate) fn amounts(value: f64, bound: f64, unit: &str, words: &Words) -> (String, String) {
    if let Some(per) = unit.strip_prefix("bytes") {
        return binary(value, bound, per);
    }
    if unit == "s" && bound.abs().max(value.abs()) >= 60.0 {
        return (seconds(value, words), seconds(bound, words));
    }
    let (value, bound) = numbers(value, bound);
    (with_unit(value, unit, words), with_unit(bound, unit, words))
}

/// One value.
pub(crate) fn amount(value: f64, unit: &str, words: &Words) -> String {
    amounts(value, value, unit, words).0
}

fn with_unit(number: String, unit: &str, words: &Words) -> String {
    match unit {
        // A flag says what it says.
        "" | "0 or 1" => number,
        "%" => format!("{number}%"),
        unit => {
            let unit = find(words.units, unit).unwrap_or(unit);
            fill(words.with_unit, &[("count", &number), ("unit", unit)])
        }
    }
}

fn binary(value: f64, bound: f64, per: &str) -> (String, String) {
    const SIZES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let most = value.abs().max(bound.abs());
    let (mut scale, mut size) = (1.0, SIZES[0]);
    for larger in &SIZES[1..] {
        if most < scale * 1_024.0 {
            break;
        }
        scale *= 1_024.0;
        size = larger;
    }
    let (value, bound) = numbers(value / scale, bound / scale);
    (format!("{value} {size}{per}"), format!("{bound} {size}{per}"))
}

fn seconds(value: f64, words: &Words) -> String {
    if !value.is_finite() {
        return number(value);
    }
    let text = span((value.abs() * 1_000.0) as i64, words);
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A count of days.
pub(crate) fn days(count: f64, words: &Words) -> String {
    if count == 1.0 {
        return words.day.to_owned();
    }
    fill(words.days, &[("count", &number(count))])
}

/// A span of time in its two largest parts: `1 h 30 min`.
pub(crate) fn span(ms: i64, words: &Words) -> String {
    let secs = (ms.max(0).saturating_add(500)) / 1_000;
    let parts = [
        (secs / 86_400, words.span_days),
        (secs / 3_600 % 24, words.span_hours),
        (secs / 60 % 60, words.span_minutes),
        (secs % 60, words.span_seconds),
    ];
    let shown: Vec<String> = parts
        .into_iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| fill(words, &[("count", &count.to_string())]))
        .collect();
    if shown.is_empty() { fill(words.span_seconds, &[("count", "0")]) } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::notify::lang::Language;

    #[test]
    fn values_have_their_units() {
        let (en, zh) = (Language::En.words(), Language::ZhCn.words());
        let show = |metric: &str, value, bound| amounts(value, bound, unit(metric), en);
        let pair = |one: &str, two: &str| (one.to_owned(), two.to_owned());
        assert_eq!(show("cpu.usage", 95.0, 90.0), pair("95%", "90%"));
        assert_eq!(show("cpu.usage", 90.001, 90.0), pair("90.001%", "90%"));
        let gib = 1_073_741_824.0;
        assert_eq!(show("disk.available", gib / 2.0, 2.0 * gib), pair("0.5 GiB", "2 GiB"));
        assert_eq!(show("network.bytes_sent", 1_536.0, 1_024.0), pair("1.5 KiB/s", "1 KiB/s"));
        assert_eq!(show("load.uptime", 5_400.0, 60.0), pair("1 h 30 min", "1 min"));
        assert_eq!(show("node_memory_free_bytes", 512.0, 1.0), pair("512 B", "1 B"));
        assert_eq!(show("queue.length", 7.0, 5.0), pair("7", "5"));
        assert_eq!(show("load.load_1", 7.5, 5.0), pair("7.5 processes", "5 processes"));
        assert_eq!(amount(7.0, "processes", zh), "7 个进程");
        assert_eq!(show("disk.read_only", 1.0, 0.0), pair("1", "0"));
        assert_eq!(amount(f64::NAN, "s", en), "NaN s");
        assert_eq!(days(1.0, en), "1 day");
        assert_eq!(days(6.0, zh), "6 天");
        assert_eq!(span(5_400_000, zh), "1 小时 30 分钟");
        assert_eq!(span(0, en), "0 s");
    }
}
