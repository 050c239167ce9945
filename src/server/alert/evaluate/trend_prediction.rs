//! `trend_prediction`: a straight line through the recent points reaches a value soon.
//!
//! The line is that of least squares. How well the points lie on it is R², the share of their
//! variance that the line explains: 1 on the line, 0 when it explains nothing.

use crate::base::clock::rfc3339;
use crate::model::alert::Cause;
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, number, span,
};
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

/// The least R² that a line must have to fire, where the rule names none.
pub(crate) const MIN_FIT_DEFAULT: f64 = 0.7;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "trend_prediction",
    help: "A straight line through the recent points reaches a value soon.",
    fields: &[
        Field::required("predict_threshold", "The value that must not be reached."),
        Field::required("horizon_secs", "Seconds ahead within which reaching it is too soon."),
        Field::optional("min_data_points", "Points without which nothing is said. Default: 10."),
        Field::optional(
            "window_secs",
            "Seconds of points that the line goes through. Default: a 24th of `horizon_secs`, 600 at the least.",
        ),
        Field::optional("min_fit", "Least R² (0 to 1) to fire. Default: 0.7."),
        Field::optional(
            "direction",
            "`auto` (default: towards the threshold from where the window starts), `rising` or `falling`.",
        ),
    ],
    metric: MetricField::Named,
    parse,
};

#[derive(Debug, Clone, Copy)]
enum Direction {
    Auto,
    Rising,
    Falling,
}

#[derive(Debug)]
struct TrendPrediction {
    threshold: f64,
    horizon_ms: i64,
    points: usize,
    window_ms: i64,
    min_fit: f64,
    direction: Direction,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    let threshold = fields.need_number("predict_threshold")?;
    let horizon_ms = fields.secs_as_ms("horizon_secs", 1, 0)?;
    let points = fields.whole("min_data_points", (2, 5_000), 10)?;
    let default_secs = u64::try_from(horizon_ms / 24_000).unwrap_or(0).max(600);
    let window_ms = fields.secs_as_ms("window_secs", 1, default_secs)?;
    let min_fit = fields.number("min_fit")?.unwrap_or(MIN_FIT_DEFAULT);
    if !(0.0..=1.0).contains(&min_fit) {
        let message = format!("must be 0 to 1, is {}", number(min_fit));
        return Err(FieldError::new("min_fit", message));
    }
    let words =
        [("auto", Direction::Auto), ("rising", Direction::Rising), ("falling", Direction::Falling)];
    let direction = fields.word("direction", &words)?.unwrap_or(Direction::Auto);
    let points = usize::try_from(points).unwrap_or(usize::MAX);
    Ok(Box::new(TrendPrediction { threshold, horizon_ms, points, window_ms, min_fit, direction }))
}

/// A line through points, with times relative to the newest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    /// Change of the value in a millisecond.
    slope: f64,
    /// Value on the line at the newest point's time.
    now: f64,
    /// R², 0 to 1; 0 where all values are the same.
    fit: f64,
}

/// Least squares. Sums are taken around the means, so that large times and values lose nothing.
fn line(window: &Window, now_ms: i64) -> Option<Line> {
    line_of(window.iter(), now_ms)
}

fn line_of(points: impl Iterator<Item = (i64, f64)> + Clone, now_ms: i64) -> Option<Line> {
    let count = points.clone().count() as f64;
    let time = |at_ms: i64| at_ms.saturating_sub(now_ms) as f64;
    let (sum_t, sum_v) = points.clone().fold((0.0, 0.0), |(t, v), (at, x)| (t + time(at), v + x));
    let (mean_t, mean_v) = (sum_t / count, sum_v / count);
    let (mut tt, mut tv, mut vv) = (0.0, 0.0, 0.0);
    for (at, value) in points {
        let (t, v) = (time(at) - mean_t, value - mean_v);
        (tt, tv, vv) = (tt + t * t, tv + t * v, vv + v * v);
    }
    let slope = tv / tt;
    let fit = if vv > 0.0 { (tv * tv / (tt * vv)).clamp(0.0, 1.0) } else { 0.0 };
    let found = Line { slope, now: mean_v - slope * mean_t, fit };
    (found.slope.is_finite() && found.now.is_finite() && fit.is_finite()).then_some(found)
}

/// Whether both halves of the window lead the same way at a like pace. A step, or a saw-tooth's
/// last tooth, may fit a line as well as a trend does, but only one of its halves has the slope.
fn is_steady(window: &Window, whole: Line, now_ms: i64) -> bool {
    let Some((oldest_ms, _)) = window.oldest() else { return false };
    let middle_ms = oldest_ms.midpoint(now_ms);
    let halves = [(i64::MIN, middle_ms), (middle_ms, i64::MAX)].map(|(from_ms, to_ms)| {
        let half = window.iter().filter(|(at_ms, _)| (from_ms..to_ms).contains(at_ms));
        line_of(half, now_ms)
    });
    halves.iter().all(|half| {
        half.is_some_and(|half| {
            (SLOPE_SHARE_MIN..=SLOPE_SHARE_MAX).contains(&(half.slope / whole.slope))
        })
    })
}

/// Points of less time than this are no trend, milliseconds.
const SPAN_MS_MIN: i64 = 300_000;
/// The slope of each half of the window, as a share of the whole's.
const SLOPE_SHARE_MIN: f64 = 0.4;
const SLOPE_SHARE_MAX: f64 = 2.5;

impl TrendPrediction {
    /// The time that the points must span: a twelfth of the window, and five minutes or half of it.
    fn span_ms_min(&self) -> i64 {
        (self.window_ms / 12).max(SPAN_MS_MIN.min(self.window_ms / 2))
    }

    /// Whether the threshold is above. An alert knows the side that it came from: a value that has
    /// reached the threshold is not one that leads away from it.
    fn rises(&self, line: Line, window: &Window, now_ms: i64, from: Option<f64>) -> bool {
        match (self.direction, from) {
            (Direction::Rising, _) => true,
            (Direction::Falling, _) => false,
            (Direction::Auto, Some(from)) => from < self.threshold,
            (Direction::Auto, None) => {
                let start_ms = window.oldest().map_or(now_ms, |(at_ms, _)| at_ms);
                let start = line.now + line.slope * start_ms.saturating_sub(now_ms) as f64;
                start < self.threshold
            }
        }
    }
}

impl Evaluator for TrendPrediction {
    fn window_ms(&self) -> i64 {
        self.window_ms
    }

    fn window_points(&self) -> usize {
        self.points
    }

    fn evaluate(&self, sample: Sample, window: &Window) -> Evaluation {
        self.evaluate_from(sample, window, None)
    }

    fn evaluate_from(&self, sample: Sample, window: &Window, from: Option<f64>) -> Evaluation {
        let nothing = Evaluation::plain(Condition::Unknown, sample.value, self.threshold);
        if window.len() < self.points {
            return nothing;
        }
        let Some(line) = line(window, sample.at_ms) else { return nothing };
        let clear = Evaluation { condition: Condition::Clear, aside: line.fit, ..nothing };
        let rises = self.rises(line, window, sample.at_ms, from);
        let reached = |value: f64| {
            if rises { value >= self.threshold } else { value <= self.threshold }
        };
        // What was predicted has happened: the alert goes on, whatever the line says now.
        if reached(sample.value) {
            let known = from.is_some()
                || !matches!(self.direction, Direction::Auto)
                || line.fit >= self.min_fit && is_steady(window, line, sample.at_ms);
            let condition = if known { Condition::Breach } else { Condition::Between };
            return Evaluation { condition, predicted_breach_ms: None, ..clear };
        }
        let away = if rises { line.slope <= 0.0 } else { line.slope >= 0.0 };
        // A little room, so that a fit or a date at its edge does not start and end an alert by
        // turns.
        if away || line.fit < self.min_fit * 0.8 {
            return clear;
        }
        let left_ms = ((self.threshold - line.now) / line.slope).max(0.0);
        let horizon_ms = self.horizon_ms as f64;
        if left_ms > horizon_ms * 1.1 {
            return clear;
        }
        let breach = line.fit >= self.min_fit
            && left_ms <= horizon_ms
            && window.span_ms() >= self.span_ms_min()
            && is_steady(window, line, sample.at_ms);
        let condition = if breach { Condition::Breach } else { Condition::Between };
        // It is at most the horizon and a tenth, which is days.
        let breach_ms = sample.at_ms.saturating_add(left_ms as i64);
        Evaluation { condition, predicted_breach_ms: Some(breach_ms), ..clear }
    }

    fn cause(&self, _: Subject<'_>, _: &Evaluation) -> Cause {
        Cause::Trend
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        let Some(when) = evaluation.predicted_breach_ms else {
            let (value, bound) = (number(evaluation.value), number(self.threshold));
            return format!("{subject} is {value} and has reached {bound}");
        };
        // To the second: a forecast is not better than that.
        let when = rfc3339(when - when.rem_euclid(1_000));
        format!(
            "{subject} is {} and will reach {} at {when} if it goes on like this (fit R² {:.2}, \
             looking {} ahead)",
            number(evaluation.value),
            number(self.threshold),
            evaluation.aside,
            span(self.horizon_ms)
        )
    }

    fn recovered(&self, subject: Subject<'_>, evaluation: &Evaluation, lasted_ms: i64) -> String {
        format!(
            "{subject} is {} and no longer on its way to {} after {}",
            number(evaluation.value),
            number(self.threshold),
            span(lasted_ms)
        )
    }
}

#[cfg(test)]
mod tests;
