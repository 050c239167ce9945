//! Selectors, and what is written after an operand: ranges, subqueries, `offset` and `@`.

use super::Parser;
use crate::server::promql::ast::{At, Expr, Node, Selector, Shift, Subquery, Type};
use crate::server::promql::error::ParseError;
use crate::server::promql::lex::Tok;
use crate::server::promql::matcher::Matcher;

/// Where a query may look: 100,000 years on both sides of 1970, so that sums of times are exact.
const TIME_MS_MAX: i64 = 3_155_760_000_000_000;

impl Parser<'_> {
    /// A selector whose name, where it has one before its braces, is taken.
    pub(super) fn selector(&mut self, name: Option<&str>) -> Result<Expr, ParseError> {
        let at = self.at().min(self.toks.get(self.next.wrapping_sub(1)).map_or(0, |t| t.at));
        let at = if name.is_some() { at } else { self.at() };
        let mut matchers = Vec::new();
        if let Some(name) = name {
            matchers.push(Matcher::equal("__name__", name));
        }
        if self.sign("{") {
            self.matchers(&mut matchers)?;
        }
        if matchers.iter().all(|matcher| matcher.matches("")) {
            let message = "vector selector must contain at least one non-empty matcher";
            return self.fail_at(at, message);
        }
        let selector = Selector { matchers, shift: Shift::default() };
        self.node(at, Node::Select(selector))
    }

    /// Matchers up to the closing brace.
    fn matchers(&mut self, out: &mut Vec<Matcher>) -> Result<(), ParseError> {
        let place = "label matching";
        loop {
            if self.sign("}") {
                return Ok(());
            }
            let at = self.at();
            let (name, is_text) = match self.take() {
                Tok::Ident(name) if !name.contains(':') => (name, false),
                Tok::Text(name) => (name, true),
                _ => {
                    self.next -= 1;
                    return self.unexpected(place, "identifier or \"}\"");
                }
            };
            let operator = match self.peek() {
                Tok::Sign(sign @ ("=" | "!=" | "=~" | "!~")) => Some(*sign),
                _ => None,
            };
            match operator {
                Some(operator) => {
                    self.next += 1;
                    let Tok::Text(value) = self.peek().clone() else {
                        return self.unexpected(place, "string");
                    };
                    self.next += 1;
                    match Matcher::new(&name, operator, &value) {
                        Ok(matcher) => out.push(matcher),
                        Err(error) => return self.fail_at(at, error),
                    }
                }
                // A quoted name alone is the metric's.
                None if is_text => {
                    let named = |m: &Matcher| m.name == "__name__" && m.operator() == "=";
                    if let Some(other) = out.iter().find(|matcher| named(matcher)) {
                        let message = format!(
                            "metric name must not be set twice: {:?} or {name:?}",
                            other.value
                        );
                        return self.fail_at(at, message);
                    }
                    out.push(Matcher::equal("__name__", &name));
                }
                None => return self.unexpected(place, "label matching operator"),
            }
            if !self.sign(",") && !matches!(self.peek(), Tok::Sign("}")) {
                return self.unexpected(place, "\",\" or \"}\"");
            }
        }
    }

    pub(super) fn suffixes(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        loop {
            let at = self.at();
            if self.sign("[") {
                expr = self.range(expr, at)?;
            } else if self.word("offset") {
                let minus = self.sign("-");
                if !minus {
                    self.sign("+");
                }
                let ms = self.duration("offset")?;
                let shift = self.shift(&mut expr, at, "offset")?;
                if shift.offset_ms != 0 {
                    return self.fail_at(at, "offset may not be set multiple times");
                }
                shift.offset_ms = if minus { -ms } else { ms };
            } else if self.sign("@") {
                let moment = self.moment()?;
                let shift = self.shift(&mut expr, at, "@")?;
                if shift.at.is_some() {
                    return self.fail_at(at, "@ <timestamp> may not be set multiple times");
                }
                shift.at = Some(moment);
            } else {
                return Ok(expr);
            }
        }
    }

    /// `[5m]` or `[5m:1m]`, the bracket being taken.
    fn range(&mut self, expr: Expr, at: usize) -> Result<Expr, ParseError> {
        let range_ms = self.duration("range selector")?;
        if range_ms <= 0 {
            return self.fail_at(at, "duration must be greater than 0");
        }
        if !self.sign(":") {
            self.need("]", "range selector")?;
            let start = expr.at;
            return match expr.node {
                Node::Select(selector) if selector.shift == Shift::default() => {
                    self.node(start, Node::Range(selector, range_ms))
                }
                Node::Select(_) => {
                    self.fail_at(at, "no offset or @ modifiers allowed before range")
                }
                _ => self.fail_at(at, "ranges only allowed for vector selectors"),
            };
        }
        let step_ms = if matches!(self.peek(), Tok::Sign("]")) {
            None
        } else {
            Some(self.duration("subquery selector")?)
        };
        self.need("]", "subquery selector")?;
        if step_ms.is_some_and(|step| step <= 0) {
            return self.fail_at(at, "duration must be greater than 0");
        }
        if expr.kind() != Type::Vector {
            let kind = expr.kind().name();
            let message = format!("subquery is only allowed on instant vector, got {kind} instead");
            return self.fail_at(at, message);
        }
        let start = expr.at;
        let subquery = Subquery { expr, range_ms, step_ms, shift: Shift::default() };
        self.node(start, Node::Subquery(Box::new(subquery)))
    }

    /// A duration, or a number of seconds.
    fn duration(&mut self, place: &str) -> Result<i64, ParseError> {
        let at = self.at();
        let ms = match self.peek() {
            Tok::Duration(ms) => *ms,
            Tok::Number(secs) => (secs * 1_000.0).round() as i64,
            _ => return self.unexpected(place, "number or duration"),
        };
        self.next += 1;
        if ms > TIME_MS_MAX {
            return self.fail_at(at, "duration out of range");
        }
        Ok(ms)
    }

    fn moment(&mut self) -> Result<At, ParseError> {
        for (name, at) in [("start", At::Start), ("end", At::End)] {
            if self.word(name) {
                self.need("(", "@ modifier")?;
                self.need(")", "@ modifier")?;
                return Ok(at);
            }
        }
        let at = self.at();
        let minus = self.sign("-");
        if !minus {
            self.sign("+");
        }
        let secs = match self.peek() {
            Tok::Number(secs) => *secs,
            Tok::Duration(ms) => *ms as f64 / 1_000.0,
            _ => return self.unexpected("@ modifier", "timestamp, start() or end()"),
        };
        self.next += 1;
        let ms = (secs * 1_000.0).round();
        if ms > TIME_MS_MAX as f64 {
            return self.fail_at(at, "timestamp out of bounds for @ modifier");
        }
        let ms = ms as i64;
        Ok(At::Time(if minus { -ms } else { ms }))
    }

    fn shift<'e>(
        &self,
        expr: &'e mut Expr,
        at: usize,
        word: &str,
    ) -> Result<&'e mut Shift, ParseError> {
        match &mut expr.node {
            Node::Select(selector) | Node::Range(selector, _) => Ok(&mut selector.shift),
            Node::Subquery(subquery) => Ok(&mut subquery.shift),
            _ => {
                let message = format!(
                    "{word} modifier must be preceded by an instant vector selector or range \
                     vector selector or a subquery"
                );
                self.fail_at(at, message)
            }
        }
    }
}
