//! Functions that set labels or look at them.

use std::cmp::Ordering;

use super::call::{argument, text};
use super::{Eval, Outcome, Row, Sink, Steps, same_labels};
use crate::server::promql::ast::Expr;
use crate::server::promql::error::PromError;
use crate::server::promql::functions::Order;
use crate::server::promql::labels::Unique;
use crate::server::promql::matcher::anchored;

impl Eval<'_> {
    pub(super) fn label_replace(&self, args: &[Expr], steps: Steps, out: Sink<'_>) -> Outcome {
        let (target, replacement) = (text(args, 1)?, text(args, 2)?);
        let (source, pattern) = (text(args, 3)?, text(args, 4)?);
        let regex = anchored(pattern).map_err(|_| {
            PromError::Execution(format!(
                "invalid regular expression in label_replace(): {pattern}"
            ))
        })?;
        check_name(target, "label_replace")?;
        let mut captures = regex.create_captures();
        let mut unique = Unique::default();
        self.series(argument(args, 0)?, steps, &mut |mut labels, values| {
            let value = labels.get(source).to_owned();
            regex.captures(&value, &mut captures);
            if captures.is_match() {
                labels.set(target, &captures.interpolate_string(&value, replacement));
            }
            if unique.add(&labels) { out(labels, values) } else { Err(same_labels()) }
        })
    }

    pub(super) fn label_join(&self, args: &[Expr], steps: Steps, out: Sink<'_>) -> Outcome {
        let (target, separator) = (text(args, 1)?, text(args, 2)?);
        check_name(target, "label_join")?;
        let sources: Vec<&str> =
            (3..args.len()).map(|place| text(args, place)).collect::<Outcome<_>>()?;
        let mut unique = Unique::default();
        self.series(argument(args, 0)?, steps, &mut |mut labels, values| {
            let parts: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
            let joined = parts.join(separator);
            labels.set(target, &joined);
            if unique.add(&labels) { out(labels, values) } else { Err(same_labels()) }
        })
    }

    pub(super) fn sort(&self, arg: &Expr, order: Order, steps: Steps, out: Sink<'_>) -> Outcome {
        self.in_order(arg, steps, out, |a, b| {
            let first = |row: &Row| row.values.first().copied().unwrap_or(f64::NAN);
            let (a, b) = (first(a), first(b));
            let by_value = a.total_cmp(&b);
            let by_value = if order == Order::Down { by_value.reverse() } else { by_value };
            a.is_nan().cmp(&b.is_nan()).then(by_value)
        })
    }

    pub(super) fn sort_by_label(
        &self,
        args: &[Expr],
        order: Order,
        steps: Steps,
        out: Sink<'_>,
    ) -> Outcome {
        let names: Vec<&str> =
            (1..args.len()).map(|place| text(args, place)).collect::<Outcome<_>>()?;
        self.in_order(argument(args, 0)?, steps, out, |a, b| {
            let by = |name: &&str| natural(a.labels.get(name), b.labels.get(name));
            let all = names.iter().map(by).find(|found| found.is_ne());
            let found = all.unwrap_or_else(|| a.labels.cmp(&b.labels));
            if order == Order::Down { found.reverse() } else { found }
        })
    }

    /// An order is part of an instant query's answer only.
    fn in_order(
        &self,
        arg: &Expr,
        steps: Steps,
        out: Sink<'_>,
        compare: impl Fn(&Row, &Row) -> Ordering,
    ) -> Outcome {
        if steps.count != 1 {
            return self.series(arg, steps, out);
        }
        let mut held = self.collect(arg, steps)?;
        held.rows.sort_by(compare);
        for mut row in std::mem::take(&mut held.rows) {
            out(row.labels, &mut row.values)?;
        }
        Ok(())
    }
}

fn check_name(name: &str, function: &str) -> Outcome {
    if !name.is_empty() {
        return Ok(());
    }
    let message = format!("invalid destination label name in {function}(): {name}");
    Err(PromError::Execution(message))
}

/// Digits compare as numbers: `cpu2` before `cpu10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        match (digits(a), digits(b)) {
            (0, _) | (_, 0) => {
                let (Some(left), Some(right)) = (a.chars().next(), b.chars().next()) else {
                    return a.len().cmp(&b.len());
                };
                if left != right {
                    return left.cmp(&right);
                }
                (a, b) = (&a[left.len_utf8()..], &b[right.len_utf8()..]);
            }
            (left, right) => {
                let (x, y) =
                    (a[..left].trim_start_matches('0'), b[..right].trim_start_matches('0'));
                let found = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
                if found.is_ne() {
                    return found;
                }
                (a, b) = (&a[left..], &b[right..]);
            }
        }
    }
}
