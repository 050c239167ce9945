//! `query` and `query_range`.

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
use crate::server::promql::ast::Expr;
use crate::server::promql::eval::{LOOKBACK_MS, Steps};
use crate::server::promql::parse::parse;
use crate::server::promql::store::StoreSource;
use crate::server::promql::value::is_absent;
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
    let value = query(source, &form, &canceled)?.instant(&expr, at_ms)?;
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
    let value = query(source, &form, &canceled)?.range(&expr, steps, end_ms)?;
    let mut out = b"{\"resultType\":\"matrix\",\"result\":[".to_vec();
    for (index, row) in value.rows.into_iter().take(limit).enumerate() {
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
