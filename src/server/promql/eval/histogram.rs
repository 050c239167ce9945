//! Quantiles of classic histograms: cumulative buckets with their upper bound in `le`.

use std::collections::HashMap;

use super::call::argument;
use super::{ABSENT, Eval, Outcome, Row, Sink, Steps, is_absent};
use crate::server::promql::ast::Expr;
use crate::server::promql::labels::LabelSet;

/// Differences between buckets below this are the noise of sums (relative).
const NOISE: f64 = 1e-12;

/// Upper bound and count of observations up to it.
type Bucket = (f64, f64);

impl Eval<'_> {
    pub(super) fn histogram_quantile(&self, args: &[Expr], steps: Steps, out: Sink<'_>) -> Outcome {
        let quantiles = self.scalar(argument(args, 0)?, steps)?;
        let mut held = self.collect(argument(args, 1)?, steps)?;
        let rows = std::mem::take(&mut held.rows);
        let mut order: Vec<LabelSet> = Vec::new();
        let mut groups: HashMap<LabelSet, Vec<(f64, Row)>> = HashMap::new();
        for row in rows {
            let Ok(bound) = row.labels.get("le").parse::<f64>() else { continue };
            let mut key = row.labels.clone().nameless();
            key.set("le", "");
            if !groups.contains_key(&key) {
                order.push(key.clone());
            }
            groups.entry(key).or_default().push((bound, row));
        }
        let mut buckets: Vec<Bucket> = Vec::new();
        for labels in order {
            let Some(mut rows) = groups.remove(&labels) else { continue };
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut values = Vec::with_capacity(steps.count);
            for (index, &quantile) in quantiles.iter().enumerate() {
                let present = rows.iter().map(|(bound, row)| (*bound, row.values[index]));
                buckets.clear();
                buckets.extend(present.filter(|(_, count)| !is_absent(*count)));
                let none = buckets.is_empty();
                values.push(if none { ABSENT } else { bucket_quantile(quantile, &mut buckets) });
            }
            self.spend(0)?;
            out(labels, &mut values)?;
        }
        Ok(())
    }
}

/// The quantile of a histogram, as if observations lay evenly in each bucket. `buckets` are sorted
/// by their bounds.
fn bucket_quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        return f64::NAN;
    }
    // Buckets of the same bound, written in two ways, are one.
    buckets.dedup_by(|next, before| {
        let same = next.0 == before.0;
        if same {
            before.1 += next.1;
        }
        same
    });
    make_monotonic(buckets);
    let [.., below_last, last] = buckets.as_slice() else { return f64::NAN };
    if last.1 == 0.0 || last.1.is_nan() {
        return f64::NAN;
    }
    let mut rank = quantile * last.1;
    let finite = &buckets[..buckets.len() - 1];
    let at = finite.iter().position(|bucket| bucket.1 >= rank);
    let Some(at) = at else { return below_last.0 };
    let (end, mut count) = buckets[at];
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if let Some(&(bound, below)) = at.checked_sub(1).and_then(|before| buckets.get(before)) {
        start = bound;
        count -= below;
        rank -= below;
    }
    start + (end - start) * (rank / count)
}

/// Counts that fall, as those of buckets scraped at different moments may, are raised.
fn make_monotonic(buckets: &mut [Bucket]) {
    let mut before: Option<f64> = None;
    for (_, count) in buckets {
        if let Some(before) = before {
            let difference = (before - *count).abs();
            let near = difference <= NOISE * (before.abs() + count.abs()).min(f64::MAX);
            if near || *count < before {
                *count = before;
            }
        }
        before = Some(*count);
    }
}
