//! `threshold`: every sample of a time is above, or below, a value.

use crate::model::alert::{Cause, Relation};
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, number, numbers, span,
};
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "threshold",
    help: "Every sample of a time is above, or below, a value.",
    fields: &[
        Field::required(
            "operator",
            "`greater_than`, `less_than`, `greater_equal` or `less_equal`.",
        ),
        Field::required("value", "What points are held against."),
        Field::optional("duration_secs", "Seconds in which every point breaches. Default: 0."),
        Field::optional(
            "recovery_value",
            "The alert ends only at this value or better. Default: at the first point that does not breach.",
        ),
    ],
    metric: MetricField::Named,
    parse,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Operator {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Greater => value > bound,
            Self::GreaterEqual => value >= bound,
            Self::Less => value < bound,
            Self::LessEqual => value <= bound,
        }
    }

    fn is_upward(self) -> bool {
        matches!(self, Self::Greater | Self::GreaterEqual)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Greater => "over",
            Self::GreaterEqual => "at or over",
            Self::Less => "under",
            Self::LessEqual => "at or under",
        }
    }
}

#[derive(Debug)]
struct Threshold {
    operator: Operator,
    value: f64,
    hold_ms: i64,
    recovery: Option<f64>,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    let operators = [
        ("greater_than", Operator::Greater),
        ("less_than", Operator::Less),
        ("greater_equal", Operator::GreaterEqual),
        ("less_equal", Operator::LessEqual),
    ];
    let operator = fields.word("operator", &operators)?;
    let operator = operator.ok_or_else(|| FieldError::new("operator", "is missing"))?;
    let value = fields.need_number("value")?;
    let recovery = fields.number("recovery_value")?;
    if let Some(recovery) = recovery
        && (if operator.is_upward() { recovery > value } else { recovery < value })
    {
        let side = if operator.is_upward() { "most" } else { "least" };
        let message =
            format!("must be at {side} `value` ({}), is {}", number(value), number(recovery));
        return Err(FieldError::new("recovery_value", message));
    }
    let hold_ms = fields.secs_as_ms("duration_secs", 0, 0)?;
    Ok(Box::new(Threshold { operator, value, hold_ms, recovery }))
}

impl Evaluator for Threshold {
    fn hold_ms(&self) -> i64 {
        self.hold_ms
    }

    fn evaluate(&self, sample: Sample, _window: &Window) -> Evaluation {
        let better = |recovery: f64| {
            if self.operator.is_upward() {
                sample.value <= recovery
            } else {
                sample.value >= recovery
            }
        };
        let condition = if self.operator.holds(sample.value, self.value) {
            Condition::Breach
        } else if self.recovery.is_none_or(better) {
            Condition::Clear
        } else {
            Condition::Between
        };
        Evaluation::plain(condition, sample.value, self.value)
    }

    fn cause(&self, _: Subject<'_>, _: &Evaluation) -> Cause {
        let relation = match self.operator {
            Operator::Greater => Relation::Over,
            Operator::GreaterEqual => Relation::AtLeast,
            Operator::Less => Relation::Under,
            Operator::LessEqual => Relation::AtMost,
        };
        Cause::Threshold { relation }
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        let (value, bound) = numbers(evaluation.value, self.value);
        let mut text = format!("{subject} is {value}, {} {bound}", self.operator.words());
        if self.hold_ms > 0 {
            text.push_str(&format!(" for {}", span(self.hold_ms)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::Labels;
    use crate::server::alert::evaluate::evaluator;
    use serde_json::{Value, json};

    fn make(config: Value) -> Result<Box<dyn Evaluator>, FieldError> {
        evaluator(&RULE_TYPE, config.as_object().unwrap())
    }

    fn condition(evaluator: &dyn Evaluator, value: f64) -> Condition {
        evaluator.evaluate(Sample { at_ms: 0, value }, &Window::none()).condition
    }

    #[test]
    fn each_operator_at_its_edge() {
        let cases = [
            ("greater_than", [false, false, true]),
            ("greater_equal", [false, true, true]),
            ("less_than", [true, false, false]),
            ("less_equal", [true, true, false]),
        ];
        for (operator, breaches) in cases {
            let evaluator = make(json!({"operator": operator, "value": 90})).unwrap();
            for (value, breach) in [89.999, 90.0, 90.001].into_iter().zip(breaches) {
                let expected = if breach { Condition::Breach } else { Condition::Clear };
                assert_eq!(condition(evaluator.as_ref(), value), expected, "{value} {operator} 90");
            }
        }
    }

    #[test]
    fn a_recovery_value_makes_room_between() {
        let config = json!({"operator": "greater_than", "value": 90, "recovery_value": 80});
        let evaluator = make(config).unwrap();
        assert_eq!(condition(evaluator.as_ref(), 90.1), Condition::Breach);
        assert_eq!(condition(evaluator.as_ref(), 90.0), Condition::Between);
        assert_eq!(condition(evaluator.as_ref(), 80.1), Condition::Between);
        assert_eq!(condition(evaluator.as_ref(), 80.0), Condition::Clear);
        let config = json!({"operator": "less_than", "value": 10, "recovery_value": 20});
        let evaluator = make(config).unwrap();
        assert_eq!(condition(evaluator.as_ref(), 19.0), Condition::Between);
        assert_eq!(condition(evaluator.as_ref(), 20.0), Condition::Clear);
    }

    #[test]
    fn what_can_not_work_is_refused_by_field() {
        let refused = |config: Value| make(config).unwrap_err().to_string();
        assert!(
            refused(json!({"operator": "above", "value": 1})).starts_with("`operator` must be")
        );
        assert_eq!(refused(json!({"operator": "less_than"})), "`value` is missing");
        let text = refused(json!({"operator": "less_than", "value": 1, "duration_secs": -5}));
        assert!(text.starts_with("`duration_secs` must be a whole number"), "{text}");
        let text = refused(json!({"operator": "less_than", "value": "90"}));
        assert_eq!(text, "`value` must be a number, is \"90\"");
        let text = refused(json!({"operator": "less_than", "value": 9, "durations": 1}));
        assert!(text.contains("did you mean `duration_secs`?"), "{text}");
        let text = refused(json!({"operator": "greater_than", "value": 90, "recovery_value": 91}));
        assert_eq!(text, "`recovery_value` must be at most `value` (90), is 91");
    }

    #[test]
    fn messages_are_sentences() {
        let config = json!({"operator": "greater_than", "value": 90, "duration_secs": 300});
        let evaluator = make(config).unwrap();
        let labels = Labels::one("mount", "/data");
        let subject = Subject { agent: "web-01", metric: "disk.used_percent", labels: &labels };
        let evaluation = evaluator.evaluate(Sample { at_ms: 0, value: 95.2 }, &Window::none());
        assert_eq!(
            evaluator.firing(subject, &evaluation),
            "disk.used_percent{mount=\"/data\"} on web-01 is 95.2, over 90 for 5m"
        );
        assert_eq!(
            evaluator.recovered(subject, &evaluation, 720_000),
            "disk.used_percent{mount=\"/data\"} on web-01 is back at 95.2 after 12m"
        );
    }
}
