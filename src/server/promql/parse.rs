//! From tokens to a tree. Recursive descent, with the depth of recursion and of the tree bounded
//! by [`PROMQL_DEPTH_MAX`]: a tree that was made can be walked, and dropped, on any stack.

use crate::base::limits::{PROMQL_BYTES_MAX, PROMQL_DEPTH_MAX};
use crate::server::promql::ast::{
    AGGREGATIONS, AggOp, Aggregate, BINARY, BinOp, Binary, Expr, Node, Type,
};
use crate::server::promql::error::ParseError;
use crate::server::promql::functions;
use crate::server::promql::lex::{Spanned, Tok, lex};
use crate::server::promql::matcher::Matcher;

mod matching;
mod selector;

/// The tree of a query.
///
/// # Errors
///
/// Where the text is not PromQL, too long or too deep.
pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    if parser.peek() == &Tok::End {
        return parser.fail("no expression found in input");
    }
    let expr = parser.expr(0)?;
    parser.end()?;
    Ok(expr)
}

/// The matchers of a selector such as `up{job="x"}`, as `match[]` takes them.
///
/// # Errors
///
/// Where the text is not a selector.
pub(crate) fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.primary()?;
    parser.end()?;
    match expr.node {
        Node::Select(selector) => Ok(selector.matchers),
        _ => Err(ParseError::at(text, 0, "expected a selector of series")),
    }
}

/// Milliseconds of a duration or a number of seconds, as `step` and `timeout` take them.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let secs = text.parse::<f64>().ok().filter(|secs| secs.abs() < 9.2e15);
    secs.map(|secs| (secs * 1_000.0).round() as i64)
        .or_else(|| crate::server::promql::lex::duration_ms(text))
}

struct Parser<'a> {
    text: &'a str,
    toks: Vec<Spanned>,
    next: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        if text.len() > PROMQL_BYTES_MAX {
            let message = format!("the query has over {PROMQL_BYTES_MAX} bytes");
            return Err(ParseError::at(text, 0, message));
        }
        Ok(Self { text, toks: lex(text)?, next: 0, depth: 0 })
    }

    fn peek(&self) -> &Tok {
        self.toks.get(self.next).map_or(&Tok::End, |spanned| &spanned.tok)
    }

    fn peek_second(&self) -> &Tok {
        self.toks.get(self.next + 1).map_or(&Tok::End, |spanned| &spanned.tok)
    }

    fn at(&self) -> usize {
        self.toks.get(self.next).map_or(self.text.len(), |spanned| spanned.at)
    }

    fn take(&mut self) -> Tok {
        let tok = self.peek().clone();
        self.next += 1;
        tok
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        self.fail_at(self.at(), message)
    }

    fn fail_at<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.text, at, message))
    }

    /// Takes a sign if it is the next token.
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Tok::Sign(next) if *next == sign);
        self.next += usize::from(found);
        found
    }

    fn need(&mut self, sign: &str, place: &str) -> Result<(), ParseError> {
        if self.sign(sign) { Ok(()) } else { self.unexpected(place, &format!("{sign:?}")) }
    }

    /// Takes a keyword, in any case, if it is the next token.
    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Tok::Ident(next) if next.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn unexpected<T>(&self, place: &str, expected: &str) -> Result<T, ParseError> {
        let found = match self.peek() {
            Tok::Ident(name) => format!("identifier {name:?}"),
            Tok::Text(text) => format!("string {text:?}"),
            Tok::Number(number) => format!("number {number}"),
            Tok::Duration(_) => "duration".to_owned(),
            Tok::Sign(sign) => format!("{sign:?}"),
            Tok::End => "end of input".to_owned(),
        };
        self.fail(format!("unexpected {found} in {place}, expected {expected}"))
    }

    fn end(&mut self) -> Result<(), ParseError> {
        if self.peek() == &Tok::End { Ok(()) } else { self.unexpected("query", "end of input") }
    }

    /// Runs `body` one level deeper.
    fn deeper<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= PROMQL_DEPTH_MAX {
            return self.too_deep(self.at());
        }
        self.depth += 1;
        let out = body(self);
        self.depth -= 1;
        out
    }

    fn too_deep<T>(&self, at: usize) -> Result<T, ParseError> {
        self.fail_at(at, format!("the query is nested over {PROMQL_DEPTH_MAX} levels deep"))
    }

    /// A node above others.
    fn node(&self, at: usize, node: Node) -> Result<Expr, ParseError> {
        let below = match &node {
            Node::Number(_) | Node::Text(_) | Node::Select(_) | Node::Range(..) => 0,
            Node::Subquery(sub) => sub.expr.depth,
            Node::Call(_, args) => args.iter().map(|arg| arg.depth).max().unwrap_or(0),
            Node::Aggregate(agg) => {
                agg.expr.depth.max(agg.param.as_ref().map_or(0, |param| param.depth))
            }
            Node::Binary(binary) => binary.lhs.depth.max(binary.rhs.depth),
            Node::Negate(inner) | Node::Paren(inner) => inner.depth,
        };
        if below >= PROMQL_DEPTH_MAX {
            // What lies below is within the bound, so that dropping it is safe.
            return self.too_deep(at);
        }
        Ok(Expr { node, at, depth: below + 1 })
    }

    /// The binary operator that comes next, and how tightly it binds.
    fn operator(&self) -> Option<(BinOp, u8)> {
        let fits = |text: &str| match self.peek() {
            Tok::Sign(sign) => *sign == text,
            Tok::Ident(word) => word.eq_ignore_ascii_case(text),
            _ => false,
        };
        BINARY.iter().find(|(text, ..)| fits(text)).map(|&(_, op, binds)| (op, binds))
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expr(&mut self, least: u8) -> Result<Expr, ParseError> {
        let mut lhs = self.unary()?;
        while let Some((op, binds)) = self.operator() {
            if binds < least {
                break;
            }
            let at = self.at();
            self.next += 1;
            let (returns_bool, matching) = self.modifiers(op)?;
            // `^` groups from the right, everything else from the left.
            let tighter = if op == BinOp::Pow { binds } else { binds + 1 };
            let rhs = self.deeper(|parser| parser.expr(tighter))?;
            let binary = Binary { op, lhs, rhs, returns_bool, matching };
            self.check_binary(&binary, at)?;
            let start = binary.lhs.at;
            lhs = self.node(start, Node::Binary(Box::new(binary)))?;
        }
        Ok(lhs)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let at = self.at();
        let minus = self.sign("-");
        if !minus && !self.sign("+") {
            return self.primary();
        }
        // A sign binds less tightly than `^` alone: -2 ^ 2 is -4.
        let inner = self.deeper(|parser| parser.expr(6))?;
        if !matches!(inner.kind(), Type::Scalar | Type::Vector) {
            let kind = inner.kind().name();
            return self.fail_at(
                at,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant \
                     vector, got {kind:?}"
                ),
            );
        }
        match inner.node {
            _ if !minus => Ok(inner),
            Node::Number(number) => self.node(at, Node::Number(-number)),
            _ => self.node(at, Node::Negate(Box::new(inner))),
        }
    }

    /// An operand with what is written after it: a range, `offset`, `@`.
    fn primary(&mut self) -> Result<Expr, ParseError> {
        let at = self.at();
        let expr = match self.peek().clone() {
            Tok::Number(number) => {
                self.next += 1;
                self.node(at, Node::Number(number))?
            }
            Tok::Duration(ms) => {
                self.next += 1;
                self.node(at, Node::Number(ms as f64 / 1_000.0))?
            }
            Tok::Text(text) => {
                self.next += 1;
                self.node(at, Node::Text(text))?
            }
            Tok::Sign("(") => {
                self.next += 1;
                let inner = self.deeper(|parser| parser.expr(0))?;
                self.need(")", "parenthesized expression")?;
                self.node(at, Node::Paren(Box::new(inner)))?
            }
            Tok::Sign("{") => self.selector(None)?,
            Tok::Ident(name) => self.named(&name)?,
            _ => return self.unexpected("expression", "an operand"),
        };
        self.suffixes(expr)
    }

    /// What begins with a name: number, aggregation, call or selector.
    fn named(&mut self, name: &str) -> Result<Expr, ParseError> {
        let at = self.at();
        let lower = name.to_ascii_lowercase();
        let opens = matches!(self.peek_second(), Tok::Sign("("));
        let braces = matches!(self.peek_second(), Tok::Sign("{"));
        if !opens && !braces && matches!(lower.as_str(), "inf" | "nan") {
            self.next += 1;
            let number = if lower == "inf" { f64::INFINITY } else { f64::NAN };
            return self.node(at, Node::Number(number));
        }
        let grouped = matches!(self.peek_second(), Tok::Ident(word)
            if word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"));
        if (opens || grouped)
            && let Some((_, op)) = AGGREGATIONS.iter().find(|(name, _)| *name == lower)
        {
            self.next += 1;
            return self.aggregate(*op, at);
        }
        self.next += 1;
        if opens { self.call(name, at) } else { self.selector(Some(name)) }
    }

    fn aggregate(&mut self, op: AggOp, at: usize) -> Result<Expr, ParseError> {
        let mut grouping = self.grouping()?;
        let open = self.at();
        self.need("(", "aggregation")?;
        let mut args = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (without, labels) = grouping.unwrap_or_default();
        let wanted = 1 + usize::from(op.param().is_some());
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, \
                 got {}",
                args.len()
            );
            return self.fail_at(open, message);
        }
        let Some(expr) = args.pop() else { return self.fail_at(open, "no arguments") };
        let param = args.pop();
        self.expect_type(&expr, Type::Vector, "aggregation expression")?;
        if let (Some(param), Some(kind)) = (&param, op.param()) {
            self.expect_type(param, kind, "aggregation parameter")?;
        }
        let aggregate = Aggregate { op, labels, without, param, expr };
        self.node(at, Node::Aggregate(Box::new(aggregate)))
    }

    /// `by (…)` or `without (…)`: whether it is `without`, and the labels.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let without = self.word("without");
        if !without && !self.word("by") {
            return Ok(None);
        }
        Ok(Some((without, self.label_list("grouping opts")?)))
    }

    /// Arguments up to the closing parenthesis, the opening one being taken.
    fn arguments(&mut self) -> Result<Vec<Expr>, ParseError> {
        let mut args = Vec::new();
        if self.sign(")") {
            return Ok(args);
        }
        loop {
            args.push(self.deeper(|parser| parser.expr(0))?);
            if self.sign(")") {
                return Ok(args);
            }
            self.need(",", "function call")?;
        }
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Expr, ParseError> {
        let Some(function) = functions::find(name) else {
            return self.fail_at(at, format!("unknown function with name {name:?}"));
        };
        self.need("(", "function call")?;
        let args = self.arguments()?;
        let most = function.takes.len();
        let least = most - function.optional;
        if args.len() < least || (args.len() > most && !function.repeats) {
            let few = if args.len() < least { "at least" } else { "at most" };
            let wanted = if args.len() < least { least } else { most };
            let few = if function.optional == 0 && !function.repeats { "" } else { few };
            let message = format!(
                "expected {few}{}{wanted} argument(s) in call to {name:?}, got {}",
                if few.is_empty() { "" } else { " " },
                args.len()
            );
            return self.fail_at(at, message);
        }
        for (index, arg) in args.iter().enumerate() {
            let kind = function.takes[index.min(most - 1)];
            self.expect_type(arg, kind, &format!("call to function {name:?}"))?;
        }
        self.node(at, Node::Call(function, args))
    }

    fn expect_type(&self, expr: &Expr, kind: Type, place: &str) -> Result<(), ParseError> {
        let found = expr.kind();
        if found == kind {
            return Ok(());
        }
        let (kind, found) = (kind.name(), found.name());
        self.fail_at(expr.at, format!("expected type {kind} in {place}, got {found}"))
    }
}

#[cfg(test)]
mod tests;
