//! A tree as text that the parser takes.

use std::fmt;

use super::{At, Binary, Card, Expr, Node, Selector, Shift};
use crate::server::promql::matcher::{Matcher, is_plain, label_text, quoted};
use crate::server::promql::number_text;

/// Milliseconds as PromQL writes them: `1h30m`.
pub(crate) fn duration_text(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms.unsigned_abs();
    let mut out = if ms < 0 { "-".to_owned() } else { String::new() };
    for (unit, size, exact) in [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ] {
        // Years and weeks are written only where nothing is left over.
        if rest >= size && (!exact || rest.is_multiple_of(size)) {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    out
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(At::Time(ms)) => {
                write!(f, " @ {}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))?
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        if self.offset_ms != 0 {
            write!(f, " offset {}", duration_text(self.offset_ms))?;
        }
        Ok(())
    }
}

impl Selector {
    fn series(&self) -> String {
        let name = self.metric().unwrap_or_default();
        let plain = is_plain(name, true);
        let mut parts: Vec<String> = Vec::new();
        if !plain && !name.is_empty() {
            parts.push(quoted(name));
        }
        let is_metric =
            |m: &Matcher| m.name == "__name__" && m.operator() == "=" && m.value == name;
        let others = self.matchers.iter().filter(|matcher| !is_metric(matcher));
        parts.extend(others.map(ToString::to_string));
        let shown = if plain { name } else { "" };
        if parts.is_empty() && plain {
            return shown.to_owned();
        }
        format!("{shown}{{{}}}", parts.join(","))
    }
}

fn list(labels: &[String]) -> String {
    labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(number) => f.write_str(&number_text(*number)),
            Node::Text(text) => f.write_str(&quoted(text)),
            Node::Select(selector) => write!(f, "{}{}", selector.series(), selector.shift),
            Node::Range(selector, range) => {
                write!(f, "{}[{}]{}", selector.series(), duration_text(*range), selector.shift)
            }
            Node::Subquery(sub) => {
                let step = sub.step_ms.map(duration_text).unwrap_or_default();
                write!(f, "{}[{}:{step}]{}", sub.expr, duration_text(sub.range_ms), sub.shift)
            }
            Node::Call(function, args) => {
                let args: Vec<String> = args.iter().map(ToString::to_string).collect();
                write!(f, "{}({})", function.name, args.join(", "))
            }
            Node::Aggregate(agg) => {
                f.write_str(agg.op.name())?;
                if agg.without {
                    write!(f, " without ({})", list(&agg.labels))?;
                } else if !agg.labels.is_empty() {
                    write!(f, " by ({})", list(&agg.labels))?;
                }
                let gap = if agg.without || !agg.labels.is_empty() { " " } else { "" };
                match &agg.param {
                    Some(param) => write!(f, "{gap}({param}, {})", agg.expr),
                    None => write!(f, "{gap}({})", agg.expr),
                }
            }
            Node::Binary(binary) => binary.fmt(f),
            Node::Negate(inner) => write!(f, "-{inner}"),
            Node::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lhs, self.op.sign())?;
        if self.returns_bool {
            f.write_str(" bool")?;
        }
        let matching = &self.matching;
        if matching.on || !matching.labels.is_empty() {
            let word = if matching.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", list(&matching.labels))?;
        }
        match matching.card {
            Card::ManyToOne => write!(f, " group_left ({})", list(&matching.include))?,
            Card::OneToMany => write!(f, " group_right ({})", list(&matching.include))?,
            _ => {}
        }
        write!(f, " {}", self.rhs)
    }
}
