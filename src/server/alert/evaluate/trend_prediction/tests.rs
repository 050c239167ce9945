#![allow(clippy::unwrap_used)]
use super::*;
use crate::model::series::Labels;
use crate::server::alert::evaluate::evaluator;
use serde_json::{Value, json};

fn make(config: Value) -> Result<Box<dyn Evaluator>, FieldError> {
    evaluator(&RULE_TYPE, config.as_object().unwrap())
}

fn last(evaluator: &dyn Evaluator, values: impl IntoIterator<Item = f64>) -> Evaluation {
    let mut window = Window::new(evaluator.window_ms(), evaluator.window_points());
    let mut evaluation = Evaluation::plain(Condition::Unknown, 0.0, 0.0);
    for (index, value) in values.into_iter().enumerate() {
        let sample = Sample { at_ms: 1_770_000_000_000 + index as i64 * 10_000, value };
        window.push(sample.at_ms, value);
        evaluation = evaluator.evaluate(sample, &window);
    }
    evaluation
}

fn disk() -> Box<dyn Evaluator> {
    make(json!({"predict_threshold": 95, "horizon_secs": 86_400, "min_data_points": 10})).unwrap()
}

#[test]
fn a_line_towards_the_threshold_breaches_and_says_when() {
    // 0.1 in 10 s from 80: 95 is reached 1,500 s after the first point.
    let evaluation = last(disk().as_ref(), (0..20).map(|step| 80.0 + 0.1 * f64::from(step)));
    assert_eq!(evaluation.condition, Condition::Breach);
    let expected = 1_770_000_000_000 + 1_500_000;
    let off = evaluation.predicted_breach_ms.unwrap() - expected;
    assert!(off.abs() < 10, "{off} ms off");
    assert!(evaluation.aside > 0.999_999);
}

#[test]
fn it_stays_quiet_without_enough_points_or_a_good_fit_or_a_slope_that_leads_there() {
    let evaluator = disk();
    let few = last(evaluator.as_ref(), (0..9).map(|step| 80.0 + f64::from(step)));
    assert_eq!(few.condition, Condition::Unknown);
    let away = last(evaluator.as_ref(), (0..20).map(|step| 80.0 - 0.1 * f64::from(step)));
    assert_eq!(away.condition, Condition::Clear);
    let flat = last(evaluator.as_ref(), (0..20).map(|_| 80.0));
    assert_eq!(flat.condition, Condition::Clear);
    let noise = last(evaluator.as_ref(), (0..20).map(|step| 80.0 + f64::from(step * 7919 % 13)));
    assert_eq!(noise.condition, Condition::Clear, "{noise:?}");
    let slow = last(evaluator.as_ref(), (0..20).map(|step| 10.0 + 0.0001 * f64::from(step)));
    assert_eq!(slow.condition, Condition::Clear);
}

#[test]
fn a_falling_value_runs_out() {
    let config = json!({"predict_threshold": 0, "horizon_secs": 3_600, "min_data_points": 5});
    let evaluator = make(config).unwrap();
    let falls = last(evaluator.as_ref(), (0..20).map(|step| 100.0 - f64::from(step)));
    assert_eq!(falls.condition, Condition::Breach);
    let rises = last(evaluator.as_ref(), (0..20).map(|step| 100.0 + f64::from(step)));
    assert_eq!(rises.condition, Condition::Clear);
}

#[test]
fn crossing_the_threshold_does_not_end_it() {
    let over = last(disk().as_ref(), (0..20).map(|step| 94.5 + 0.1 * f64::from(step)));
    assert_eq!(over.condition, Condition::Breach);
}

#[test]
fn what_can_not_work_is_refused_by_field() {
    let refused = |config: Value| make(config).unwrap_err().field;
    let base = json!({"predict_threshold": 95, "horizon_secs": 10});
    let with = |field: &str, value: Value| {
        let mut config = base.clone();
        config[field] = value;
        refused(config)
    };
    assert_eq!(with("horizon_secs", json!(0)), "horizon_secs");
    assert_eq!(with("min_data_points", json!(1)), "min_data_points");
    assert_eq!(with("min_fit", json!(1.5)), "min_fit");
    assert_eq!(with("window_secs", json!(-3)), "window_secs");
    assert_eq!(with("predict_threshold", json!(null)), "predict_threshold");
}

#[test]
fn the_message_says_when_and_how_good_the_fit_is() {
    let evaluator = disk();
    let evaluation = last(evaluator.as_ref(), (0..20).map(|step| 80.0 + 0.1 * f64::from(step)));
    let labels = Labels::one("mount", "/");
    let subject = Subject { agent: "db-1", metric: "disk.used_percent", labels: &labels };
    let text = evaluator.firing(subject, &evaluation);
    let expected =
        "disk.used_percent{mount=\"/\"} on db-1 is 81.9 and will reach 95 at 2026-02-02T";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("fit R² 1.00"), "{text}");
}
