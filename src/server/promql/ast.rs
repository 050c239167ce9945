//! A query as a tree, and its text.

use crate::server::promql::functions::Function;
use crate::server::promql::matcher::Matcher;

mod print;

pub(crate) use crate::server::promql::value::Type;

/// An expression and where it stands.
#[derive(Debug, PartialEq)]
pub(crate) struct Expr {
    /// What it is.
    pub node: Node,
    /// Offset of its first byte in the query.
    pub at: usize,
    /// Levels of the tree from here down; bounded by the parser, so that walking it is safe.
    pub depth: usize,
}

/// What an expression is.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    /// `1.5`
    Number(f64),
    /// `"text"`
    Text(String),
    /// `cpu_usage{agent="a"}`
    Select(Selector),
    /// `cpu_usage[5m]`
    Range(Selector, i64),
    /// `rate(x[5m])[1h:1m]`
    Subquery(Box<Subquery>),
    /// `abs(x)`
    Call(&'static Function, Vec<Expr>),
    /// `sum by (agent) (x)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`
    Negate(Box<Expr>),
    /// `(a)`
    Paren(Box<Expr>),
}

/// `offset` and `@`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shift {
    /// How far back, in milliseconds; negative is ahead.
    pub offset_ms: i64,
    /// At which time instead of the step's.
    pub at: Option<At>,
}

/// The time of an `@`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum At {
    /// Unix milliseconds.
    Time(i64),
    /// The query's first step.
    Start,
    /// The query's last step.
    End,
}

/// Which series are meant, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selector {
    /// Every one must match. The metric's name is one of them, as `__name__`.
    pub matchers: Vec<Matcher>,
    /// When.
    pub shift: Shift,
}

/// An expression evaluated many times.
#[derive(Debug, PartialEq)]
pub(crate) struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// How far back, in milliseconds.
    pub range_ms: i64,
    /// How often, in milliseconds; `None` for the default.
    pub step_ms: Option<i64>,
    /// When.
    pub shift: Shift,
}

/// Aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as PromQL names them")]
pub(crate) enum AggOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    Topk,
    Bottomk,
    CountValues,
    Limitk,
    LimitRatio,
}

/// Every aggregation operator with its name.
pub(crate) const AGGREGATIONS: [(&str, AggOp); 14] = [
    ("sum", AggOp::Sum),
    ("avg", AggOp::Avg),
    ("min", AggOp::Min),
    ("max", AggOp::Max),
    ("count", AggOp::Count),
    ("group", AggOp::Group),
    ("stddev", AggOp::Stddev),
    ("stdvar", AggOp::Stdvar),
    ("quantile", AggOp::Quantile),
    ("topk", AggOp::Topk),
    ("bottomk", AggOp::Bottomk),
    ("count_values", AggOp::CountValues),
    ("limitk", AggOp::Limitk),
    ("limit_ratio", AggOp::LimitRatio),
];

impl AggOp {
    /// As PromQL writes it, such as `sum`.
    pub(crate) fn name(self) -> &'static str {
        AGGREGATIONS.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// The type of its parameter, where it has one.
    pub(crate) fn param(self) -> Option<Type> {
        match self {
            Self::Quantile | Self::Topk | Self::Bottomk | Self::Limitk | Self::LimitRatio => {
                Some(Type::Scalar)
            }
            Self::CountValues => Some(Type::Text),
            _ => None,
        }
    }
}

/// An aggregation over series.
#[derive(Debug, PartialEq)]
pub(crate) struct Aggregate {
    /// Which.
    pub op: AggOp,
    /// Labels of `by` or `without`.
    pub labels: Vec<String>,
    /// Whether the labels are those to leave out.
    pub without: bool,
    /// The parameter of those that have one.
    pub param: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the signs are in `BINARY`")]
pub(crate) enum BinOp {
    Or,
    And,
    Unless,
    Eq,
    Ne,
    Le,
    Lt,
    Ge,
    Gt,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Atan2,
    Pow,
}

/// Every binary operator with its sign and how tightly it binds.
pub(crate) const BINARY: [(&str, BinOp, u8); 16] = [
    ("or", BinOp::Or, 1),
    ("and", BinOp::And, 2),
    ("unless", BinOp::Unless, 2),
    ("==", BinOp::Eq, 3),
    ("!=", BinOp::Ne, 3),
    ("<=", BinOp::Le, 3),
    ("<", BinOp::Lt, 3),
    (">=", BinOp::Ge, 3),
    (">", BinOp::Gt, 3),
    ("+", BinOp::Add, 4),
    ("-", BinOp::Sub, 4),
    ("*", BinOp::Mul, 5),
    ("/", BinOp::Div, 5),
    ("%", BinOp::Mod, 5),
    ("atan2", BinOp::Atan2, 5),
    ("^", BinOp::Pow, 6),
];

impl BinOp {
    /// As PromQL writes it, such as `+` or `and`.
    pub(crate) fn sign(self) -> &'static str {
        BINARY.iter().find(|(_, op, _)| *op == self).map_or("", |(sign, ..)| sign)
    }

    /// Whether it compares.
    pub(crate) fn compares(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Le | Self::Lt | Self::Ge | Self::Gt)
    }

    /// Whether it is `and`, `or` or `unless`.
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

/// Which side may have several series for one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    /// Neither.
    OneToOne,
    /// The left: `group_left`.
    ManyToOne,
    /// The right: `group_right`.
    OneToMany,
    /// Both: `and`, `or`, `unless`.
    ManyToMany,
}

/// Which series belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matching {
    /// Which side may have several.
    pub card: Card,
    /// Whether `labels` are those that must be equal, not those that may differ.
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Labels that the result takes from the side with one.
    pub include: Vec<String>,
}

/// An operator between two expressions.
#[derive(Debug, PartialEq)]
pub(crate) struct Binary {
    /// Which.
    pub op: BinOp,
    /// Left.
    pub lhs: Expr,
    /// Right.
    pub rhs: Expr,
    /// Whether a comparison gives 0 or 1 instead of leaving out.
    pub returns_bool: bool,
    /// Which series belong together; of no use unless both sides are vectors.
    pub matching: Matching,
}

impl Expr {
    /// What it gives.
    pub(crate) fn kind(&self) -> Type {
        match &self.node {
            Node::Number(_) => Type::Scalar,
            Node::Text(_) => Type::Text,
            Node::Select(_) | Node::Aggregate(_) => Type::Vector,
            Node::Range(..) | Node::Subquery(_) => Type::Matrix,
            Node::Call(function, _) => function.gives,
            Node::Binary(binary) => match (binary.lhs.kind(), binary.rhs.kind()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
            Node::Negate(inner) | Node::Paren(inner) => inner.kind(),
        }
    }

    /// The expression inside of any parentheses.
    pub(crate) fn bare(&self) -> &Self {
        match &self.node {
            Node::Paren(inner) => inner.bare(),
            _ => self,
        }
    }
}

impl Selector {
    /// The metric's name, where the selector gives exactly one.
    pub(crate) fn metric(&self) -> Option<&str> {
        let is_name = |matcher: &&Matcher| matcher.name == "__name__" && matcher.operator() == "=";
        self.matchers.iter().find(is_name).map(|matcher| matcher.value.as_str())
    }
}
