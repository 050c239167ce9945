//! Rule types: one file each, registered in one table. A type says what a point means for it; when
//! an alert starts and ends is the state machine's business, the same for all.

use std::fmt;

use serde_json::{Map, Value};

use crate::model::alert::Cause;
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

pub(crate) mod cert_expiration;
pub(crate) mod no_data;
pub(crate) mod promql;
pub(crate) mod rate_of_change;
pub(crate) mod threshold;
pub(crate) mod trend_prediction;

/// What a rule type needs to know of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The value.
    pub value: f64,
}

/// What a point means for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is too little to go by: nothing changes.
    Unknown,
    /// All is well.
    Clear,
    /// Not well enough to end an alert, not bad enough to start one.
    Between,
    /// It is as the rule describes.
    Breach,
}

/// A condition with the figures behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The condition.
    pub condition: Condition,
    /// The value that decided.
    pub value: f64,
    /// What it was held against.
    pub threshold: f64,
    /// Where the type itself says how bad it is; the rule's severity otherwise.
    pub severity: Option<Severity>,
    /// When a trend is expected to breach, Unix milliseconds.
    pub predicted_breach_ms: Option<i64>,
    /// A second figure for the message: the value that a change started from, or how good a fit
    /// is (R², 0 to 1).
    pub aside: f64,
}

impl Evaluation {
    /// A condition on `value` against `threshold` and nothing more.
    pub fn plain(condition: Condition, value: f64, threshold: f64) -> Self {
        Self { condition, value, threshold, severity: None, predicted_breach_ms: None, aside: 0.0 }
    }
}

/// Whom a message is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The metric; `*` for a whole agent.
    pub metric: &'a str,
    /// The labels.
    pub labels: &'a Labels,
}

impl fmt::Display for Subject<'_> {
    /// `disk.used_percent{mount="/"} on web-01`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.metric == "*" {
            return f.write_str(self.agent);
        }
        f.write_str(self.metric)?;
        if !self.labels.is_empty() {
            write!(f, "{{{}}}", self.labels)?;
        }
        write!(f, " on {}", self.agent)
    }
}

/// A rule type with its figures: evaluates one point at a time and words the messages.
pub trait Evaluator: Send + Sync + fmt::Debug {
    /// How far back its window reaches, milliseconds; 0 for a type that looks at one point alone.
    fn window_ms(&self) -> i64 {
        0
    }

    /// Points that its window must be able to hold.
    fn window_points(&self) -> usize {
        0
    }

    /// How long every point must breach before it fires, milliseconds.
    fn hold_ms(&self) -> i64 {
        0
    }

    /// For types that evaluate silence rather than points: the silence that breaches, milliseconds.
    fn absent_ms(&self) -> Option<i64> {
        None
    }

    /// For types that evaluate a query at an interval rather than points: the query.
    fn query(&self) -> Option<&promql::RuleQuery> {
        None
    }

    /// What `sample` means. `window` holds it and what came before it, as far as the window goes.
    fn evaluate(&self, sample: Sample, window: &Window) -> Evaluation;

    /// The same for a type that needs to know where an alert that fires now began: `from` is the
    /// value then.
    fn evaluate_from(&self, sample: Sample, window: &Window, from: Option<f64>) -> Evaluation {
        let _ = from;
        self.evaluate(sample, window)
    }

    /// The sentence for a firing alert, without its end: `… is 95.2, over 90 for 5m`.
    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String;

    /// Why it fires, in parts: what [`Evaluator::firing`] words.
    fn cause(&self, subject: Subject<'_>, evaluation: &Evaluation) -> Cause;

    /// The sentence for one that has ended after `lasted_ms`.
    fn recovered(&self, subject: Subject<'_>, evaluation: &Evaluation, lasted_ms: i64) -> String {
        format!("{subject} is back at {} after {}", number(evaluation.value), span(lasted_ms))
    }
}

/// What the field `metric` of a rule may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricField {
    /// One metric's name.
    Named,
    /// One metric's name, or `*` for a whole agent.
    NamedOrAny,
    /// It is left out, or `*`.
    None,
}

/// A rule type: its fields, and what makes a condition of them.
#[derive(Debug)]
pub struct RuleType {
    /// Its name in `rule_type` and `type`.
    pub name: &'static str,
    /// One sentence for the documents.
    pub help: &'static str,
    /// Its own fields, besides those that every rule has.
    pub fields: &'static [Field],
    /// What `metric` may be.
    pub metric: MetricField,
    /// Checks the fields and makes the evaluator.
    pub parse: fn(&Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError>,
}

/// Fields of every type's configuration.
pub(crate) const COMMON: &[Field] = &[
    Field::optional(
        "labels",
        "Globs by label name that a series' labels must match, such as {\"mount\": \"/data*\"}.",
    ),
    Field::optional(
        "refire_secs",
        "The most that is left of `silence_secs` after a recovery was sent. Default: 600.",
    ),
    Field::optional(
        "keep_firing_secs",
        "Seconds without a breach before a firing alert ends. Default: 0.",
    ),
    Field::optional(
        "stale_secs",
        "Seconds without points, while the agent reports, after which the alert of a series ends. Default: 600, or three of its intervals.",
    ),
];

/// Every rule type: a new one is one file and one row.
pub(crate) const TABLE: &[RuleType] = &[
    threshold::RULE_TYPE,
    rate_of_change::RULE_TYPE,
    trend_prediction::RULE_TYPE,
    cert_expiration::RULE_TYPE,
    no_data::RULE_TYPE,
    promql::RULE_TYPE,
];

/// The type with this name.
///
/// # Errors
///
/// Names the types that there are.
pub(crate) fn rule_type(name: &str) -> Result<&'static RuleType, FieldError> {
    TABLE.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<&str> = TABLE.iter().map(|spec| spec.name).collect();
        FieldError::new("rule_type", format!("must be {}, is `{name}`", names.join(" or ")))
    })
}

/// Checks a type's configuration and makes its evaluator.
///
/// # Errors
///
/// Names the first field that can't be.
pub(crate) fn evaluator(
    spec: &RuleType,
    config: &Map<String, Value>,
) -> Result<Box<dyn Evaluator>, FieldError> {
    let known: Vec<Field> = spec.fields.iter().chain(COMMON).copied().collect();
    (spec.parse)(&Fields::of(config, &known)?)
}

/// A number as people read it: at most two decimals, more for small ones.
pub(crate) fn number(value: f64) -> String {
    decimals(value, if value.abs() < 1.0 { 4 } else { 2 })
}

/// Two numbers with as many decimals as show that they differ.
pub(crate) fn numbers(value: f64, other: f64) -> (String, String) {
    let (short, other_short) = (number(value), number(other));
    if short != other_short || value == other {
        return (short, other_short);
    }
    let differ = (3..=9)
        .map(|count| (decimals(value, count), decimals(other, count)))
        .find(|(value, other)| value != other);
    // `Display` of a number is the shortest text that is read back as it.
    differ.unwrap_or_else(|| (value.to_string(), other.to_string()))
}

fn decimals(value: f64, count: i32) -> String {
    let size = value.abs();
    if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return format!("{value:e}");
    }
    let scale = 10_f64.powi(count);
    let rounded = (value * scale).round() / scale;
    // Negative zero reads badly.
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// A time span as people read it: `45s`, `5m`, `1h 30m`, `2d 3h`.
pub(crate) fn span(ms: i64) -> String {
    let secs = (ms.max(0) + 500) / 1_000;
    let parts = [(secs / 86_400, "d"), (secs / 3_600 % 24, "h"), (secs / 60 % 60, "m")];
    let with_secs = parts.into_iter().chain([(secs % 60, "s")]);
    let shown: Vec<String> = with_secs
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for spec in TABLE {
            assert!(spec.help.ends_with('.'), "{}", spec.name);
            let twice = TABLE.iter().filter(|other| other.name == spec.name).count();
            assert_eq!(twice, 1, "{}", spec.name);
            for field in spec.fields {
                assert!(!COMMON.iter().any(|common| common.name == field.name), "{}", field.name);
            }
        }
    }

    #[test]
    fn two_numbers_that_differ_read_differently() {
        assert_eq!(numbers(90.001, 90.0), ("90.001".to_owned(), "90".to_owned()));
        assert_eq!(numbers(0.99996, 1.0), ("0.99996".to_owned(), "1".to_owned()));
        assert_eq!(numbers(95.2, 90.0), ("95.2".to_owned(), "90".to_owned()));
        let (value, bound) = numbers(90.000_000_000_000_03, 90.0);
        assert_ne!(value, bound);
    }

    #[test]
    fn numbers_and_spans_read_well() {
        let numbers = [95.2, 90.0, 1234.567, 0.00123, -0.0, 1e20, 1e-9];
        let shown: Vec<String> = numbers.into_iter().map(number).collect();
        assert_eq!(shown, ["95.2", "90", "1234.57", "0.0012", "0", "1e20", "1e-9"]);
        let spans = [0, 45_000, 300_000, 5_400_000, 183_600_000, 3_601_000];
        let shown: Vec<String> = spans.into_iter().map(span).collect();
        assert_eq!(shown, ["0s", "45s", "5m", "1h 30m", "2d 3h", "1h"]);
    }
}
