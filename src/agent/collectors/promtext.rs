//! Prometheus' text format, version 0.0.4, and what OpenMetrics adds to it that others write
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::HashSet;

use crate::base::limits::{
    LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, METRIC_NAME_BYTES_MAX,
};
use crate::model::series::Labels;

/// One sample of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// The metric's name, as it is.
    pub metric: Box<str>,
    /// The labels, as they are.
    pub labels: Labels,
    /// The value; never infinite or NaN.
    pub value: f64,
}

/// The samples of a text, in their order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parsed {
    /// Each series once: of two samples of one series the first stays.
    pub samples: Vec<Sample>,
    /// How many more there were than `most`.
    pub over: usize,
    /// How many were left out: infinite, NaN, or over a limit of names and labels.
    pub unfit: usize,
}

/// The samples whose names `take` takes, `most` at the most.
///
/// # Errors
///
/// The number of the first line that can't be parsed, and what is wrong with it: a text that is
/// broken somewhere may be broken anywhere.
pub(super) fn parse(
    text: &str,
    most: usize,
    take: impl Fn(&str) -> bool,
) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut seen = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let failed = |what: &str| format!("line {}: {what}", index + 1);
        let (metric, labels, rest) = series(line).map_err(failed)?;
        let word = rest.split_ascii_whitespace().next().ok_or_else(|| failed("no value"))?;
        let value = number(word).ok_or_else(|| failed("the value is not a number"))?;
        if !take(metric) {
            continue;
        }
        let fits = value.is_finite()
            && metric.len() <= METRIC_NAME_BYTES_MAX
            && labels.len() <= LABELS_MAX
            && labels.iter().all(|(name, value)| {
                name.len() <= LABEL_NAME_BYTES_MAX && value.len() <= LABEL_VALUE_BYTES_MAX
            });
        if !fits {
            parsed.unfit += 1;
            continue;
        }
        // A label without a value is the same as no label.
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        let labels = Labels::from_pairs(labels);
        if parsed.samples.len() >= most {
            parsed.over += 1;
        } else if seen.insert((Box::<str>::from(metric), labels.clone())) {
            parsed.samples.push(Sample { metric: metric.into(), labels, value });
        }
    }
    Ok(parsed)
}

/// As Go's ParseFloat, which writers of the format use.
fn number(word: &str) -> Option<f64> {
    match word {
        "NaN" | "Nan" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

/// A series: its name, its labels, and the rest of the line.
type Series<'a> = (&'a str, Vec<(&'a str, String)>, &'a str);

fn series(line: &str) -> Result<Series<'_>, &'static str> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace()).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("no valid name of a metric");
    }
    rest = rest.trim_start();
    let mut labels = Vec::new();
    let Some(mut inner) = rest.strip_prefix('{') else { return Ok((name, labels, rest)) };
    loop {
        inner = inner.trim_start();
        if let Some(after) = inner.strip_prefix('}') {
            return Ok((name, labels, after));
        }
        let (label, after) = inner.split_once('=').ok_or("a label without `=`")?;
        let label = label.trim();
        if !is_name(label, false) {
            return Err("no valid name of a label");
        }
        let (value, after) = quoted(after.trim_start()).ok_or("a label's value without its end")?;
        labels.push((label, value));
        inner = after.trim_start();
        if let Some(after) = inner.strip_prefix(',') {
            inner = after;
        } else if !inner.starts_with('}') {
            return Err("no `,` or `}` after a label");
        }
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|byte| !byte.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':'))
}

/// A string in quotes with `\\`, `\"` and `\n`, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Parsed {
        parse(text, 100, |_| true).unwrap()
    }

    #[test]
    fn names_labels_and_values_stay_as_they_are() {
        let parsed = all("# HELP a_total Things.\n# TYPE a_total counter\n\
             a_total{b=\"x\\\"y\\\\z\\n\", c=\"\",} 1e3 1395066363000\n\
             up 1\n  some:rule{} 0.5 # {trace=\"1\"} 0.67\n# EOF\n");
        let series: Vec<String> = parsed
            .samples
            .iter()
            .map(|s| format!("{} {} {}", s.metric, s.labels, s.value))
            .collect();
        assert_eq!(series, ["a_total b=\"x\\\"y\\\\z\\n\" 1000", "up  1", "some:rule  0.5"]);
    }

    #[test]
    fn what_can_not_be_stored_is_counted_and_what_is_too_much_too() {
        let parsed = all("a NaN\nb +Inf\nc 1\nc 2\n");
        assert_eq!((parsed.samples.len(), parsed.unfit), (1, 2));
        assert_eq!(parsed.samples[0].value, 1.0);
        assert_eq!(parse("a 1\nb 2\nc 3\n", 2, |_| true).unwrap().over, 1);
        assert_eq!(parse("a 1\nb 2\n", 9, |name| name == "b").unwrap().samples.len(), 1);
    }

    #[test]
    fn a_broken_line_is_named() {
        for (text, what) in [
            ("a 1\nb{c=\"x} 1\n", "line 2: a label's value"),
            ("a", "line 1: no value"),
            ("a{b=\"c\"}", "line 1: no value"),
            ("1a 2", "no valid name of a metric"),
            ("a{b-c=\"1\"} 2", "no valid name of a label"),
            ("a one", "not a number"),
            ("<html>", "no value"),
        ] {
            let error = parse(text, 9, |_| true).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}", more in "[a-z{}=\",\\\\ 0-9\n]{0,80}") {
            let _ = parse(&text, 10, |_| true);
            let _ = parse(&more, 10, |_| true);
        }
    }
}
