//! `rate_of_change`: a value has changed by more than so many percent within a window.
//!
//! The change is that from the oldest point in the window to the newest, in percent of the oldest.
//! From 0 there is no percentage, so a window that starts at 0 says nothing.

use crate::model::alert::Cause;
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, number, numbers, span,
};
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "rate_of_change",
    help: "A value has changed by more than so many percent within a window.",
    fields: &[
        Field::required("rate_threshold", "Percent of the window's oldest value, over 0."),
        Field::required("window_secs", "Seconds that the window reaches back, 1 or more."),
        Field::optional("direction", "`any` (default), `up` or `down`."),
        Field::optional(
            "recovery_value",
            "The alert ends only when the change is at most this many percent. Default: `rate_threshold`.",
        ),
    ],
    metric: MetricField::Named,
    parse,
};

#[derive(Debug, Clone, Copy)]
enum Direction {
    Any,
    Up,
    Down,
}

#[derive(Debug)]
struct RateOfChange {
    percent: f64,
    window_ms: i64,
    direction: Direction,
    recovery: f64,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    let percent = fields.need_number("rate_threshold")?;
    if percent <= 0.0 {
        let message = format!("must be over 0 percent, is {}", number(percent));
        return Err(FieldError::new("rate_threshold", message));
    }
    let window_ms = fields.secs_as_ms("window_secs", 1, 0)?;
    let words = [("any", Direction::Any), ("up", Direction::Up), ("down", Direction::Down)];
    let direction = fields.word("direction", &words)?.unwrap_or(Direction::Any);
    let recovery = fields.number("recovery_value")?.unwrap_or(percent);
    if !(0.0..=percent).contains(&recovery) {
        let message = format!("must be 0 to `rate_threshold`, is {}", number(recovery));
        return Err(FieldError::new("recovery_value", message));
    }
    Ok(Box::new(RateOfChange { percent, window_ms, direction, recovery }))
}

impl Evaluator for RateOfChange {
    fn window_ms(&self) -> i64 {
        self.window_ms
    }

    fn evaluate(&self, sample: Sample, window: &Window) -> Evaluation {
        let nothing = Evaluation::plain(Condition::Unknown, sample.value, self.percent);
        let Some((first_ms, first)) = window.oldest() else { return nothing };
        if first_ms >= sample.at_ms {
            return nothing;
        }
        // A change from 0 has no percentage.
        let change = (sample.value - first) / first.abs() * 100.0;
        if !change.is_finite() {
            let still = sample.value == first;
            let condition = if still { Condition::Clear } else { Condition::Unknown };
            return Evaluation { condition, ..nothing };
        }
        let directed = match self.direction {
            Direction::Any => change.abs(),
            Direction::Up => change,
            Direction::Down => -change,
        };
        let condition = if directed > self.percent {
            Condition::Breach
        } else if directed <= self.recovery {
            Condition::Clear
        } else {
            Condition::Between
        };
        Evaluation { aside: first, ..Evaluation::plain(condition, sample.value, self.percent) }
    }

    fn cause(&self, _: Subject<'_>, evaluation: &Evaluation) -> Cause {
        Cause::Change { from: evaluation.aside, window_ms: self.window_ms }
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        let (first, now) = (evaluation.aside, evaluation.value);
        let change = (now - first) / first.abs() * 100.0;
        let verb = if change < 0.0 { "fell" } else { "rose" };
        let (change, bound) = numbers(change.abs(), self.percent);
        format!(
            "{subject} {verb} by {change}% within {}, from {} to {}, more than {bound}%",
            span(self.window_ms),
            number(first),
            number(now),
        )
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

    fn run(evaluator: &dyn Evaluator, points: &[(i64, f64)]) -> Vec<Condition> {
        let mut window = Window::new(evaluator.window_ms(), evaluator.window_points());
        let each = points.iter().map(|(secs, value)| {
            let sample = Sample { at_ms: secs * 1_000, value: *value };
            window.push(sample.at_ms, sample.value);
            evaluator.evaluate(sample, &window).condition
        });
        each.collect()
    }

    #[test]
    fn a_spike_breaches_and_its_end_is_clear() {
        let evaluator = make(json!({"rate_threshold": 20, "window_secs": 300})).unwrap();
        let points = [(0, 50.0), (10, 60.0), (20, 60.1), (310, 60.0), (400, 61.0)];
        use Condition::{Breach, Clear, Unknown};
        assert_eq!(run(evaluator.as_ref(), &points), [Unknown, Clear, Breach, Clear, Clear]);
        let falls = [(0, 50.0), (10, 30.0)];
        assert_eq!(run(evaluator.as_ref(), &falls), [Unknown, Breach]);
    }

    #[test]
    fn direction_and_zero_and_negative_values() {
        let up = make(json!({"rate_threshold": 20, "window_secs": 60, "direction": "up"})).unwrap();
        assert_eq!(run(up.as_ref(), &[(0, 50.0), (10, 30.0)])[1], Condition::Clear);
        assert_eq!(run(up.as_ref(), &[(0, -50.0), (10, -30.0)])[1], Condition::Breach);
        assert_eq!(run(up.as_ref(), &[(0, 0.0), (10, 30.0)])[1], Condition::Unknown);
        assert_eq!(run(up.as_ref(), &[(0, 0.0), (10, 0.0)])[1], Condition::Clear);
    }

    #[test]
    fn what_can_not_work_is_refused_by_field() {
        let refused = |config: Value| make(config).unwrap_err().field;
        assert_eq!(refused(json!({"rate_threshold": 0, "window_secs": 3})), "rate_threshold");
        assert_eq!(refused(json!({"rate_threshold": 5, "window_secs": 0})), "window_secs");
        assert_eq!(refused(json!({"rate_threshold": 5, "window_secs": -1})), "window_secs");
        assert_eq!(refused(json!({"window_secs": 3})), "rate_threshold");
    }

    #[test]
    fn messages_are_sentences() {
        let evaluator = make(json!({"rate_threshold": 20, "window_secs": 300})).unwrap();
        let mut window = Window::new(300_000, 0);
        window.push(0, 50.0);
        window.push(10_000, 67.5);
        let evaluation = evaluator.evaluate(Sample { at_ms: 10_000, value: 67.5 }, &window);
        let labels = Labels::none();
        let subject = Subject { agent: "db", metric: "memory.used_percent", labels: &labels };
        assert_eq!(
            evaluator.firing(subject, &evaluation),
            "memory.used_percent on db rose by 35% within 5m, from 50 to 67.5, more than 20%"
        );
    }
}
