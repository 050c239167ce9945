//! `query` and `query_range`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::form::Form;
use super::{Failure, json, reply, source};
use crate::base::limits::{
    PROMQL_ANSWER_BYTES_MAX, PROMQL_MEMORY_BYTES_MAX, PROMQL_SAMPLES_MAX, PROMQL_SECS_MAX,
    PROMQL_SERIES_MAX, PROMQL_STEPS_MAX, PROMQL_SUBQUERY_STEPS_MAX,
};
use crate::rt::thread::in_background;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::promql::ast::{Expr, Type};
use crate::server::promql::elsewhere::{Asked, Part};
use crate::server::promql::eval::{LOOKBACK_MS, Row, Steps, is_ordered};
use crate::server::promql::labels::LabelSet;
use crate::server::promql::parse::parse;
use crate::server::promql::store::StoreSource;
use crate::server::promql::value::{ABSENT, is_absent};
use crate::server::promql::{Instant, Limits, PromError, Query};

/// The result at one time.
pub(super) fn instant(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    reply(counted(call, || at_once(call, &source)))
}

/// Runs a query in the background, counted while it runs.
pub(super) fn counted(
    call: &Call<'_>,
    query: impl FnOnce() -> Result<Vec<u8>, Failure> + Send,
) -> Result<Vec<u8>, Failure> {
    let running = &call.app.api_metrics.queries;
    running.inc();
    let outcome = in_background("promql", query);
    running.dec();
    outcome
}

fn at_once(call: &Call<'_>, source: &StoreSource<'_>) -> Result<Vec<u8>, Failure> {
    let form = Form::of(call)?;
    let expr = expression(&form)?;
    let at_ms = form.time("time")?.unwrap_or(call.now_ms);
    let limit = form.limit("limit")?;
    let canceled = || call.ticket.is_gone();
    let query = query(source, &form, &canceled)?;
    let steps = Steps { start_ms: at_ms, step_ms: 1, count: 1 };
    // The order of an answer is not the engine's to give.
    let part = match is_ordered(&expr) {
        true => None,
        false => elsewhere(call, source, &query, (&expr, steps, at_ms))?,
    };
    let value = match part {
        Some(part) => Instant::Vector(part.rows.into_iter().filter_map(first).collect()),
        None => query.instant(&expr, at_ms)?,
    };
    let mut out = Vec::new();
    match value {
        Instant::Scalar(value) => {
            out.extend_from_slice(b"{\"resultType\":\"scalar\",\"result\":");
            json::sample(&mut out, at_ms, value);
        }
        Instant::Text(text) => {
            out.extend_from_slice(b"{\"resultType\":\"string\",\"result\":[");
            out.extend_from_slice((at_ms as f64 / 1_000.0).to_string().as_bytes());
            out.push(b',');
            json::text(&mut out, &text);
            out.push(b']');
        }
        Instant::Vector(rows) => {
            out.extend_from_slice(b"{\"resultType\":\"vector\",\"result\":[");
            for (index, (labels, value)) in rows.into_iter().take(limit).enumerate() {
                out.extend_from_slice(if index > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
                json::labels(&mut out, &labels);
                out.extend_from_slice(b",\"value\":");
                json::sample(&mut out, at_ms, value);
                out.push(b'}');
                check_length(&out)?;
            }
            out.push(b']');
        }
        Instant::Matrix(rows) => {
            out.extend_from_slice(b"{\"resultType\":\"matrix\",\"result\":[");
            for (index, (labels, samples)) in rows.into_iter().take(limit).enumerate() {
                out.extend_from_slice(if index > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
                json::labels(&mut out, &labels);
                out.extend_from_slice(b",\"values\":[");
                samples_of(&mut out, samples.into_iter());
                out.extend_from_slice(b"]}");
                check_length(&out)?;
            }
            out.push(b']');
        }
    }
    out.push(b'}');
    Ok(out)
}

/// A series of a result of one step.
fn first(row: Row) -> Option<(LabelSet, f64)> {
    row.values.first().filter(|value| !is_absent(**value)).map(|value| (row.labels.clone(), *value))
}

/// What the engine makes of the first steps, where it is asked and has samples that are not here.
fn elsewhere(
    call: &Call<'_>,
    source: &StoreSource<'_>,
    query: &Query<'_>,
    (expr, steps, end_ms): (&Expr, Steps, i64),
) -> Result<Option<Part>, Failure> {
    let Some(remote) = call.app.remote.as_ref().filter(|_| expr.kind() == Type::Vector) else {
        return Ok(None);
    };
    let (names, lookback_ms) = (&source.names, query.lookback_ms);
    Ok(remote.elsewhere().evaluate(&Asked { expr, names, steps, end_ms, lookback_ms })?)
}

/// The result at each step: of the first from elsewhere, where that has them, of the others here.
fn joined(
    query: &Query<'_>,
    (expr, steps, end_ms): (&Expr, Steps, i64),
    part: Option<Part>,
) -> Result<Vec<Row>, PromError> {
    let Some(part) = part else { return Ok(query.range(expr, steps, end_ms)?.rows) };
    let count = steps.count.saturating_sub(part.steps);
    let here = if count == 0 {
        Vec::new()
    } else {
        let later = Steps { start_ms: steps.time(part.steps), count, ..steps };
        query.range(expr, later, end_ms)?.rows
    };
    let mut rows: BTreeMap<LabelSet, Vec<f64>> = BTreeMap::new();
    for Row { labels, mut values } in part.rows {
        values.resize(steps.count, ABSENT);
        rows.insert(labels, values);
    }
    for Row { labels, values } in here {
        let all = rows.entry(labels).or_insert_with(|| vec![ABSENT; steps.count]);
        all.iter_mut().skip(part.steps).zip(values).for_each(|(slot, value)| *slot = value);
    }
    Ok(rows.into_iter().map(|(labels, values)| Row { labels, values }).collect())
}

/// The result at each step.
pub(super) fn range(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    reply(counted(call, || over_time(call, &source)))
}

fn over_time(call: &Call<'_>, source: &StoreSource<'_>) -> Result<Vec<u8>, Failure> {
    let form = Form::of(call)?;
    let missing = |name| Failure::parameter(name, "cannot parse \"\" to a valid timestamp");
    let start_ms = form.time("start")?.ok_or_else(|| missing("start"))?;
    let end_ms = form.time("end")?.ok_or_else(|| missing("end"))?;
    if end_ms < start_ms {
        let message = "end timestamp must not be before start time";
        return Err(Failure::parameter("end", message));
    }
    let step = form.duration("step")?;
    let step_ms =
        step.ok_or_else(|| Failure::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a \
                       positive integer";
        return Err(Failure::parameter("step", message));
    }
    let last = (end_ms - start_ms) / step_ms;
    if last > PROMQL_STEPS_MAX {
        return Err(Failure::Bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)"
                .to_owned(),
        ));
    }
    let expr = expression(&form)?;
    let limit = form.limit("limit")?;
    let count = usize::try_from(last).unwrap_or(0) + 1;
    let steps = Steps { start_ms, step_ms, count };
    let canceled = || call.ticket.is_gone();
    let query = query(source, &form, &canceled)?;
    let asked = (&expr, steps, end_ms);
    let part = elsewhere(call, source, &query, asked)?;
    let rows = joined(&query, asked, part)?;
    let mut out = b"{\"resultType\":\"matrix\",\"result\":[".to_vec();
    for (index, row) in rows.into_iter().take(limit).enumerate() {
        out.extend_from_slice(if index > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
        json::labels(&mut out, &row.labels);
        out.extend_from_slice(b",\"values\":[");
        let values = row.values.into_iter().enumerate().filter(|(_, value)| !is_absent(*value));
        samples_of(&mut out, values.map(|(index, value)| (steps.time(index), value)));
        out.extend_from_slice(b"]}");
        check_length(&out)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

const _: () = assert!(PROMQL_STEPS_MAX == 11_000, "the message names it");

fn samples_of(out: &mut Vec<u8>, samples: impl Iterator<Item = (i64, f64)>) {
    for (index, (ms, value)) in samples.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::sample(out, ms, value);
    }
}

fn check_length(out: &[u8]) -> Result<(), Failure> {
    if out.len() <= PROMQL_ANSWER_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the answer has over {} MiB; narrow the query's selectors, take a longer step or aggregate",
        PROMQL_ANSWER_BYTES_MAX / (1024 * 1024)
    );
    Err(PromError::Execution(message).into())
}

/// The parameter `query` as a tree.
pub(super) fn expression(form: &Form) -> Result<Expr, Failure> {
    let text = form.get("query").unwrap_or_default();
    parse(text).map_err(|error| Failure::parameter("query", error))
}

fn query<'a>(
    source: &'a StoreSource<'a>,
    form: &Form,
    canceled: &'a dyn Fn() -> bool,
) -> Result<Query<'a>, Failure> {
    let most = Duration::from_secs(PROMQL_SECS_MAX);
    let wanted = form.duration("timeout")?.and_then(|ms| u64::try_from(ms).ok());
    let lookback = form.duration("lookback_delta")?.filter(|ms| *ms > 0);
    let limits = Limits {
        samples: PROMQL_SAMPLES_MAX,
        series: PROMQL_SERIES_MAX,
        bytes: PROMQL_MEMORY_BYTES_MAX,
        subquery_steps: PROMQL_SUBQUERY_STEPS_MAX,
        time: wanted.map_or(most, |ms| Duration::from_millis(ms).min(most)),
    };
    Ok(Query { source, limits, lookback_ms: lookback.unwrap_or(LOOKBACK_MS), canceled })
}
