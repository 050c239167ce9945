//! `no_data`: an agent, or a metric of it, has not been heard of for some time.
//!
//! There is no point to judge, so a timer does: see `silence.rs`. What is judged here is a sample
//! whose value is the seconds of silence.

use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::rules::{Judge, Reading, Sample, Spec, Subject, Verdict, span};
use crate::server::alert::window::Window;

/// The type's row in the table.
pub const SPEC: Spec = Spec {
    name: "no_data",
    help: "An agent (`metric = \"*\"`), or a metric of it, has not been heard of for some time.",
    fields: &[Field::required("duration_secs", "Seconds of silence that are too many, 1 or more.")],
    any_metric: true,
    parse,
};

#[derive(Debug)]
struct NoData {
    silence_ms: i64,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Judge>, FieldError> {
    Ok(Box::new(NoData { silence_ms: fields.secs_as_ms("duration_secs", 1, 0)? }))
}

impl Judge for NoData {
    fn silence_ms(&self) -> Option<i64> {
        Some(self.silence_ms)
    }

    fn judge(&self, sample: Sample, _window: &Window) -> Reading {
        let bound = self.silence_ms as f64 / 1_000.0;
        let breach = sample.value >= bound;
        let verdict = if breach { Verdict::Breach } else { Verdict::Clear };
        Reading::plain(verdict, sample.value, bound)
    }

    fn firing(&self, subject: Subject<'_>, reading: &Reading) -> String {
        // Seconds of silence fit an i64 by far.
        let silent_ms = (reading.value * 1_000.0) as i64;
        let bound = span(self.silence_ms);
        format!("{subject} has not been heard of for {}, over {bound}", span(silent_ms))
    }

    fn recovered(&self, subject: Subject<'_>, _reading: &Reading, lasted_ms: i64) -> String {
        format!("{subject} is heard of again after {}", span(lasted_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::Labels;
    use crate::server::alert::rules::judge;
    use serde_json::json;

    #[test]
    fn silence_is_judged_and_told() {
        let judge = judge(&SPEC, json!({"duration_secs": 120}).as_object().unwrap()).unwrap();
        let read = |value| judge.judge(Sample { at_ms: 0, value }, &Window::none());
        assert_eq!(read(119.9).verdict, Verdict::Clear);
        assert_eq!(read(120.0).verdict, Verdict::Breach);
        let labels = Labels::none();
        let subject = Subject { agent: "web-01", metric: "*", labels: &labels };
        assert_eq!(
            judge.firing(subject, &read(121.0)),
            "web-01 has not been heard of for 2m 1s, over 2m"
        );
        let subject = Subject { metric: "cpu.usage", ..subject };
        assert_eq!(
            judge.recovered(subject, &read(0.0), 600_000),
            "cpu.usage on web-01 is heard of again after 10m"
        );
    }

    #[test]
    fn a_silence_of_nothing_is_refused() {
        let error = judge(&SPEC, json!({"duration_secs": 0}).as_object().unwrap()).unwrap_err();
        assert_eq!(error.field, "duration_secs");
    }
}
