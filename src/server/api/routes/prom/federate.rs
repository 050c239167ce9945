//! `/federate`: the newest sample of each series that a selector gives, for another Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Failure, failed, form, raw, source};
use crate::base::limits::{PROMQL_ANSWER_BYTES_MAX, PROMQL_SERIES_MAX};
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::exposition::CONTENT_TYPE;
use crate::server::promql::eval::LOOKBACK_MS;
use crate::server::promql::labels::NAME;
use crate::server::promql::matcher::is_plain;
use crate::server::promql::store::StoreSource;
use crate::server::promql::{LabelSet, PromError, Source, Span, number_text};

/// Answers in Prometheus' text format, with the time of each sample.
pub(super) fn federate(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    match newest(call, &source) {
        Ok(text) => Ok(Reply::raw(CONTENT_TYPE, text.into_bytes())),
        Err(failure) => {
            let (status, kind, message) = failure.parts();
            Ok(raw(status, failed(kind, &message)))
        }
    }
}

fn newest(call: &Call<'_>, source: &StoreSource<'_>) -> Result<String, Failure> {
    let form = form::Form::of(call)?;
    let selectors = form.selectors()?;
    let from_ms = call.now_ms - LOOKBACK_MS + 1;
    let mut found: BTreeMap<LabelSet, (i64, f64)> = BTreeMap::new();
    for matchers in &selectors {
        let span = Span::newest(from_ms, call.now_ms);
        source.select(matchers, span, &mut |labels, samples| {
            if call.ticket.is_gone() {
                return Err(PromError::Canceled);
            }
            if found.len() as u64 >= PROMQL_SERIES_MAX {
                let message = format!("the selectors give over {PROMQL_SERIES_MAX} series");
                return Err(PromError::Execution(message));
            }
            if let Some(newest) = samples.last() {
                found.insert(labels, *newest);
            }
            Ok(())
        })?;
    }
    // Series of one metric are together.
    let mut rows: Vec<(&LabelSet, &(i64, f64))> = found.iter().collect();
    rows.sort_by_key(|(labels, _)| labels.get(NAME));
    let mut out = String::new();
    let mut name = None;
    for (labels, (ms, value)) in rows {
        let own = labels.get(NAME);
        // Writing to a String does not fail.
        if name != Some(own) && is_plain(own, true) {
            let _ = writeln!(out, "# TYPE {own} untyped");
        }
        name = Some(own);
        let _ = writeln!(out, "{labels} {} {ms}", number_text(*value));
        if out.len() > PROMQL_ANSWER_BYTES_MAX {
            let message = format!("the answer has over {PROMQL_ANSWER_BYTES_MAX} bytes");
            return Err(PromError::Execution(message).into());
        }
    }
    Ok(out)
}
