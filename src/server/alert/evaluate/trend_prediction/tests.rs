#![allow(clippy::unwrap_used)]
use super::*;
use crate::model::series::Labels;
use crate::server::alert::evaluate::evaluator;
use serde_json::{Value, json};

fn make(config: Value) -> Result<Box<dyn Evaluator>, FieldError> {
    evaluator(&RULE_TYPE, config.as_object().unwrap())
}

/// The newest evaluation of values that come every 100 s.
fn last(evaluator: &dyn Evaluator, values: impl IntoIterator<Item = f64>) -> Evaluation {
    last_every(100, evaluator, values)
}

fn last_every(
    secs: i64,
    evaluator: &dyn Evaluator,
    values: impl IntoIterator<Item = f64>,
) -> Evaluation {
    let mut window = Window::new(evaluator.window_ms(), evaluator.window_points());
    let mut evaluation = Evaluation::plain(Condition::Unknown, 0.0, 0.0);
    for (index, value) in values.into_iter().enumerate() {
        let sample = Sample { at_ms: 1_770_000_000_000 + index as i64 * secs * 1_000, value };
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
    // 0.1 in 100 s from 80: 95 is reached 15,000 s after the first point.
    let evaluation = last(disk().as_ref(), (0..20).map(|step| 80.0 + 0.1 * f64::from(step)));
    assert_eq!(evaluation.condition, Condition::Breach);
    let expected = 1_770_000_000_000 + 15_000_000;
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
    let falls = last_every(20, evaluator.as_ref(), (0..20).map(|step| 100.0 - f64::from(step)));
    assert_eq!(falls.condition, Condition::Breach);
    let rises = last_every(20, evaluator.as_ref(), (0..20).map(|step| 100.0 + f64::from(step)));
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

/// A name, the value at each minute, and whether the newest point predicts a breach.
type Shape<'a> = (&'a str, &'a dyn Fn(u32) -> f64, bool);

/// Shapes of a disk's use over two hours, a point every minute, threshold 95, looking a day ahead
/// with a window of an hour.
#[test]
fn each_shape_has_its_answer() {
    let noise = |step: u32| f64::from(step * 7919 % 101) / 101.0 - 0.5;
    let minutes = |secs: f64| secs * std::f64::consts::TAU / 60.0;
    let shapes: [Shape<'_>; 12] = [
        ("ramp", &|n| 60.0 + 0.05 * f64::from(n), true),
        ("noisy ramp", &|n| 60.0 + 0.05 * f64::from(n) + noise(n) * 0.4, true),
        ("slow ramp", &|n| 10.0 + 0.0005 * f64::from(n), false),
        ("falling ramp", &|n| 90.0 - 0.05 * f64::from(n), false),
        ("flat", &|_| 80.0, false),
        ("noise", &|n| 80.0 + noise(n) * 10.0, false),
        ("step in the middle", &|n| if n < 90 { 50.0 } else { 70.0 }, false),
        ("step early in the window", &|n| if n < 70 { 50.0 } else { 70.0 }, false),
        ("step late in the window", &|n| if n < 110 { 50.0 } else { 70.0 }, false),
        ("saw-tooth", &|n| 60.0 + f64::from(n % 20), false),
        ("log rotation", &|n| 60.0 + 0.3 * f64::from((n + 30) % 60), false),
        ("rhythm", &|n| 60.0 + 10.0 * minutes(f64::from(n)).sin(), false),
    ];
    for (name, shape, breaches) in shapes {
        let evaluation = last_every(60, disk().as_ref(), (0..120).map(shape));
        assert_eq!(evaluation.condition == Condition::Breach, breaches, "{name}: {evaluation:?}");
    }
}

#[test]
fn ninety_seconds_are_no_trend() {
    let short = last_every(10, disk().as_ref(), (0..10).map(|step| 80.0 + f64::from(step)));
    assert_ne!(short.condition, Condition::Breach);
}

#[test]
fn a_value_at_the_threshold_stays_reached() {
    let evaluator = make(json!({
        "predict_threshold": 95, "horizon_secs": 86_400, "direction": "rising",
    }));
    let evaluator = evaluator.unwrap();
    let noisy = (0..60).map(|step| 95.5 + f64::from(step * 7919 % 13) / 100.0);
    let reached = last_every(60, evaluator.as_ref(), noisy);
    assert_eq!((reached.condition, reached.predicted_breach_ms), (Condition::Breach, None));
    let labels = Labels::none();
    let subject = Subject { agent: "db-1", metric: "disk.used_percent", labels: &labels };
    let text = evaluator.firing(subject, &reached);
    assert!(text.ends_with("and has reached 95"), "{text}");
}
