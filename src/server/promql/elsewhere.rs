//! Queries that are evaluated elsewhere: by an engine that has the samples of days that are no
//! longer here. The tree is written as the engine takes it, or not at all where its answer could
//! mean something else.

use crate::server::promql::PromError;
use crate::server::promql::ast::{
    AggOp, Aggregate, At, BinOp, Binary, Card, Expr, Matching, Node, Selector, Shift, Subquery,
    Type,
};
use crate::server::promql::eval::{Row, SUBQUERY_STEP_MS, Steps};
use crate::server::promql::functions::Does;
use crate::server::promql::labels::NAME;
use crate::server::promql::matcher::label_text;
use crate::server::promql::names::Names;

/// Somebody else who evaluates queries.
pub(crate) trait Elsewhere: Send + Sync {
    /// The result of a query at some or all of its steps; `None` where it is not evaluated there.
    ///
    /// # Errors
    ///
    /// What the engine finds wrong with the query, or why it does not answer.
    fn evaluate(&self, asked: &Asked<'_>) -> Result<Option<Part>, PromError>;
}

/// A query.
pub(crate) struct Asked<'a> {
    /// The query.
    pub expr: &'a Expr,
    /// What metrics are called.
    pub names: &'a Names,
    /// When.
    pub steps: Steps,
    /// The time that `@ end()` stands for.
    pub end_ms: i64,
    /// How old a sample may be that a selector still gives.
    pub lookback_ms: i64,
}

/// The first `steps` steps of a result.
pub(crate) struct Part {
    /// How many steps.
    pub steps: usize,
    /// A series each, with that many values.
    pub rows: Vec<Row>,
}

/// How a selector is written for the engine: its matchers between the braces; `None` where the
/// engine's series would not be the same.
pub(crate) type Braces<'a> = &'a dyn Fn(&Selector) -> Option<String>;

/// The longest time before a step from which its value may need samples; `None` where an `@` names
/// a time of its own.
pub(crate) fn reach_ms(expr: &Expr, lookback_ms: i64) -> Option<i64> {
    let shifted = |shift: Shift, back_ms: i64| {
        shift.at.is_none().then(|| back_ms.saturating_add(shift.offset_ms))
    };
    let all = |exprs: &[&Expr]| {
        exprs.iter().try_fold(0, |most: i64, one| Some(most.max(reach_ms(one, lookback_ms)?)))
    };
    match &expr.node {
        Node::Number(_) | Node::Text(_) => Some(0),
        Node::Select(selector) => shifted(selector.shift, lookback_ms),
        Node::Range(selector, range_ms) => shifted(selector.shift, *range_ms),
        Node::Subquery(sub) => {
            shifted(sub.shift, sub.range_ms.saturating_add(reach_ms(&sub.expr, lookback_ms)?))
        }
        Node::Call(_, args) => all(&args.iter().collect::<Vec<_>>()),
        Node::Aggregate(agg) => all(&agg.param.iter().chain([&agg.expr]).collect::<Vec<_>>()),
        Node::Binary(binary) => all(&[&binary.lhs, &binary.rhs]),
        Node::Negate(inner) | Node::Paren(inner) => reach_ms(inner, lookback_ms),
    }
}

/// Whether the series of a result have a metric's name: VictoriaMetrics keeps names where
/// Prometheus takes them off. `None` where some have one and some do not.
pub(crate) fn has_name(expr: &Expr) -> Option<bool> {
    match &expr.node {
        Node::Select(_) => Some(true),
        Node::Paren(inner) => has_name(inner),
        Node::Call(function, args) => match function.does {
            Does::OverNamed(_) => Some(true),
            Does::Sort(_) | Does::SortByLabel(_) => has_name(args.first()?),
            // These may set the name.
            Does::LabelReplace | Does::LabelJoin => None,
            _ => Some(false),
        },
        Node::Aggregate(agg) => match agg.op {
            AggOp::Topk | AggOp::Bottomk => has_name(&agg.expr),
            _ => Some(agg.labels.iter().any(|label| label == NAME) && !agg.without),
        },
        Node::Binary(binary) => {
            let (lhs, rhs) = (has_name(&binary.lhs), has_name(&binary.rhs));
            match binary.op {
                BinOp::Or => lhs.filter(|_| lhs == rhs),
                BinOp::And | BinOp::Unless => lhs,
                op if op.compares() && !binary.returns_bool => {
                    if binary.lhs.kind() == Type::Vector { lhs } else { rhs }
                }
                _ => Some(false),
            }
        }
        Node::Number(_) | Node::Text(_) | Node::Negate(_) => Some(false),
        Node::Range(..) | Node::Subquery(_) => None,
    }
}

/// Writes a query for an engine whose series have a label more, which must not keep series apart.
pub(crate) struct Writer<'a> {
    /// How selectors are written.
    pub braces: Braces<'a>,
    /// The label that only the engine's series have.
    pub own_label: &'a str,
    /// First and last step of the query.
    pub whole: (i64, i64),
}

impl Writer<'_> {
    /// The query's text; `None` where the engine could understand something else by it.
    pub(crate) fn text(&self, expr: &Expr) -> Option<String> {
        Some(match &expr.node {
            Node::Number(_) | Node::Text(_) => expr.to_string(),
            Node::Select(selector) => format!("{}{}", self.series(selector)?, self.shift(selector)),
            Node::Range(selector, range_ms) => {
                let series = self.series(selector)?;
                format!("{series}[{range_ms}ms]{}", self.shift(selector))
            }
            Node::Subquery(sub) => self.subquery(sub)?,
            Node::Call(function, args) => {
                let args: Vec<String> =
                    args.iter().map(|arg| self.text(arg)).collect::<Option<_>>()?;
                format!("{}({})", function.name, args.join(", "))
            }
            Node::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Node::Binary(binary) => self.binary(binary)?,
            Node::Negate(inner) => format!("-({})", self.text(inner)?),
            Node::Paren(inner) => format!("({})", self.text(inner)?),
        })
    }

    fn series(&self, selector: &Selector) -> Option<String> {
        Some(format!("{{{}}}", (self.braces)(selector)?))
    }

    /// With times instead of `start()` and `end()`: the engine is asked for a part of the steps.
    fn shift(&self, selector: &Selector) -> Shift {
        self.fixed(selector.shift)
    }

    fn fixed(&self, shift: Shift) -> Shift {
        let at = shift.at.map(|at| match at {
            At::Start => At::Time(self.whole.0),
            At::End => At::Time(self.whole.1),
            time => time,
        });
        Shift { at, ..shift }
    }

    fn subquery(&self, sub: &Subquery) -> Option<String> {
        let (inner, shift) = (self.text(&sub.expr)?, self.fixed(sub.shift));
        let step_ms = sub.step_ms.unwrap_or(SUBQUERY_STEP_MS);
        Some(format!("({inner})[{}ms:{step_ms}ms]{shift}", sub.range_ms))
    }

    fn aggregate(&self, agg: &Aggregate) -> Option<String> {
        if matches!(agg.op, AggOp::Limitk | AggOp::LimitRatio) {
            // Which series these take is up to whoever evaluates them.
            return None;
        }
        let expr = self.text(&agg.expr)?;
        let inner = match &agg.param {
            Some(param) => format!("{}, {expr}", self.text(param)?),
            None => expr,
        };
        let labels = list(&agg.labels);
        let name = agg.op.name();
        Some(match (agg.without, labels.is_empty()) {
            (true, true) => format!("{name} without ({}) ({inner})", self.own_label),
            (true, false) => format!("{name} without ({labels}, {}) ({inner})", self.own_label),
            (false, true) => format!("{name} ({inner})"),
            (false, false) => format!("{name} by ({labels}) ({inner})"),
        })
    }

    fn binary(&self, binary: &Binary) -> Option<String> {
        let (lhs, rhs) = (self.text(&binary.lhs)?, self.text(&binary.rhs)?);
        let mut sign = binary.op.sign().to_owned();
        if binary.returns_bool {
            sign.push_str(" bool");
        }
        let are_vectors = [&binary.lhs, &binary.rhs].iter().all(|one| one.kind() == Type::Vector);
        if are_vectors {
            sign.push_str(&self.matching(&binary.matching));
        }
        Some(format!("({lhs}) {sign} ({rhs})"))
    }

    fn matching(&self, matching: &Matching) -> String {
        let mut labels = matching.labels.clone();
        let word = if matching.on { "on" } else { "ignoring" };
        if !matching.on {
            labels.push(self.own_label.to_owned());
        }
        let include = list(&matching.include);
        let group = match matching.card {
            Card::ManyToOne => format!(" group_left ({include})"),
            Card::OneToMany => format!(" group_right ({include})"),
            Card::OneToOne | Card::ManyToMany => String::new(),
        };
        format!(" {word} ({}){group}", list(&labels))
    }
}

fn list(labels: &[String]) -> String {
    labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::promql::parse::parse;

    fn written(query: &str) -> Option<String> {
        let braces = |selector: &Selector| {
            let parts: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
            Some(parts.join(","))
        };
        let writer = Writer { braces: &braces, own_label: "own", whole: (1_000, 61_000) };
        writer.text(&parse(query).unwrap())
    }

    #[test]
    fn the_engines_own_label_keeps_no_series_apart() {
        for (query, wanted) in [
            ("x", "{__name__=\"x\"}"),
            (
                "rate(x{a=\"1\"}[5m] offset 1h)",
                "rate({__name__=\"x\",a=\"1\"}[300000ms] offset 1h)",
            ),
            ("sum(x)", "sum ({__name__=\"x\"})"),
            ("sum by (a) (x)", "sum by (a) ({__name__=\"x\"})"),
            ("sum without (a) (x)", "sum without (a, own) ({__name__=\"x\"})"),
            ("sum without () (x)", "sum without (own) ({__name__=\"x\"})"),
            ("topk(3, x)", "topk (3, {__name__=\"x\"})"),
            ("x / y", "({__name__=\"x\"}) / ignoring (own) ({__name__=\"y\"})"),
            ("x / on (a) y", "({__name__=\"x\"}) / on (a) ({__name__=\"y\"})"),
            (
                "x * ignoring (b) group_left (c) y",
                "({__name__=\"x\"}) * ignoring (b, own) group_left (c) ({__name__=\"y\"})",
            ),
            ("x and y", "({__name__=\"x\"}) and ignoring (own) ({__name__=\"y\"})"),
            ("x > bool 2", "({__name__=\"x\"}) > bool (2)"),
            ("-x", "-({__name__=\"x\"})"),
            ("x @ end()", "{__name__=\"x\"} @ 61.000"),
            ("max_over_time(x[1h:])", "max_over_time(({__name__=\"x\"})[3600000ms:60000ms])"),
        ] {
            assert_eq!(written(query).as_deref(), Some(wanted), "{query}");
            let again = written(query).unwrap();
            assert!(parse(&again).is_ok(), "{again}");
        }
        assert_eq!(written("limitk(2, x)"), None);
    }

    #[test]
    fn names_stay_where_prometheus_leaves_them() {
        for (query, wanted) in [
            ("x", Some(true)),
            ("last_over_time(x[1h])", Some(true)),
            ("max_over_time(x[1h])", Some(false)),
            ("topk(2, x)", Some(true)),
            ("topk(2, rate(x[5m]))", Some(false)),
            ("sum by (__name__) (x)", Some(true)),
            ("sum(x)", Some(false)),
            ("x > 1", Some(true)),
            ("1 < x", Some(true)),
            ("x > bool 1", Some(false)),
            ("x + y", Some(false)),
            ("x or y", Some(true)),
            ("x or rate(y[5m])", None),
            ("label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")", None),
        ] {
            assert_eq!(has_name(&parse(query).unwrap()), wanted, "{query}");
        }
    }

    #[test]
    fn how_far_back_a_step_needs_samples() {
        for (query, wanted) in [
            ("1", Some(0)),
            ("x", Some(300_000)),
            ("x offset 1h", Some(3_900_000)),
            ("rate(x[2h]) + y", Some(7_200_000)),
            ("max_over_time(rate(x[5m])[1h:])", Some(3_900_000)),
            ("topk(scalar(z offset 1d), x)", Some(86_700_000)),
            ("x @ 5", None),
        ] {
            assert_eq!(reach_ms(&parse(query).unwrap(), 300_000), wanted, "{query}");
        }
    }
}
