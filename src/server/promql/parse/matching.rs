//! What is written between a binary operator and its right side, and what each operator allows.

use super::Parser;
use crate::server::promql::ast::{BinOp, Binary, Card, Matching, Type};
use crate::server::promql::error::ParseError;
use crate::server::promql::lex::Tok;

impl Parser<'_> {
    /// `bool`, `on (…)`, `ignoring (…)`, `group_left (…)`, `group_right (…)`.
    pub(super) fn modifiers(&mut self, op: BinOp) -> Result<(bool, Matching), ParseError> {
        let at = self.at();
        let returns_bool = self.word("bool");
        if returns_bool && !op.compares() {
            return self.fail_at(at, "bool modifier can only be used on comparison operators");
        }
        let card = if op.is_set() { Card::ManyToMany } else { Card::OneToOne };
        let mut matching = Matching { card, on: false, labels: Vec::new(), include: Vec::new() };
        let on = self.word("on");
        if !on && !self.word("ignoring") {
            return Ok((returns_bool, matching));
        }
        matching.on = on;
        matching.labels = self.label_list("grouping opts")?;
        let at = self.at();
        let left = self.word("group_left");
        if !left && !self.word("group_right") {
            return Ok((returns_bool, matching));
        }
        if op.is_set() {
            return self.fail_at(at, format!("no grouping allowed for {:?} operation", op.sign()));
        }
        matching.card = if left { Card::ManyToOne } else { Card::OneToMany };
        if matches!(self.peek(), Tok::Sign("(")) {
            matching.include = self.label_list("grouping opts")?;
        }
        if on && let Some(both) = matching.include.iter().find(|l| matching.labels.contains(l)) {
            let message = format!("label {both:?} must not occur in ON and GROUP clause at once");
            return self.fail_at(at, message);
        }
        Ok((returns_bool, matching))
    }

    /// `(a, "b.c")`.
    pub(super) fn label_list(&mut self, place: &str) -> Result<Vec<String>, ParseError> {
        self.need("(", place)?;
        let mut labels = Vec::new();
        loop {
            if self.sign(")") {
                return Ok(labels);
            }
            match self.peek().clone() {
                Tok::Ident(name) if !name.contains(':') => labels.push(name),
                Tok::Text(name) if !name.is_empty() => labels.push(name),
                _ => return self.unexpected(place, "label"),
            }
            self.next += 1;
            if !self.sign(",") && !matches!(self.peek(), Tok::Sign(")")) {
                return self.unexpected(place, "\",\" or \")\"");
            }
        }
    }

    pub(super) fn check_binary(&self, binary: &Binary, at: usize) -> Result<(), ParseError> {
        let (lhs, rhs) = (binary.lhs.kind(), binary.rhs.kind());
        for (side, kind) in [(&binary.lhs, lhs), (&binary.rhs, rhs)] {
            if !matches!(kind, Type::Scalar | Type::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail_at(side.at, message);
            }
        }
        let scalars = usize::from(lhs == Type::Scalar) + usize::from(rhs == Type::Scalar);
        let op = binary.op;
        if op.compares() && scalars == 2 && !binary.returns_bool {
            return self.fail_at(at, "comparisons between scalars must use BOOL modifier");
        }
        if op.is_set() && scalars > 0 {
            let message =
                format!("set operator {:?} not allowed in binary scalar expression", op.sign());
            return self.fail_at(at, message);
        }
        let matching = &binary.matching;
        if scalars > 0 && (matching.on || !matching.labels.is_empty()) {
            return self.fail_at(at, "vector matching only allowed between instant vectors");
        }
        Ok(())
    }
}
