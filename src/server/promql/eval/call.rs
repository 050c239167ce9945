//! Calls of functions.

use super::{ABSENT, Eval, Outcome, Sink, Steps, each, is_absent, renamed, window};
use crate::server::promql::ast::{Expr, Node, Selector, Type};
use crate::server::promql::error::PromError;
use crate::server::promql::functions::{Does, Function, Window, over};
use crate::server::promql::labels::{LabelSet, NAME, Unique};

impl Eval<'_> {
    pub(super) fn call(
        &self,
        function: &Function,
        args: &[Expr],
        steps: Steps,
        out: Sink<'_>,
    ) -> Outcome {
        match function.does {
            Does::Over(apply) => self.over(apply, args, steps, false, out),
            Does::OverNamed(apply) => self.over(apply, args, steps, true, out),
            Does::Map(apply) => self.map(apply, args, steps, out),
            Does::Calendar(part) => self.calendar(part, args.first(), steps, out),
            Does::Vector => {
                let mut values = self.scalar(argument(args, 0)?, steps)?;
                out(LabelSet::default(), &mut values)
            }
            Does::Absent => self.absent(argument(args, 0)?, steps, out),
            Does::AbsentOverTime => self.absent_over_time(argument(args, 0)?, steps, out),
            Does::Timestamp => self.timestamp(argument(args, 0)?, steps, out),
            Does::Sort(order) => self.sort(argument(args, 0)?, order, steps, out),
            Does::SortByLabel(order) => self.sort_by_label(args, order, steps, out),
            Does::LabelReplace => self.label_replace(args, steps, out),
            Does::LabelJoin => self.label_join(args, steps, out),
            Does::HistogramQuantile => self.histogram_quantile(args, steps, out),
            Does::Time | Does::Pi | Does::Scalar => {
                Err(PromError::execution("expected an instant vector"))
            }
        }
    }

    /// Functions that give a number.
    pub(super) fn scalar_call(
        &self,
        function: &Function,
        args: &[Expr],
        steps: Steps,
    ) -> Outcome<Vec<f64>> {
        match function.does {
            Does::Time => {
                Ok((0..steps.count).map(|index| steps.time(index) as f64 / 1_000.0).collect())
            }
            Does::Pi => Ok(vec![std::f64::consts::PI; steps.count]),
            Does::Scalar => {
                let mut found = vec![ABSENT; steps.count];
                let mut several = vec![false; steps.count];
                self.series(argument(args, 0)?, steps, &mut |_, values| {
                    for (index, &value) in values.iter().enumerate() {
                        if !is_absent(value) {
                            several[index] |= !is_absent(found[index]);
                            found[index] = value;
                        }
                    }
                    Ok(())
                })?;
                for (value, several) in found.iter_mut().zip(several) {
                    if several || is_absent(*value) {
                        *value = f64::NAN;
                    }
                }
                Ok(found)
            }
            _ => Err(PromError::execution("expected a scalar")),
        }
    }

    /// The arguments that are numbers, one column each.
    fn numbers(&self, args: &[Expr], steps: Steps) -> Outcome<Vec<Vec<f64>>> {
        let numbers = args.iter().filter(|arg| arg.kind() == Type::Scalar);
        numbers.map(|arg| self.scalar(arg, steps)).collect()
    }

    fn over(
        &self,
        apply: fn(&Window<'_>) -> Option<f64>,
        args: &[Expr],
        steps: Steps,
        named: bool,
        out: Sink<'_>,
    ) -> Outcome {
        let numbers = self.numbers(args, steps)?;
        if std::ptr::fn_addr_eq(apply, over::smooth as fn(&Window<'_>) -> Option<f64>) {
            check_factors(&numbers)?;
        }
        let matrix = args.iter().find(|arg| arg.kind() == Type::Matrix);
        let matrix = matrix.ok_or_else(|| PromError::execution("expected a range vector"))?;
        let mut unique = Unique::default();
        let mut values = Vec::new();
        self.windows(matrix, steps, &mut |labels, samples, at| {
            values.clear();
            let check = || self.spend(0);
            if !window::apply(samples, at, &numbers, apply, &check, &mut values)? {
                return Ok(());
            }
            self.spend(steps.count)?;
            let labels = if named { labels } else { renamed(labels, &mut unique)? };
            out(labels, &mut values)
        })
    }

    fn map(
        &self,
        apply: fn(f64, [f64; 2]) -> f64,
        args: &[Expr],
        steps: Steps,
        out: Sink<'_>,
    ) -> Outcome {
        let numbers = self.numbers(args, steps)?;
        let number = |place: usize, index: usize| {
            numbers.get(place).and_then(|values| values.get(index)).copied().unwrap_or(1.0)
        };
        let mut unique = Unique::default();
        self.series(argument(args, 0)?, steps, &mut |labels, values| {
            let labels = renamed(labels, &mut unique)?;
            for (index, value) in values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = apply(*value, [number(0, index), number(1, index)]);
                }
            }
            out(labels, values)
        })
    }

    fn calendar(
        &self,
        part: fn(i64) -> f64,
        arg: Option<&Expr>,
        steps: Steps,
        out: Sink<'_>,
    ) -> Outcome {
        let Some(arg) = arg else {
            let secs = |index: usize| steps.time(index).div_euclid(1_000);
            let mut values = (0..steps.count).map(|index| part(secs(index))).collect();
            return out(LabelSet::default(), &mut values);
        };
        let mut unique = Unique::default();
        self.series(arg, steps, &mut |labels, values| {
            let labels = renamed(labels, &mut unique)?;
            each(values, |value| if value.is_nan() { value } else { part(value as i64) });
            out(labels, values)
        })
    }

    fn timestamp(&self, arg: &Expr, steps: Steps, out: Sink<'_>) -> Outcome {
        let mut unique = Unique::default();
        let mut hand_on = |labels, values: &mut Vec<f64>| {
            let labels = renamed(labels, &mut unique)?;
            out(labels, values)
        };
        if let Node::Select(selector) = &arg.bare().node {
            return self.instant(selector, steps, true, &mut hand_on);
        }
        self.series(arg, steps, &mut |labels, values| {
            for (index, value) in values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = steps.time(index) as f64 / 1_000.0;
                }
            }
            hand_on(labels, values)
        })
    }

    fn absent(&self, arg: &Expr, steps: Steps, out: Sink<'_>) -> Outcome {
        let mut seen = vec![false; steps.count];
        self.series(arg, steps, &mut |_, values| {
            for (seen, value) in seen.iter_mut().zip(values) {
                *seen |= !is_absent(*value);
            }
            Ok(())
        })?;
        put_absent(arg, &seen, out)
    }

    fn absent_over_time(&self, arg: &Expr, steps: Steps, out: Sink<'_>) -> Outcome {
        let mut seen = vec![false; steps.count];
        self.windows(arg, steps, &mut |_, samples, at| {
            window::present(samples, at, &mut seen);
            Ok(())
        })?;
        put_absent(arg, &seen, out)
    }
}

/// An argument, which the parser has seen to be there.
pub(super) fn argument(args: &[Expr], place: usize) -> Outcome<&Expr> {
    args.get(place).ok_or_else(|| PromError::execution("an argument is missing"))
}

/// An argument that is a text.
pub(super) fn text(args: &[Expr], place: usize) -> Outcome<&str> {
    match &argument(args, place)?.bare().node {
        Node::Text(text) => Ok(text),
        _ => Err(PromError::execution("expected a string")),
    }
}

fn check_factors(numbers: &[Vec<f64>]) -> Outcome {
    for (values, what) in numbers.iter().zip(["smoothing", "trend"]) {
        if let Some(bad) = values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
            let message = format!("invalid {what} factor. Expected: 0 < tf < 1, got: {bad}");
            return Err(PromError::Execution(message));
        }
    }
    Ok(())
}

fn put_absent(arg: &Expr, seen: &[bool], out: Sink<'_>) -> Outcome {
    let mut values: Vec<f64> = seen.iter().map(|seen| if *seen { ABSENT } else { 1.0 }).collect();
    if values.iter().all(|value| is_absent(*value)) {
        return Ok(());
    }
    let labels = match &arg.bare().node {
        Node::Select(selector) | Node::Range(selector, _) => named_labels(selector),
        _ => LabelSet::default(),
    };
    out(labels, &mut values)
}

/// The labels that a selector gives one value each.
fn named_labels(selector: &Selector) -> LabelSet {
    let mut labels = LabelSet::default();
    let matchers = || selector.matchers.iter().filter(|matcher| matcher.name != NAME);
    for matcher in matchers() {
        let alone = matchers().filter(|other| other.name == matcher.name).count() == 1;
        if alone && matcher.operator() == "=" {
            labels.set(&matcher.name, &matcher.value);
        }
    }
    labels
}
