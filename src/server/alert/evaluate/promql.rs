//! `promql`: an expression has a result; each of its series is an alert.
//!
//! There is no point to evaluate: a thread evaluates the expression at its interval (`query.rs`),
//! and what it gives is held against the series of before (`results.rs`). The sample here is the
//! value of one series of the result.

use std::time::Duration;

use serde_json::Value;

use crate::base::limits::{
    LABEL_NAME_BYTES_MAX, LABELS_MAX, PROMQL_BYTES_MAX, PROMQL_RULE_INTERVAL_SECS_MAX,
    RULE_MESSAGE_BYTES_MAX,
};
use crate::model::alert::Cause;
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, number, span,
};
use crate::server::alert::fields::{Field, FieldError, Fields, shown};
use crate::server::alert::window::Window;
use crate::server::promql::ast::{Expr, Node};
use crate::server::promql::labels::NAME;
use crate::server::promql::matcher::is_plain;
use crate::server::promql::parse::parse as parse_query;
use crate::server::promql::value::Type;

mod humanize;
pub(crate) mod template;

use template::Template;

/// The agent of an alert whose series names none.
pub(crate) const QUERY_AGENT: &str = "promql";

/// Seconds between two evaluations where a rule names none: Prometheus' own default.
const INTERVAL_SECS_DEFAULT: u64 = 60;

/// Characters of the expression that a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "promql",
    help: "A PromQL expression has a result: one alert for each of its series.",
    fields: &[
        Field::required("expr", "The expression; it must give an instant vector."),
        Field::optional(
            "duration_secs",
            "Seconds in which every evaluation gives the series. Default: 0.",
        ),
        Field::optional("interval_secs", "Seconds between two evaluations. Default: 60."),
        Field::optional(
            "message",
            "The alert's message, with Prometheus' templates. Default: value and expression.",
        ),
        Field::optional(
            "alert_labels",
            "Labels that its alerts get, with Prometheus' templates: {\"team\": \"db\"}.",
        ),
    ],
    metric: MetricField::None,
    parse,
};

/// What is evaluated, and how often.
#[derive(Debug)]
pub struct RuleQuery {
    /// The expression.
    pub(crate) expr: Expr,
    /// Between two evaluations.
    pub(crate) interval: Duration,
    /// Labels that alerts get.
    pub(crate) labels: Vec<(String, Template)>,
}

#[derive(Debug)]
struct PromQl {
    query: RuleQuery,
    hold_ms: i64,
    message: Option<Template>,
    /// The number that the expression compares with; 0 where it does not.
    threshold: f64,
    shown: String,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    let text = fields.text("expr", PROMQL_BYTES_MAX)?;
    let text = text.ok_or_else(|| FieldError::new("expr", "is missing"))?.trim();
    let expr = parse_query(text).map_err(|error| FieldError::new("expr", error.to_string()))?;
    if expr.kind() != Type::Vector {
        let message = format!("must give an instant vector, gives a {}", expr.kind().name());
        return Err(FieldError::new("expr", message));
    }
    let range = (1, PROMQL_RULE_INTERVAL_SECS_MAX);
    let interval_secs = fields.whole("interval_secs", range, INTERVAL_SECS_DEFAULT)?;
    let message = fields.text("message", RULE_MESSAGE_BYTES_MAX)?;
    let message = message.filter(|text| !text.trim().is_empty()).map(Template::parse).transpose();
    let threshold = threshold(&expr).unwrap_or(0.0);
    let shown = shortened(text);
    let labels = labels(fields.value("alert_labels"))?;
    let interval = Duration::from_secs(interval_secs);
    Ok(Box::new(PromQl {
        query: RuleQuery { expr, interval, labels },
        hold_ms: fields.secs_as_ms("duration_secs", 0, 0)?,
        message: message.map_err(|why| FieldError::new("message", why))?,
        threshold,
        shown,
    }))
}

fn labels(value: Option<&Value>) -> Result<Vec<(String, Template)>, FieldError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let wrong = |why: String| FieldError::new("alert_labels", why);
    let map = value.as_object();
    let map = map.ok_or_else(|| wrong(format!("must be texts by name, is {}", shown(value))))?;
    if map.len() > LABELS_MAX {
        return Err(wrong(format!("has {} labels, more than {LABELS_MAX}", map.len())));
    }
    let mut out = Vec::new();
    for (name, value) in map {
        let field = format!("alert_labels.{name}");
        if !is_plain(name, false) || name == NAME || name.len() > LABEL_NAME_BYTES_MAX {
            return Err(FieldError::new(&field, "is not a name that a label can have"));
        }
        let text = value.as_str().filter(|text| text.len() <= RULE_MESSAGE_BYTES_MAX);
        let text = text.ok_or_else(|| {
            let message = format!("must be a text of at most {RULE_MESSAGE_BYTES_MAX} bytes");
            FieldError::new(&field, message)
        })?;
        let template = Template::parse(text).map_err(|why| FieldError::new(&field, why))?;
        out.push((name.clone(), template));
    }
    Ok(out)
}

/// The number on the right of a comparison that the whole expression is.
fn threshold(expr: &Expr) -> Option<f64> {
    let Node::Binary(binary) = &expr.bare().node else { return None };
    let right = if binary.op.compares() { &binary.rhs.bare().node } else { return None };
    match right {
        Node::Number(number) => Some(*number),
        Node::Negate(inner) => match &inner.bare().node {
            Node::Number(number) => Some(-number),
            _ => None,
        },
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// The expression in one line, cut to what a message can hold.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SHOWN_CHARS_MAX {
        return line;
    }
    line.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

/// Whom a message is about, without the agent that stands for none.
fn subject_text(subject: Subject<'_>) -> String {
    let labels =
        if subject.labels.is_empty() { String::new() } else { format!("{{{}}}", subject.labels) };
    let metric = if subject.metric == "*" { "" } else { subject.metric };
    match (format!("{metric}{labels}"), subject.agent) {
        (what, QUERY_AGENT) if what.is_empty() => "the result".to_owned(),
        (what, QUERY_AGENT) => what,
        (what, agent) if what.is_empty() => agent.to_owned(),
        (what, agent) => format!("{what} on {agent}"),
    }
}

impl Evaluator for PromQl {
    fn hold_ms(&self) -> i64 {
        self.hold_ms
    }

    fn query(&self) -> Option<&RuleQuery> {
        Some(&self.query)
    }

    fn evaluate(&self, sample: Sample, _window: &Window) -> Evaluation {
        Evaluation::plain(Condition::Breach, sample.value, self.threshold)
    }

    fn cause(&self, subject: Subject<'_>, evaluation: &Evaluation) -> Cause {
        let own = self.message.is_some().then(|| self.firing(subject, evaluation));
        Cause::Query { expr: self.shown.clone(), text: own }
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        if let Some(message) = &self.message {
            let text = message.render(&|name| label(subject, name), evaluation.value);
            return text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        let lasts = match self.hold_ms {
            0 => String::new(),
            hold_ms => format!(", for {}", span(hold_ms)),
        };
        let (subject, value) = (subject_text(subject), number(evaluation.value));
        format!("{subject} is {value}: {}{lasts}", self.shown)
    }

    fn recovered(&self, subject: Subject<'_>, _: &Evaluation, lasted_ms: i64) -> String {
        let (subject, lasted) = (subject_text(subject), span(lasted_ms));
        format!("{subject} no longer matches after {lasted}: {}", self.shown)
    }
}

/// The label of a subject under its name in PromQL. The agent is found under each of the names
/// that it may have there, and every label together under the empty one.
fn label(subject: Subject<'_>, name: &str) -> String {
    let agent = Some(subject.agent).filter(|agent| *agent != QUERY_AGENT).unwrap_or("");
    if name.is_empty() {
        let agent = (!agent.is_empty()).then(|| format!("agent:{agent}"));
        let labels = subject.labels.iter().map(|(name, value)| format!("{name}:{value}"));
        return format!("map[{}]", agent.into_iter().chain(labels).collect::<Vec<_>>().join(" "));
    }
    let metric = if subject.metric == "*" { "" } else { subject.metric };
    let found = subject.labels.get(name).or(match name {
        NAME => Some(metric),
        "agent" | "instance" | "host" => Some(agent),
        _ => None,
    });
    found.unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::Labels;
    use crate::server::alert::evaluate::evaluator;
    use serde_json::json;

    fn made(config: Value) -> Result<Box<dyn Evaluator>, String> {
        evaluator(&RULE_TYPE, config.as_object().unwrap()).map_err(|error| error.to_string())
    }

    fn firing(config: Value, value: f64) -> String {
        let made = made(config).unwrap();
        let labels = Labels::one("mount", "/");
        let subject = Subject { agent: "web-01", metric: "disk.used_percent", labels: &labels };
        made.firing(subject, &made.evaluate(Sample { at_ms: 0, value }, &Window::none()))
    }

    #[test]
    fn messages_say_value_and_expression_or_what_the_template_says() {
        let expr = "oxmon_disk_used_percent > 90";
        let text = firing(json!({"expr": expr, "duration_secs": 300}), 91.5);
        let wanted = "disk.used_percent{mount=\"/\"} on web-01 is 91.5: ";
        assert_eq!(text, format!("{wanted}{expr}, for 5m"));
        let message = "{{ $labels.mount }} of {{ $labels.instance }}\n at {{ $value | humanize }}%";
        let text = firing(json!({"expr": expr, "message": message}), 91.5);
        assert_eq!(text, "/ of web-01 at 91.5%");
        let message = "{{ $labels }}";
        let text = firing(json!({"expr": expr, "message": message}), 91.5);
        assert_eq!(text, "map[agent:web-01 mount:/]");
    }

    #[test]
    fn series_without_an_agent_read_well() {
        let made = made(json!({"expr": "sum(x) > 1"})).unwrap();
        let labels = Labels::none();
        let subject = Subject { agent: QUERY_AGENT, metric: "*", labels: &labels };
        let evaluation = made.evaluate(Sample { at_ms: 0, value: 2.0 }, &Window::none());
        assert_eq!(evaluation.threshold, 1.0);
        assert_eq!(made.firing(subject, &evaluation), "the result is 2: sum(x) > 1");
        let text = made.recovered(subject, &evaluation, 60_000);
        assert_eq!(text, "the result no longer matches after 1m: sum(x) > 1");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (config, wanted) in [
            (json!({}), "`expr` is missing"),
            (json!({"expr": "sum(x"}), "`expr` 1:6: parse error: "),
            (json!({"expr": "x[5m]"}), "`expr` must give an instant vector, gives a range vector"),
            (json!({"expr": "1"}), "`expr` must give an instant vector, gives a scalar"),
            (json!({"expr": 1}), "`expr` must be text, is 1"),
            (json!({"expr": "x", "interval_secs": 0}), "`interval_secs` must be a whole number"),
            (json!({"expr": "x", "message": "{{ query \"y\" }}"}), "`message` has the function"),
            (json!({"expr": "x", "alert_labels": 1}), "`alert_labels` must be texts by name"),
            (json!({"expr": "x", "alert_labels": {"a-b": "c"}}), "`alert_labels.a-b` is not a"),
        ] {
            let error = made(config.clone()).unwrap_err();
            assert!(error.starts_with(wanted), "{config}: {error}");
        }
    }
}
