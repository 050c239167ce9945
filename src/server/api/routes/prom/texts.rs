//! What needs no samples: `format_query`, `parse_query`, `query_exemplars`, `status/buildinfo`.

use serde_json::{Value, json};

use super::form::Form;
use super::query::expression;
use super::{Failure, reply};
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::promql::ast::{At, Card, Expr, Matching, Node, Selector, Shift, Type};
use crate::server::promql::number_text;

/// The version of Prometheus whose semantics and API are followed.
const VERSION: &str = "3.0.0";

/// oxmon keeps no exemplars.
pub(super) fn exemplars(_: &Call<'_>) -> Result<Reply, ApiError> {
    reply(Ok(b"[]".to_vec()))
}

/// What Grafana asks to know what it may send.
pub(super) fn buildinfo(_: &Call<'_>) -> Result<Reply, ApiError> {
    let about = json!({
        "version": VERSION, "revision": concat!("oxmon-", env!("CARGO_PKG_VERSION")),
        "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    });
    reply(Ok(about.to_string().into_bytes()))
}

/// A query's text as it would be written.
pub(super) fn format_query(call: &Call<'_>) -> Result<Reply, ApiError> {
    let text = || -> Result<Vec<u8>, Failure> {
        let expr = expression(&Form::of(call)?)?;
        Ok(Value::String(expr.to_string()).to_string().into_bytes())
    };
    reply(text())
}

/// A query's tree.
pub(super) fn parse_query(call: &Call<'_>) -> Result<Reply, ApiError> {
    let tree = || -> Result<Vec<u8>, Failure> {
        Ok(tree(&expression(&Form::of(call)?)?).to_string().into_bytes())
    };
    reply(tree())
}

fn tree(expr: &Expr) -> Value {
    match &expr.node {
        Node::Number(number) => json!({ "type": "numberLiteral", "val": number_text(*number) }),
        Node::Text(text) => json!({ "type": "stringLiteral", "val": text }),
        Node::Select(selector) => select("vectorSelector", selector, None),
        Node::Range(selector, range_ms) => select("matrixSelector", selector, Some(*range_ms)),
        Node::Subquery(sub) => {
            let (offset, timestamp, word) = shift(sub.shift);
            json!({
                "type": "subquery", "expr": tree(&sub.expr), "range": sub.range_ms,
                "step": sub.step_ms.unwrap_or(0), "offset": offset,
                "timestamp": timestamp, "startOrEnd": word,
            })
        }
        Node::Call(function, args) => json!({
            "type": "call",
            "func": {
                "name": function.name, "returnType": kind(function.gives),
                "argTypes": function.takes.iter().map(|t| kind(*t)).collect::<Vec<_>>(),
                "variadic": if function.repeats { -1 } else { i64::try_from(function.optional).unwrap_or(0) },
            },
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        Node::Aggregate(agg) => json!({
            "type": "aggregation", "op": agg.op.name(), "expr": tree(&agg.expr),
            "param": agg.param.as_ref().map(tree), "grouping": agg.labels, "without": agg.without,
        }),
        Node::Binary(binary) => {
            let vectors = binary.lhs.kind() == Type::Vector && binary.rhs.kind() == Type::Vector;
            json!({
                "type": "binaryExpr", "op": binary.op.sign(), "bool": binary.returns_bool,
                "lhs": tree(&binary.lhs), "rhs": tree(&binary.rhs),
                "matching": vectors.then(|| matching(&binary.matching)),
            })
        }
        Node::Negate(inner) => json!({ "type": "unaryExpr", "op": "-", "expr": tree(inner) }),
        Node::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
    }
}

fn matching(matching: &Matching) -> Value {
    let card = match matching.card {
        Card::OneToOne => "one-to-one",
        Card::ManyToOne => "many-to-one",
        Card::OneToMany => "one-to-many",
        Card::ManyToMany => "many-to-many",
    };
    json!({
        "card": card, "on": matching.on, "labels": matching.labels, "include": matching.include,
    })
}

fn select(kind: &str, selector: &Selector, range_ms: Option<i64>) -> Value {
    let (offset, timestamp, word) = shift(selector.shift);
    let matchers: Vec<Value> = selector
        .matchers
        .iter()
        .map(|one| json!({ "type": one.operator(), "name": one.name, "value": one.value }))
        .collect();
    let mut out = json!({
        "type": kind, "name": selector.metric().unwrap_or_default(), "matchers": matchers,
        "offset": offset, "timestamp": timestamp, "startOrEnd": word,
    });
    if let (Some(range_ms), Some(out)) = (range_ms, out.as_object_mut()) {
        out.insert("range".to_owned(), json!(range_ms));
    }
    out
}

fn shift(shift: Shift) -> (i64, Option<i64>, Option<&'static str>) {
    match shift.at {
        Some(At::Time(ms)) => (shift.offset_ms, Some(ms), None),
        Some(At::Start) => (shift.offset_ms, None, Some("start")),
        Some(At::End) => (shift.offset_ms, None, Some("end")),
        None => (shift.offset_ms, None, None),
    }
}

fn kind(kind: Type) -> &'static str {
    match kind {
        Type::Scalar => "scalar",
        Type::Vector => "vector",
        Type::Matrix => "matrix",
        Type::Text => "string",
    }
}
