//! Aggregations. Those that can, add up a series and forget it.

use std::collections::HashMap;

use super::{ABSENT, Eval, Outcome, Row, Sink, Steps, is_absent};
use crate::server::promql::ast::{AggOp, Aggregate, Node};
use crate::server::promql::error::PromError;
use crate::server::promql::functions::over::quantile_of;
use crate::server::promql::labels::LabelSet;
use crate::server::promql::number_text;

/// Steps whose values are gathered at once: as many as a line of the processor's cache holds.
const STEPS_AT_ONCE: usize = 8;

/// What a group has added up: a column a figure, a row a step.
#[derive(Default)]
struct Sums {
    count: Vec<f64>,
    /// Sum, extreme or mean.
    main: Vec<f64>,
    /// What the additions to `main` lost.
    lost: Vec<f64>,
    /// Squares of the differences from the mean.
    squares: Vec<f64>,
}

impl Sums {
    fn new(op: AggOp, steps: usize) -> Self {
        let column = |needed: bool| if needed { vec![0.0; steps] } else { Vec::new() };
        let varies = matches!(op, AggOp::Stddev | AggOp::Stdvar);
        Self {
            count: column(true),
            main: column(!matches!(op, AggOp::Count | AggOp::Group)),
            lost: column(varies || matches!(op, AggOp::Sum | AggOp::Avg)),
            squares: column(varies),
        }
    }

    fn bytes(&self) -> usize {
        8 * (self.count.len() + self.main.len() + self.lost.len() + self.squares.len())
    }

    fn add(&mut self, op: AggOp, values: &[f64]) {
        match op {
            AggOp::Count | AggOp::Group => {
                for (count, value) in self.count.iter_mut().zip(values) {
                    *count += f64::from(u8::from(!is_absent(*value)));
                }
            }
            AggOp::Min => self.extreme(values, |value, so_far| value < so_far),
            AggOp::Max => self.extreme(values, |value, so_far| value > so_far),
            AggOp::Stddev | AggOp::Stdvar => self.vary(values),
            _ => self.total(values),
        }
    }

    fn total(&mut self, values: &[f64]) {
        let sums = self.main.iter_mut().zip(&mut self.lost).zip(&mut self.count);
        for (((sum, lost), count), &value) in sums.zip(values) {
            if is_absent(value) {
                continue;
            }
            *count += 1.0;
            let next = *sum + value;
            if next.is_infinite() {
                *lost = 0.0;
            } else if sum.abs() >= value.abs() {
                *lost += (*sum - next) + value;
            } else {
                *lost += (value - next) + *sum;
            }
            *sum = next;
        }
    }

    fn extreme(&mut self, values: &[f64], beats: impl Fn(f64, f64) -> bool) {
        for ((so_far, count), &value) in self.main.iter_mut().zip(&mut self.count).zip(values) {
            if is_absent(value) {
                continue;
            }
            if *count == 0.0 || beats(value, *so_far) || so_far.is_nan() {
                *so_far = value;
            }
            *count += 1.0;
        }
    }

    /// Welford's method.
    fn vary(&mut self, values: &[f64]) {
        let sums = self.main.iter_mut().zip(&mut self.squares).zip(&mut self.count);
        for (((mean, squares), count), &value) in sums.zip(values) {
            if is_absent(value) {
                continue;
            }
            *count += 1.0;
            let delta = value - *mean;
            *mean += delta / *count;
            *squares += delta * (value - *mean);
        }
    }

    fn values(self, op: AggOp) -> Vec<f64> {
        let at = |column: &Vec<f64>, index: usize| column.get(index).copied().unwrap_or(0.0);
        let value = |(index, &count): (usize, &f64)| {
            if count == 0.0 {
                return ABSENT;
            }
            match op {
                AggOp::Count => count,
                AggOp::Group => 1.0,
                AggOp::Sum => at(&self.main, index) + at(&self.lost, index),
                AggOp::Avg => at(&self.main, index) / count + at(&self.lost, index) / count,
                AggOp::Stdvar => at(&self.squares, index) / count,
                AggOp::Stddev => (at(&self.squares, index) / count).sqrt(),
                _ => at(&self.main, index),
            }
        };
        self.count.iter().enumerate().map(value).collect()
    }
}

/// Groups in the order in which they came.
struct Groups<T> {
    places: HashMap<LabelSet, usize>,
    found: Vec<(LabelSet, T)>,
}

impl<T> Groups<T> {
    fn new() -> Self {
        Self { places: HashMap::new(), found: Vec::new() }
    }

    /// The group's content, made by `new` where the group is new.
    fn get(&mut self, key: LabelSet, new: impl FnOnce() -> Outcome<T>) -> Outcome<&mut T> {
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => {
                self.found.push((key.clone(), new()?));
                self.places.insert(key, self.found.len() - 1);
                self.found.len() - 1
            }
        };
        Ok(&mut self.found[place].1)
    }
}

impl Eval<'_> {
    pub(super) fn aggregate(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        match agg.op {
            AggOp::Quantile => self.quantile(agg, steps, out),
            AggOp::Topk | AggOp::Bottomk => self.ranked(agg, steps, out),
            AggOp::CountValues => self.count_values(agg, steps, out),
            AggOp::Limitk => self.first_of_each(agg, steps, out),
            AggOp::LimitRatio => self.share(agg, steps, out),
            op => {
                let mut groups = Groups::new();
                self.series(&agg.expr, steps, &mut |labels, values| {
                    let key = key(agg, &labels);
                    let sums = groups.get(key, || {
                        let sums = Sums::new(op, steps.count);
                        self.hold(sums.bytes() + labels.bytes())?;
                        Ok(sums)
                    })?;
                    sums.add(op, values);
                    Ok(())
                })?;
                for (labels, sums) in groups.found {
                    out(labels, &mut sums.values(op))?;
                }
                Ok(())
            }
        }
    }

    fn param(&self, agg: &Aggregate, steps: Steps) -> Outcome<Vec<f64>> {
        match &agg.param {
            Some(param) => self.scalar(param, steps),
            None => Ok(vec![f64::NAN; steps.count]),
        }
    }

    fn quantile(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        let quantiles = self.param(agg, steps)?;
        let mut held = self.collect(&agg.expr, steps)?;
        let rows = std::mem::take(&mut held.rows);
        let mut block: [Vec<f64>; STEPS_AT_ONCE] = Default::default();
        for (labels, rows) in grouped(agg, rows)? {
            let mut values = Vec::with_capacity(steps.count);
            for start in (0..steps.count).step_by(STEPS_AT_ONCE) {
                block.iter_mut().for_each(Vec::clear);
                for row in &rows {
                    for (column, &value) in block.iter_mut().zip(&row.values[start..]) {
                        if !is_absent(value) {
                            column.push(value);
                        }
                    }
                }
                for (column, &quantile) in block.iter_mut().zip(&quantiles[start..]) {
                    let none = column.is_empty();
                    values.push(if none { ABSENT } else { quantile_of(quantile, column) });
                }
            }
            self.spend(0)?;
            out(labels, &mut values)?;
        }
        Ok(())
    }

    /// `topk` and `bottomk`: the series themselves, where they are among the first.
    fn ranked(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        let counts = self.param(agg, steps)?;
        if counts.iter().any(|count| count.is_nan()) {
            return Err(PromError::execution("Parameter value is NaN"));
        }
        let mut held = self.collect(&agg.expr, steps)?;
        let rows = std::mem::take(&mut held.rows);
        let top = agg.op == AggOp::Topk;
        for (_, mut rows) in grouped(agg, rows)? {
            let mut order: Vec<usize> = Vec::new();
            for (index, &count) in counts.iter().enumerate() {
                order.clear();
                order.extend((0..rows.len()).filter(|&row| !is_absent(rows[row].values[index])));
                order.sort_by(|&a, &b| {
                    let (a, b) = (rows[a].values[index], rows[b].values[index]);
                    let by_value = if top { b.total_cmp(&a) } else { a.total_cmp(&b) };
                    a.is_nan().cmp(&b.is_nan()).then(by_value)
                });
                let kept = if count < 1.0 { 0 } else { count as usize };
                for &row in order.iter().skip(kept) {
                    rows[row].values[index] = ABSENT;
                }
            }
            self.spend(0)?;
            if steps.count > 1 {
                order = (0..rows.len()).collect();
            }
            for row in order {
                let row = &mut rows[row];
                if row.values.iter().any(|value| !is_absent(*value)) {
                    out(std::mem::take(&mut row.labels), &mut row.values)?;
                }
            }
        }
        Ok(())
    }

    /// `limitk`: the first series of each group by their labels.
    fn first_of_each(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        let counts = self.param(agg, steps)?;
        if counts.iter().any(|count| count.is_nan()) {
            return Err(PromError::execution("Parameter value is NaN"));
        }
        let mut held = self.collect(&agg.expr, steps)?;
        let mut rows = std::mem::take(&mut held.rows);
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        for (_, mut rows) in grouped(agg, rows)? {
            for (index, &count) in counts.iter().enumerate() {
                let mut left = if count < 1.0 { 0 } else { count as usize };
                for value in rows.iter_mut().map(|row| &mut row.values[index]) {
                    if left == 0 {
                        *value = ABSENT;
                    } else if !is_absent(*value) {
                        left -= 1;
                    }
                }
            }
            for row in &mut rows {
                if row.values.iter().any(|value| !is_absent(*value)) {
                    out(std::mem::take(&mut row.labels), &mut row.values)?;
                }
            }
        }
        Ok(())
    }

    /// `limit_ratio`: a share of all series, by a hash of their labels; a negative ratio gives the
    /// others.
    fn share(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        let ratios = self.param(agg, steps)?;
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            return Err(PromError::execution("Ratio value is NaN"));
        }
        self.series(&agg.expr, steps, &mut |labels, values| {
            let place = labels.fingerprint() as f64 / u64::MAX as f64;
            for (value, &ratio) in values.iter_mut().zip(&ratios) {
                let ratio = ratio.clamp(-1.0, 1.0);
                let is_in = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
                if !is_in {
                    *value = ABSENT;
                }
            }
            if values.iter().all(|value| is_absent(*value)) { Ok(()) } else { out(labels, values) }
        })
    }

    fn count_values(&self, agg: &Aggregate, steps: Steps, out: Sink<'_>) -> Outcome {
        let Some(Node::Text(name)) = agg.param.as_ref().map(|param| &param.bare().node) else {
            return Err(PromError::execution("count_values needs the name of a label"));
        };
        if name.is_empty() {
            return Err(PromError::execution("invalid label name \"\""));
        }
        let mut groups: Groups<Vec<f64>> = Groups::new();
        self.series(&agg.expr, steps, &mut |labels, values| {
            let key = key(agg, &labels);
            for (index, value) in values.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
                let mut key = key.clone();
                key.set(name, &number_text(*value));
                let bytes = key.bytes() + steps.count * 8;
                let counts = groups.get(key, || {
                    self.hold(bytes)?;
                    Ok(vec![ABSENT; steps.count])
                })?;
                counts[index] = if is_absent(counts[index]) { 1.0 } else { counts[index] + 1.0 };
            }
            Ok(())
        })?;
        for (labels, mut values) in groups.found {
            out(labels, &mut values)?;
        }
        Ok(())
    }
}

fn key(agg: &Aggregate, labels: &LabelSet) -> LabelSet {
    labels.group(!agg.without, &agg.labels)
}

fn grouped(agg: &Aggregate, rows: Vec<Row>) -> Outcome<Vec<(LabelSet, Vec<Row>)>> {
    let mut groups: Groups<Vec<Row>> = Groups::new();
    for row in rows {
        groups.get(key(agg, &row.labels), || Ok(Vec::new()))?.push(row);
    }
    Ok(groups.found)
}
