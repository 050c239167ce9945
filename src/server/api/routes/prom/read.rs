//! Remote read: raw samples, for a Prometheus beside oxmon.
//!
//! ```text
//! ReadRequest   1: queries { 1: start ms, 2: end ms, 3: matchers { 1: type, 2: name, 3: value } }
//! ReadResponse  1: results { 1: timeseries { 1: labels { 1: name, 2: value }, 2: samples } }
//! ```

use std::time::{Duration, Instant};

use super::query::counted;
use super::{Failure, raw, source};
use crate::base::limits::{
    PROMQL_ANSWER_BYTES_MAX, PROMQL_BYTES_MAX, PROMQL_MEMORY_BYTES_MAX, PROMQL_SECS_MAX,
};
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::promql::store::StoreSource;
use crate::server::promql::{LabelSet, Matcher, PromError, Source, Span};
use crate::server::receive::proto::{Fields, Malformed, put_bytes, put_double, put_int};
use crate::server::receive::unpack::unpack;

const PROTOBUF: &str = "application/x-protobuf";

/// Answers with samples, packed with Snappy.
pub(super) fn remote_read(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    let read = || read(call.body, &source, &|| call.ticket.is_gone());
    match counted(call, read) {
        Ok(bytes) => {
            let mut reply = Reply::raw(PROTOBUF, bytes);
            reply.headers.push(("Content-Encoding", "snappy".to_owned()));
            Ok(reply)
        }
        Err(failure) => {
            let (status, kind, message) = failure.parts();
            Ok(raw(status, super::failed(kind, &message)))
        }
    }
}

fn read(
    body: &[u8],
    source: &StoreSource<'_>,
    is_gone: &dyn Fn() -> bool,
) -> Result<Vec<u8>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::Bad(error.to_string());
    let message = unpack(body).map_err(|error| bad(&error))?;
    // A selector of PromQL can't be longer.
    if message.len() > PROMQL_BYTES_MAX {
        return Err(Failure::Bad(format!("the request has over {PROMQL_BYTES_MAX} bytes")));
    }
    let deadline = Instant::now() + Duration::from_secs(PROMQL_SECS_MAX);
    let mut answer = Vec::new();
    for field in Fields::new(&message) {
        let (number, value) = field.map_err(|error| bad(&error))?;
        if number != 1 {
            continue;
        }
        let query = value.bytes().and_then(query_of).map_err(|error| bad(&error))?;
        let matchers = query.matchers.map_err(Failure::Bad)?;
        let mut result = Vec::new();
        let span = Span::all(query.start_ms, query.end_ms);
        source.select(&matchers, span, &mut |labels, samples| {
            if is_gone() {
                return Err(PromError::Canceled);
            }
            if Instant::now() > deadline {
                return Err(PromError::Timeout);
            }
            put_bytes(&mut result, 1, &series(&labels, samples));
            if answer.len() + result.len() > PROMQL_ANSWER_BYTES_MAX {
                let message = format!("the answer has over {PROMQL_ANSWER_BYTES_MAX} bytes");
                return Err(PromError::Execution(message));
            }
            Ok(())
        })?;
        put_bytes(&mut answer, 1, &result);
    }
    let packed = snap::raw::Encoder::new().compress_vec(&answer);
    packed.map_err(|error| bad(&error))
}

const _: () = assert!(PROMQL_ANSWER_BYTES_MAX <= PROMQL_MEMORY_BYTES_MAX);

/// What becomes of a request, in a word, for the fuzzing harness.
#[cfg(test)]
pub(crate) fn outcome(body: &[u8], source: &StoreSource<'_>) -> String {
    match read(body, source, &|| false) {
        Ok(answer) => format!("{} bytes", answer.len().min(9)),
        Err(failure) => failure.parts().2,
    }
}

struct ReadQuery {
    start_ms: i64,
    end_ms: i64,
    matchers: Result<Vec<Matcher>, String>,
}

fn query_of(message: &[u8]) -> Result<ReadQuery, Malformed> {
    let (mut start_ms, mut end_ms) = (0, 0);
    let mut matchers = Vec::new();
    for field in Fields::new(message) {
        match field? {
            (1, ms) => start_ms = ms.int()?,
            (2, ms) => end_ms = ms.int()?,
            (3, matcher) => matchers.push(matcher_of(matcher.bytes()?)?),
            _ => {}
        }
    }
    Ok(ReadQuery { start_ms, end_ms, matchers: matchers.into_iter().collect() })
}

fn matcher_of(message: &[u8]) -> Result<Result<Matcher, String>, Malformed> {
    let (mut kind, mut name, mut value) = (0, "", "");
    for field in Fields::new(message) {
        match field? {
            (1, number) => kind = number.int()?,
            (2, text) => name = text.text()?,
            (3, text) => value = text.text()?,
            _ => {}
        }
    }
    let operators = ["=", "!=", "=~", "!~"];
    let operator = usize::try_from(kind).ok().and_then(|kind| operators.get(kind));
    Ok(Matcher::new(name, operator.ok_or(Malformed)?, value))
}

fn series(labels: &LabelSet, samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(samples.len() * 20 + 200);
    let mut part = Vec::new();
    for (name, value) in labels.iter() {
        part.clear();
        put_bytes(&mut part, 1, name.as_bytes());
        put_bytes(&mut part, 2, value.as_bytes());
        put_bytes(&mut out, 1, &part);
    }
    for &(ms, value) in samples {
        part.clear();
        put_double(&mut part, 1, value);
        put_int(&mut part, 2, ms);
        put_bytes(&mut out, 2, &part);
    }
    out
}
