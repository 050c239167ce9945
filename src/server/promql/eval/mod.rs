//! From a tree to values. Each expression hands its series on one at a time, with a value for
//! every step, so that `sum(rate(x[5m]))` holds one series and its sum, however many there are.
//! What must see all series at once (`topk`, operators between vectors) collects them, and that
//! is what the limit on memory counts.

use std::cell::Cell;
use std::time::{Duration, Instant as Moment};

use crate::server::promql::ast::{At, BinOp, Binary, Card, Expr, Node, Selector, Shift, Type};
use crate::server::promql::error::PromError;
use crate::server::promql::labels::{LabelSet, Unique};
use crate::server::promql::value::{ABSENT, is_absent};
use crate::server::promql::{Samples, Source, Span};

mod aggregate;
mod binary;
mod call;
mod histogram;
mod label;
mod query;
mod window;

pub(crate) use query::{Instant, LOOKBACK_MS, Query, SUBQUERY_STEP_MS, is_ordered};

/// What one query may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Samples that it may read or make.
    pub samples: u64,
    /// Series that it may read.
    pub series: u64,
    /// Bytes of series that it may hold at a time.
    pub bytes: usize,
    /// Steps of a subquery.
    pub subquery_steps: i64,
    /// How long it may take.
    pub time: Duration,
}

/// The times at which an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    /// The first, Unix milliseconds.
    pub start_ms: i64,
    /// Between two.
    pub step_ms: i64,
    /// How many.
    pub count: usize,
}

impl Steps {
    /// The time of a step.
    pub(crate) fn time(&self, index: usize) -> i64 {
        self.start_ms + self.step_ms * index as i64
    }
}

/// A series with a value at each step, [`ABSENT`] where it has none.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Its labels.
    pub labels: LabelSet,
    /// A value at each step.
    pub values: Vec<f64>,
}

/// Takes series one at a time. The values may be changed and taken.
type Sink<'a> = &'a mut dyn FnMut(LabelSet, &mut Vec<f64>) -> Result<(), PromError>;

type Outcome<T = ()> = Result<T, PromError>;

/// One query under way.
pub(crate) struct Eval<'a> {
    source: &'a dyn Source,
    limits: Limits,
    lookback_ms: i64,
    /// First and last step of the query, for `@ start()` and `@ end()`.
    whole: (i64, i64),
    deadline: Moment,
    canceled: &'a dyn Fn() -> bool,
    samples: Cell<u64>,
    series: Cell<u64>,
    bytes: Cell<usize>,
}

/// Series that an expression holds until it is done with them.
struct Held<'e, 'a> {
    eval: &'e Eval<'a>,
    bytes: usize,
    rows: Vec<Row>,
}

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        self.eval.bytes.set(self.eval.bytes.get().saturating_sub(self.bytes));
    }
}

impl<'a> Eval<'a> {
    /// Counts a series with its samples, and ends a query that is over a limit.
    fn spend(&self, samples: usize) -> Outcome {
        let samples = self.samples.get().saturating_add(samples as u64);
        self.samples.set(samples);
        if samples > self.limits.samples {
            return Err(PromError::execution(
                "query processing would load too many samples into memory in query execution",
            ));
        }
        if (self.canceled)() {
            return Err(PromError::Canceled);
        }
        if Moment::now() > self.deadline {
            return Err(PromError::Timeout);
        }
        Ok(())
    }

    fn spend_series(&self, samples: usize) -> Outcome {
        let series = self.series.get() + 1;
        self.series.set(series);
        if series > self.limits.series {
            let message = format!(
                "the query selects over {} series; narrow its selectors",
                self.limits.series
            );
            return Err(PromError::Execution(message));
        }
        self.spend(samples)
    }

    fn hold(&self, bytes: usize) -> Outcome {
        let held = self.bytes.get().saturating_add(bytes);
        self.bytes.set(held);
        if held > self.limits.bytes {
            let message = format!(
                "the query needs over {} MiB of memory at once; narrow its selectors, take a \
                 longer step or aggregate first",
                self.limits.bytes / (1024 * 1024)
            );
            return Err(PromError::Execution(message));
        }
        Ok(())
    }

    /// Every series of an expression at once.
    fn collect<'e>(&'e self, expr: &Expr, steps: Steps) -> Outcome<Held<'e, 'a>> {
        let mut held = Held { eval: self, bytes: 0, rows: Vec::new() };
        self.series(expr, steps, &mut |labels, values| {
            let bytes = labels.bytes() + values.len() * 8 + 48;
            held.bytes += bytes;
            self.hold(bytes)?;
            held.rows.push(Row { labels, values: std::mem::take(values) });
            Ok(())
        })?;
        Ok(held)
    }

    /// Hands each series of an expression of type vector to `out`.
    fn series(&self, expr: &Expr, steps: Steps, out: Sink<'_>) -> Outcome {
        match &expr.node {
            Node::Paren(inner) => self.series(inner, steps, out),
            Node::Select(selector) => self.instant(selector, steps, false, out),
            Node::Negate(inner) => {
                let mut unique = Unique::default();
                self.series(inner, steps, &mut |labels, values| {
                    let labels = renamed(labels, &mut unique)?;
                    each(values, |value| -value);
                    out(labels, values)
                })
            }
            Node::Aggregate(aggregate) => self.aggregate(aggregate, steps, out),
            Node::Call(function, args) => self.call(function, args, steps, out),
            Node::Binary(binary) => self.binary(binary, steps, out),
            Node::Number(_) | Node::Text(_) | Node::Range(..) | Node::Subquery(_) => {
                // The parser lets no other type get here.
                Err(PromError::execution("expected an instant vector"))
            }
        }
    }

    fn binary(&self, binary: &Binary, steps: Steps, out: Sink<'_>) -> Outcome {
        match (binary.lhs.kind(), binary.rhs.kind()) {
            (Type::Vector, Type::Vector) if binary.matching.card == Card::ManyToMany => {
                self.set_operator(binary, steps, out)
            }
            (Type::Vector, Type::Vector) => self.vectors(binary, steps, out),
            (Type::Vector, _) => {
                let numbers = self.scalar(&binary.rhs, steps)?;
                self.with_numbers(binary, &binary.lhs, &numbers, false, steps, out)
            }
            _ => {
                let numbers = self.scalar(&binary.lhs, steps)?;
                self.with_numbers(binary, &binary.rhs, &numbers, true, steps, out)
            }
        }
    }

    /// An operator between a vector and a number.
    fn with_numbers(
        &self,
        binary: &Binary,
        vector: &Expr,
        numbers: &[f64],
        number_first: bool,
        steps: Steps,
        out: Sink<'_>,
    ) -> Outcome {
        let op = binary.op;
        let filters = op.compares() && !binary.returns_bool;
        let mut unique = Unique::default();
        self.series(vector, steps, &mut |labels, values| {
            let labels = if filters { labels } else { renamed(labels, &mut unique)? };
            for (value, &number) in values.iter_mut().zip(numbers) {
                if is_absent(*value) {
                    continue;
                }
                let (left, right) = if number_first { (number, *value) } else { (*value, number) };
                let result = binary::apply(op, left, right);
                *value = match (filters, result != 0.0) {
                    (true, true) => *value,
                    (true, false) => ABSENT,
                    (false, _) => result,
                };
            }
            out(labels, values)
        })
    }

    /// The value at each step of an expression of type scalar.
    fn scalar(&self, expr: &Expr, steps: Steps) -> Outcome<Vec<f64>> {
        self.spend(0)?;
        match &expr.node {
            Node::Number(number) => Ok(vec![*number; steps.count]),
            Node::Paren(inner) => self.scalar(inner, steps),
            Node::Negate(inner) => {
                let mut values = self.scalar(inner, steps)?;
                values.iter_mut().for_each(|value| *value = -*value);
                Ok(values)
            }
            Node::Binary(binary) => {
                let mut values = self.scalar(&binary.lhs, steps)?;
                let others = self.scalar(&binary.rhs, steps)?;
                for (value, other) in values.iter_mut().zip(others) {
                    *value = binary::apply(binary.op, *value, other);
                }
                Ok(values)
            }
            Node::Call(function, args) => self.scalar_call(function, args, steps),
            _ => Err(PromError::execution("expected a scalar")),
        }
    }

    /// The newest sample of each series at each step, or its time in seconds.
    fn instant(&self, selector: &Selector, steps: Steps, times: bool, out: Sink<'_>) -> Outcome {
        let at = Shifted::new(selector.shift, steps, self.whole);
        let from_ms = at.time(0).saturating_sub(self.lookback_ms).saturating_add(1);
        let to_ms = at.last();
        let span = Span { from_ms, to_ms, newest_only: at.time(0) == to_ms };
        let mut values = Vec::new();
        self.source.select(&selector.matchers, span, &mut |labels, samples| {
            self.spend_series(samples.len())?;
            values.clear();
            let found = window::newest(samples, &at, self.lookback_ms, times, &mut values);
            if !found {
                return Ok(());
            }
            self.spend(steps.count)?;
            out(labels, &mut values)
        })
    }

    /// The samples of each series that any step of a window of type matrix needs, and the window.
    fn windows(
        &self,
        expr: &Expr,
        steps: Steps,
        visit: &mut dyn FnMut(LabelSet, Samples<'_>, &Shifted) -> Outcome,
    ) -> Outcome {
        match &expr.bare().node {
            Node::Range(selector, range_ms) => {
                let at = Shifted {
                    range_ms: *range_ms,
                    ..Shifted::new(selector.shift, steps, self.whole)
                };
                let from = at.time(0).saturating_sub(*range_ms).saturating_add(1);
                let span = Span::all(from, at.last());
                self.source.select(&selector.matchers, span, &mut |labels, samples| {
                    self.spend_series(samples.len())?;
                    visit(labels, samples, &at)
                })
            }
            Node::Subquery(sub) => {
                let at = Shifted {
                    range_ms: sub.range_ms,
                    ..Shifted::new(sub.shift, steps, self.whole)
                };
                let step_ms = sub.step_ms.unwrap_or(query::SUBQUERY_STEP_MS);
                let Some(inner) = at.subquery_steps(step_ms) else { return Ok(()) };
                if inner.count as i64 > self.limits.subquery_steps {
                    let message = format!(
                        "the subquery has {} steps, and at most {} are taken; take a longer step \
                         or a shorter range",
                        inner.count, self.limits.subquery_steps
                    );
                    return Err(PromError::Execution(message));
                }
                let mut samples = Vec::new();
                self.series(&sub.expr, inner, &mut |labels, values| {
                    samples.clear();
                    let present =
                        values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
                    samples.extend(present.map(|(index, value)| (inner.time(index), *value)));
                    if samples.is_empty() { Ok(()) } else { visit(labels, &samples, &at) }
                })
            }
            _ => Err(PromError::execution("expected a range vector")),
        }
    }
}

/// When the steps of an outer expression are, as an `offset` or an `@` moves them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shifted {
    steps: Steps,
    offset_ms: i64,
    fixed_ms: Option<i64>,
    range_ms: i64,
}

impl Shifted {
    fn new(shift: Shift, steps: Steps, whole: (i64, i64)) -> Self {
        let fixed_ms = shift.at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => whole.0,
            At::End => whole.1,
        });
        Self { steps, offset_ms: shift.offset_ms, fixed_ms, range_ms: 0 }
    }

    /// The time that is looked at for a step.
    fn time(&self, index: usize) -> i64 {
        self.fixed_ms.unwrap_or_else(|| self.steps.time(index)) - self.offset_ms
    }

    /// The last of them.
    fn last(&self) -> i64 {
        self.time(self.steps.count.saturating_sub(1))
    }

    /// The multiples of `step_ms` that the windows hold.
    fn subquery_steps(&self, step_ms: i64) -> Option<Steps> {
        let after = self.time(0) - self.range_ms;
        let start_ms = (after.div_euclid(step_ms) + 1) * step_ms;
        let count = (self.last() - start_ms).div_euclid(step_ms) + 1;
        let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
        Some(Steps { start_ms, step_ms, count })
    }
}

/// Changes every value that is there.
fn each(values: &mut [f64], change: impl Fn(f64) -> f64) {
    values.iter_mut().filter(|value| !is_absent(**value)).for_each(|value| *value = change(*value));
}

/// The labels without the metric's name, which no other series may have then.
fn renamed(labels: LabelSet, unique: &mut Unique) -> Outcome<LabelSet> {
    let labels = labels.nameless();
    if unique.add(&labels) { Ok(labels) } else { Err(same_labels()) }
}

fn same_labels() -> PromError {
    PromError::execution("vector cannot contain metrics with the same labelset")
}

/// Whether an operator gives the left value or nothing.
fn keeps_value(op: BinOp, returns_bool: bool) -> bool {
    op.compares() && !returns_bool
}
