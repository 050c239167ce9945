//! `no_data`: an agent, or a metric of it, has not been seen for some time.
//!
//! There is no point to evaluate, so a timer asks: see `absence.rs`. The sample here is the number
//! of seconds since the last report.

use crate::model::alert::Cause;
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, span,
};
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "no_data",
    help: "An agent (`metric = \"*\"`), or a metric of it, has not reported for some time.",
    fields: &[Field::required(
        "duration_secs",
        "Seconds without a report that are too many, 1 or more.",
    )],
    metric: MetricField::NamedOrAny,
    parse,
};

#[derive(Debug)]
struct NoData {
    absent_ms: i64,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    Ok(Box::new(NoData { absent_ms: fields.secs_as_ms("duration_secs", 1, 0)? }))
}

impl Evaluator for NoData {
    fn absent_ms(&self) -> Option<i64> {
        Some(self.absent_ms)
    }

    fn evaluate(&self, sample: Sample, _window: &Window) -> Evaluation {
        let bound = self.absent_ms as f64 / 1_000.0;
        let breach = sample.value >= bound;
        let condition = if breach { Condition::Breach } else { Condition::Clear };
        Evaluation::plain(condition, sample.value, bound)
    }

    fn cause(&self, _: Subject<'_>, _: &Evaluation) -> Cause {
        Cause::NoData { clock_ahead_ms: None }
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        // Seconds of silence fit an i64 by far.
        let silent_ms = (evaluation.value * 1_000.0) as i64;
        let bound = span(self.absent_ms);
        format!("{subject} has not reported for {}, over {bound}", span(silent_ms))
    }

    fn recovered(&self, subject: Subject<'_>, _reading: &Evaluation, lasted_ms: i64) -> String {
        format!("{subject} reports again after {}", span(lasted_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::Labels;
    use crate::server::alert::evaluate::evaluator;
    use serde_json::json;

    #[test]
    fn silence_is_judged_and_told() {
        let evaluator =
            evaluator(&RULE_TYPE, json!({"duration_secs": 120}).as_object().unwrap()).unwrap();
        let read = |value| evaluator.evaluate(Sample { at_ms: 0, value }, &Window::none());
        assert_eq!(read(119.9).condition, Condition::Clear);
        assert_eq!(read(120.0).condition, Condition::Breach);
        let labels = Labels::none();
        let subject = Subject { agent: "web-01", metric: "*", labels: &labels };
        assert_eq!(
            evaluator.firing(subject, &read(121.0)),
            "web-01 has not reported for 2m 1s, over 2m"
        );
        let subject = Subject { metric: "cpu.usage", ..subject };
        assert_eq!(
            evaluator.recovered(subject, &read(0.0), 600_000),
            "cpu.usage on web-01 reports again after 10m"
        );
    }

    #[test]
    fn a_silence_of_nothing_is_refused() {
        let error =
            evaluator(&RULE_TYPE, json!({"duration_secs": 0}).as_object().unwrap()).unwrap_err();
        assert_eq!(error.field, "duration_secs");
    }
}
