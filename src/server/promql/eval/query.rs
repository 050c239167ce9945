//! A query from outside: instant or range, and its result.

use std::cell::Cell;
use std::time::Instant as Moment;

use super::{Eval, Limits, Row, Steps, is_absent};
use crate::server::promql::Source;
use crate::server::promql::ast::{Expr, Node, Type};
use crate::server::promql::error::PromError;
use crate::server::promql::functions::Does;
use crate::server::promql::labels::LabelSet;

/// How old a sample may be that a selector still gives.
pub(crate) const LOOKBACK_MS: i64 = 300_000;
/// The step of a subquery that names none: Prometheus' default `evaluation_interval`.
pub(crate) const SUBQUERY_STEP_MS: i64 = 60_000;

/// What a query is evaluated over, and what it may cost.
pub(crate) struct Query<'a> {
    /// Where series come from.
    pub source: &'a dyn Source,
    /// What it may cost.
    pub limits: Limits,
    /// How old a sample may be that a selector still gives.
    pub lookback_ms: i64,
    /// Whether nobody waits for the result any more.
    pub canceled: &'a dyn Fn() -> bool,
}

/// A series with its samples: Unix milliseconds and value.
pub(super) type Series = (LabelSet, Vec<(i64, f64)>);

/// The result of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Instant {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// A value of each series.
    Vector(Vec<(LabelSet, f64)>),
    /// Samples of each series.
    Matrix(Vec<Series>),
}

/// The result of a range query: series sorted by their labels, each with the steps at which it
/// has a value.
#[derive(Debug)]
pub(crate) struct Value {
    /// A value at each step, or the mark of none.
    pub rows: Vec<Row>,
}

impl Query<'_> {
    fn eval(&self, start_ms: i64, end_ms: i64) -> Eval<'_> {
        Eval {
            source: self.source,
            limits: self.limits,
            lookback_ms: self.lookback_ms,
            whole: (start_ms, end_ms),
            deadline: Moment::now() + self.limits.time,
            canceled: self.canceled,
            samples: Cell::new(0),
            series: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// Evaluates at one time.
    ///
    /// # Errors
    ///
    /// What the data does not allow, a limit, or the store's.
    pub(crate) fn instant(&self, expr: &Expr, at_ms: i64) -> Result<Instant, PromError> {
        let eval = self.eval(at_ms, at_ms);
        let steps = Steps { start_ms: at_ms, step_ms: 1, count: 1 };
        match expr.kind() {
            Type::Text => match &expr.bare().node {
                Node::Text(text) => Ok(Instant::Text(text.clone())),
                _ => Err(PromError::execution("expected a string")),
            },
            Type::Scalar => {
                let values = eval.scalar(expr, steps)?;
                Ok(Instant::Scalar(values.first().copied().unwrap_or(f64::NAN)))
            }
            Type::Vector => {
                let mut held = eval.collect(expr, steps)?;
                let rows = std::mem::take(&mut held.rows);
                let value = |row: Row| Some((row.labels, *row.values.first()?));
                let mut out: Vec<(LabelSet, f64)> = rows.into_iter().filter_map(value).collect();
                out.retain(|(_, value)| !is_absent(*value));
                if !is_ordered(expr) {
                    out.sort_by(|a, b| a.0.cmp(&b.0));
                }
                Ok(Instant::Vector(out))
            }
            Type::Matrix => matrix(&eval, expr, steps).map(Instant::Matrix),
        }
    }

    /// Evaluates at each step. `end_ms` is the time that `@ end()` stands for, which may be after
    /// the last step.
    ///
    /// # Errors
    ///
    /// As [`Self::instant`], or that the expression gives no series.
    pub(crate) fn range(&self, expr: &Expr, steps: Steps, end_ms: i64) -> Result<Value, PromError> {
        let eval = self.eval(steps.start_ms, end_ms);
        let rows = match expr.kind() {
            Type::Scalar => {
                let values = eval.scalar(expr, steps)?;
                vec![Row { labels: LabelSet::default(), values }]
            }
            Type::Vector => {
                let mut held = eval.collect(expr, steps)?;
                let mut rows = std::mem::take(&mut held.rows);
                rows.retain(|row| row.values.iter().any(|value| !is_absent(*value)));
                rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                rows
            }
            kind => {
                let kind = kind.name();
                return Err(PromError::Execution(format!(
                    "invalid expression type {kind:?} for range query, must be Scalar or instant \
                     Vector"
                )));
            }
        };
        Ok(Value { rows })
    }
}

/// Whether the order of an expression's series is a part of its result.
pub(crate) fn is_ordered(expr: &Expr) -> bool {
    match &expr.bare().node {
        Node::Call(function, _) => matches!(function.does, Does::Sort(_) | Does::SortByLabel(_)),
        Node::Aggregate(aggregate) => aggregate.op.param() == Some(Type::Scalar),
        _ => false,
    }
}

/// The samples of a window as they are.
fn matrix(eval: &Eval<'_>, expr: &Expr, steps: Steps) -> Result<Vec<Series>, PromError> {
    let mut out: Vec<Series> = Vec::new();
    eval.windows(expr, steps, &mut |labels, samples, at| {
        eval.hold(labels.bytes() + samples.len() * 16)?;
        let (from, to) = (at.time(0) - at.range_ms, at.time(0));
        let inside = samples.iter().filter(|sample| sample.0 > from && sample.0 <= to);
        let inside: Vec<(i64, f64)> = inside.copied().collect();
        if !inside.is_empty() {
            out.push((labels, inside));
        }
        Ok(())
    })?;
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}
