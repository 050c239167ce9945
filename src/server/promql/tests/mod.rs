//! Queries over series in memory, with results that follow from the functions' definitions.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::parse::parse;
use super::{Instant, LabelSet, Limits, Matcher, PromError, Query, Source, Span, Visit};

mod queries;
mod ranges;

/// Series in memory.
#[derive(Default)]
pub(super) struct Memory(Vec<(LabelSet, Vec<(i64, f64)>)>);

impl Memory {
    /// Adds a series `name{a="b",…}` with a value every ten seconds from 0 on; `_` is a gap.
    fn with(mut self, series: &str, values: &str) -> Self {
        let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
        let pairs = rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (label, value) = pair.split_once('=').unwrap();
            (label.into(), value.trim_matches('"').into())
        };
        let labels = pairs.map(pair).chain([("__name__".into(), name.into())]);
        let value = |(index, text): (usize, &str)| {
            (text != "_").then(|| (index as i64 * 10_000, text.parse().unwrap()))
        };
        let samples = values.split_whitespace().enumerate().filter_map(value).collect();
        self.0.push((LabelSet::from_pairs(labels), samples));
        self
    }
}

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], span: Span, visit: Visit<'_>) -> Result<(), PromError> {
        for (labels, samples) in &self.0 {
            let fits = |sample: &(i64, f64)| sample.0 >= span.from_ms && sample.0 <= span.to_ms;
            let mut inside: Vec<(i64, f64)> = samples.iter().copied().filter(fits).collect();
            if span.newest_only {
                inside.drain(..inside.len().saturating_sub(1));
            }
            let wanted = matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
            if wanted && !inside.is_empty() {
                visit(labels.clone(), &inside)?;
            }
        }
        Ok(())
    }
}

pub(super) const LIMITS: Limits = Limits {
    samples: 100_000,
    series: 1_000,
    bytes: 10_000_000,
    subquery_steps: 10_000,
    time: Duration::from_secs(30),
};

pub(super) fn query(memory: &Memory, limits: Limits) -> Query<'_> {
    Query { source: memory, limits, lookback_ms: 300_000, canceled: &|| false }
}

/// The answer to an instant query as text: one series a line, or the error.
pub(super) fn ask(memory: &Memory, text: &str, at_secs: i64) -> String {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match query(memory, LIMITS).instant(&expr, at_secs * 1_000) {
        Ok(Instant::Scalar(value)) => value.to_string(),
        Ok(Instant::Text(text)) => text,
        Ok(Instant::Vector(rows)) => {
            let line = |(labels, value): &(LabelSet, f64)| format!("{labels} {value}");
            rows.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Ok(Instant::Matrix(rows)) => {
            let line = |(labels, samples): &(LabelSet, Vec<(i64, f64)>)| {
                let samples: Vec<String> =
                    samples.iter().map(|(ms, value)| format!("{value}@{}", ms / 1_000)).collect();
                format!("{labels} {}", samples.join(" "))
            };
            rows.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("error: {error}"),
    }
}
