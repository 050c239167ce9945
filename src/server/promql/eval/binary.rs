//! Operators between vectors.

use std::collections::HashMap;

use super::{ABSENT, Eval, Outcome, Row, Sink, Steps, is_absent, keeps_value};
use crate::server::promql::ast::{BinOp, Binary, Card, Matching};
use crate::server::promql::error::PromError;
use crate::server::promql::labels::LabelSet;

/// What an operator makes of two numbers; comparisons give 1 or 0.
pub(super) fn apply(op: BinOp, left: f64, right: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinOp::Add => left + right,
        BinOp::Sub => left - right,
        BinOp::Mul => left * right,
        BinOp::Div => left / right,
        BinOp::Mod => left % right,
        BinOp::Pow => left.powf(right),
        BinOp::Atan2 => left.atan2(right),
        BinOp::Eq => truth(left == right),
        BinOp::Ne => truth(left != right),
        BinOp::Lt => truth(left < right),
        BinOp::Le => truth(left <= right),
        BinOp::Gt => truth(left > right),
        BinOp::Ge => truth(left >= right),
        BinOp::And | BinOp::Or | BinOp::Unless => f64::NAN,
    }
}

/// Series of both sides that belong together, by their place.
#[derive(Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// The series of a result, in which series with the same labels become one.
struct Output {
    rows: Vec<Row>,
    places: HashMap<LabelSet, usize>,
    complaint: &'static str,
}

impl Output {
    fn put(&mut self, labels: LabelSet, values: Vec<f64>) -> Outcome {
        let Some(&place) = self.places.get(&labels) else {
            self.places.insert(labels.clone(), self.rows.len());
            self.rows.push(Row { labels, values });
            return Ok(());
        };
        for (there, value) in self.rows[place].values.iter_mut().zip(values) {
            if is_absent(*there) {
                *there = value;
            } else if !is_absent(value) {
                return Err(PromError::execution(self.complaint));
            }
        }
        Ok(())
    }
}

impl Eval<'_> {
    /// An operator that takes one series of each side, or several of one.
    pub(super) fn vectors(&self, binary: &Binary, steps: Steps, out: Sink<'_>) -> Outcome {
        let matching = &binary.matching;
        let mut lhs = self.collect(&binary.lhs, steps)?;
        let mut rhs = self.collect(&binary.rhs, steps)?;
        if lhs.rows.is_empty() || rhs.rows.is_empty() {
            return Ok(());
        }
        let many_left = matching.card != Card::OneToMany;
        let (many, one) =
            if many_left { (&mut lhs.rows, &mut rhs.rows) } else { (&mut rhs.rows, &mut lhs.rows) };
        let mut groups: HashMap<LabelSet, Group> = HashMap::new();
        let key = |row: &Row| row.labels.group(matching.on, &matching.labels);
        for (place, row) in one.iter().enumerate() {
            groups.entry(key(row)).or_default().one.push(place);
        }
        let mut order: Vec<LabelSet> = Vec::new();
        for (place, row) in many.iter().enumerate() {
            let key = key(row);
            let group = groups.entry(key.clone()).or_default();
            if group.many.is_empty() {
                order.push(key);
            }
            group.many.push(place);
        }
        for (key, group) in groups.iter().filter(|(_, group)| group.one.len() > 1) {
            check_one(key, group, one, if many_left { "right" } else { "left" })?;
        }
        let complaint = if matching.card == Card::OneToOne {
            MANY_TO_ONE
        } else {
            "multiple matches for labels: grouping labels must ensure unique matches"
        };
        let mut output = Output { rows: Vec::new(), places: HashMap::new(), complaint };
        for group in order.iter().filter_map(|key| groups.get(key)) {
            if matching.card == Card::OneToOne && group.many.len() > 1 {
                check_many(group, many, one)?;
            }
            self.join(binary, group, many, one, &mut output)?;
        }
        for mut row in output.rows {
            out(row.labels, &mut row.values)?;
        }
        Ok(())
    }

    fn join(
        &self,
        binary: &Binary,
        group: &Group,
        many: &mut [Row],
        one: &[Row],
        output: &mut Output,
    ) -> Outcome {
        for &place in &group.many {
            self.spend(0)?;
            for (nth, &other) in group.one.iter().enumerate() {
                let labels = result_labels(binary, &many[place].labels, &one[other].labels);
                let last = nth + 1 == group.one.len();
                let mut values = if last {
                    std::mem::take(&mut many[place].values)
                } else {
                    many[place].values.clone()
                };
                combine(binary, &mut values, &one[other].values);
                output.put(labels, values)?;
            }
        }
        Ok(())
    }

    /// `and`, `or` and `unless`.
    pub(super) fn set_operator(&self, binary: &Binary, steps: Steps, out: Sink<'_>) -> Outcome {
        if binary.op == BinOp::Or {
            return self.or(binary, steps, out);
        }
        let matching = &binary.matching;
        let mut seen = Presence::default();
        self.series(&binary.rhs, steps, &mut |labels, values| {
            let new = seen.add(&labels, matching, values);
            self.hold(if new { values.len() + labels.bytes() } else { 0 })
        })?;
        let wanted = binary.op == BinOp::And;
        self.series(&binary.lhs, steps, &mut |labels, values| {
            let there = seen.of(&labels, matching);
            for (index, value) in values.iter_mut().enumerate() {
                if there.is_some_and(|there| there[index]) != wanted {
                    *value = ABSENT;
                }
            }
            out(labels, values)
        })
    }

    fn or(&self, binary: &Binary, steps: Steps, out: Sink<'_>) -> Outcome {
        let matching = &binary.matching;
        let mut lhs = self.collect(&binary.lhs, steps)?;
        let rows = std::mem::take(&mut lhs.rows);
        let mut seen = Presence::default();
        let complaint = "vector cannot contain metrics with the same labelset";
        let mut output = Output { rows: Vec::new(), places: HashMap::new(), complaint };
        for row in rows {
            if seen.add(&row.labels, matching, &row.values) {
                self.hold(row.values.len())?;
            }
            output.put(row.labels, row.values)?;
        }
        self.series(&binary.rhs, steps, &mut |labels, values| {
            if let Some(there) = seen.of(&labels, matching) {
                for (value, _) in values.iter_mut().zip(there).filter(|(_, there)| **there) {
                    *value = ABSENT;
                }
            }
            if values.iter().all(|value| is_absent(*value)) {
                return Ok(());
            }
            self.hold(labels.bytes() + values.len() * 8)?;
            output.put(labels, std::mem::take(values))
        })?;
        for mut row in output.rows {
            out(row.labels, &mut row.values)?;
        }
        Ok(())
    }
}

const MANY_TO_ONE: &str = "multiple matches for labels: many-to-one matching must be explicit \
                           (group_left/group_right)";

/// At which steps a group of series has any.
#[derive(Default)]
struct Presence(HashMap<LabelSet, Vec<bool>>);

impl Presence {
    /// Notes a series; gives whether its group is new.
    fn add(&mut self, labels: &LabelSet, matching: &Matching, values: &[f64]) -> bool {
        let there = self.0.entry(labels.group(matching.on, &matching.labels)).or_default();
        let new = there.is_empty();
        there.resize(values.len(), false);
        for (there, value) in there.iter_mut().zip(values) {
            *there |= !is_absent(*value);
        }
        new
    }

    fn of(&self, labels: &LabelSet, matching: &Matching) -> Option<&Vec<bool>> {
        self.0.get(&labels.group(matching.on, &matching.labels))
    }
}

/// Sets `many` to the result of an operator.
fn combine(binary: &Binary, many: &mut [f64], one: &[f64]) {
    let swapped = binary.matching.card == Card::OneToMany;
    let keeps = keeps_value(binary.op, binary.returns_bool);
    for (value, &other) in many.iter_mut().zip(one) {
        if is_absent(*value) || is_absent(other) {
            *value = ABSENT;
            continue;
        }
        let (left, right) = if swapped { (other, *value) } else { (*value, other) };
        let result = apply(binary.op, left, right);
        *value = match (keeps, result != 0.0) {
            (true, true) => left,
            (true, false) => ABSENT,
            (false, _) => result,
        };
    }
}

fn result_labels(binary: &Binary, many: &LabelSet, one: &LabelSet) -> LabelSet {
    let matching = &binary.matching;
    let mut labels = many.clone();
    if !keeps_value(binary.op, binary.returns_bool) {
        labels = labels.nameless();
    }
    if matching.card == Card::OneToOne {
        if matching.on {
            labels.keep(&matching.labels);
        } else {
            labels.remove(&matching.labels);
        }
    }
    for name in &matching.include {
        labels.copy(name, one);
    }
    labels
}

/// Refuses two series of the side with one at the same step.
fn check_one(key: &LabelSet, group: &Group, one: &[Row], side: &str) -> Outcome {
    let steps = group.one.first().map_or(0, |&place| one[place].values.len());
    for index in 0..steps {
        let mut there = group.one.iter().filter(|&&place| !is_absent(one[place].values[index]));
        if let (Some(&first), Some(&second)) = (there.next(), there.next()) {
            let message = format!(
                "found duplicate series for the match group {key} on the {side} hand-side of the \
                 operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
                 unique on one side",
                one[second].labels, one[first].labels
            );
            return Err(PromError::Execution(message));
        }
    }
    Ok(())
}

/// Refuses two series of the left side that both have a partner at the same step.
fn check_many(group: &Group, many: &[Row], one: &[Row]) -> Outcome {
    let steps = group.many.first().map_or(0, |&place| many[place].values.len());
    let has = |rows: &[Row], place: usize, index: usize| !is_absent(rows[place].values[index]);
    for index in 0..steps {
        let several = group.many.iter().filter(|&&place| has(many, place, index)).count() > 1;
        if several && group.one.iter().any(|&place| has(one, place, index)) {
            return Err(PromError::execution(MANY_TO_ONE));
        }
    }
    Ok(())
}
