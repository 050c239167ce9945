//! Points in buckets, for charts.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::{HOUR_MS, SECOND_MS};
use crate::base::limits::RANGE_BUCKETS_MAX;
use crate::model::series::Labels;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Kind, Param, Route};
use crate::server::api::routes::metrics::times;
use crate::server::api::schema::{Shape, Time};
use crate::server::storage::{Bucket as Stored, RangeQuery};

/// How far back a chart looks where it names no time.
const RANGE_MS: i64 = HOUR_MS;
/// Buckets at the most where no `step` is named: as many as a chart has room for.
const BUCKETS_DEFAULT: i64 = 300;
/// Steps that are chosen from where none is named, in seconds: the multiples that clocks show.
const STEPS_SECS: [i64; 17] =
    [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    query: &[
        Param::required("agent_id", Kind::Text, "Exactly this agent."),
        Param::required("metric_name", Kind::Text, "Exactly this metric."),
        Param::new("timestamp__gte", Kind::Time, "Not before. Default: 1 hour before the end."),
        Param::new("timestamp__lte", Kind::Time, "Not after. Default: now."),
        Param::new(
            "step",
            Kind::Count,
            "Length of a bucket in seconds, 1 or more. Default: the shortest of 1, 5, 10, 15, 30 \
             seconds and so on that makes at most 300 buckets.",
        ),
        Param::new(
            "labels",
            Kind::Text,
            "Series that have each of these labels: `mount=/,disk=sda`. A comma or a backslash in \
             a value has a backslash before it.",
        ),
    ],
    ..Route::get(
        "/v1/metrics/range",
        "The points of a metric of an agent, by series, in at most 11000 buckets of `step` seconds \
         each. Buckets without points are left out.",
        Gives::Many(Shape::of::<Series>()),
        range,
    )
}];

const _: () = assert!(RANGE_BUCKETS_MAX == 11_000, "the summary names it");
const _: () = assert!(BUCKETS_DEFAULT < RANGE_BUCKETS_MAX);

/// One series of a chart.
#[derive(Serialize, ToSchema)]
#[schema(as = RangeSeries)]
struct Series {
    labels: BTreeMap<String, String>,
    /// Length of a bucket in seconds.
    step: i64,
    /// Oldest first.
    buckets: Vec<Bucket>,
}

/// The points of a series from `start` until `step` seconds later, as far as they are in the time
/// asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = RangeBucket)]
struct Bucket {
    /// A multiple of `step` since 1970.
    start: Time,
    min: f64,
    max: f64,
    avg: f64,
    /// The newest value.
    last: f64,
    count: u64,
}

impl From<Stored> for Bucket {
    fn from(bucket: Stored) -> Self {
        Self {
            start: Time(bucket.start_ms),
            min: bucket.min,
            max: bucket.max,
            avg: bucket.avg,
            last: bucket.last,
            count: bucket.count,
        }
    }
}

fn range(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (from_ms, to_ms) = times(call, RANGE_MS)?;
    let step = match call.parsed("step")? {
        Some(step) => step,
        None => default_step_secs(from_ms, to_ms),
    };
    check_step(from_ms, to_ms, step)?;
    let query = RangeQuery {
        agent: call.required("agent_id")?.to_owned(),
        metric: call.required("metric_name")?.to_owned(),
        labels: parse_labels(call.text("labels").unwrap_or_default())?,
        from_ms,
        to_ms,
        step_ms: step.saturating_mul(SECOND_MS),
    };
    let found = call.app.store.range(&query)?;
    let series: Vec<Series> = found
        .into_iter()
        .map(|series| Series {
            labels: series.labels.to_map(),
            step,
            buckets: series.buckets.into_iter().map(Bucket::from).collect(),
        })
        .collect();
    Ok(Reply::ok(&series))
}

/// Buckets that a time touches.
fn buckets(from_ms: i64, to_ms: i64, step_secs: i64) -> i64 {
    let step_ms = step_secs.saturating_mul(SECOND_MS);
    to_ms.div_euclid(step_ms).saturating_sub(from_ms.div_euclid(step_ms)).saturating_add(1)
}

/// The step where none is named.
fn default_step_secs(from_ms: i64, to_ms: i64) -> i64 {
    let fits = |step: &i64| buckets(from_ms, to_ms, *step) <= BUCKETS_DEFAULT;
    let days = || {
        // Longer than 300 days: whole days.
        let day = STEPS_SECS[STEPS_SECS.len() - 1];
        let wanted = to_ms.saturating_sub(from_ms) / SECOND_MS / (BUCKETS_DEFAULT - 1) / day;
        (wanted + 1).saturating_mul(day)
    };
    STEPS_SECS.into_iter().find(fits).unwrap_or_else(days)
}

fn check_step(from_ms: i64, to_ms: i64, step_secs: i64) -> Result<(), ApiError> {
    if step_secs < 1 {
        return Err(ApiError::bad("`step` must be 1 second or more"));
    }
    let buckets = buckets(from_ms, to_ms, step_secs);
    if buckets > RANGE_BUCKETS_MAX {
        return Err(ApiError::bad(format!(
            "this time has {buckets} buckets of {step_secs} s, and at most {RANGE_BUCKETS_MAX} \
             are given: take a longer `step` or a shorter time"
        )));
    }
    Ok(())
}

/// Labels as they stand in a query: `mount=/,disk=sda`.
fn parse_labels(text: &str) -> Result<Labels, ApiError> {
    let bad = || {
        ApiError::bad(
            "the parameter `labels` must be `name=value,name=value`, each name once, with `\\` \
             before a comma or a backslash in a value",
        )
    };
    let mut pairs: Vec<String> = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, pairs.last_mut()) {
            ('\\', Some(pair)) => match letters.next() {
                Some(escaped @ (',' | '\\')) => pair.push(escaped),
                _ => return Err(bad()),
            },
            (',', _) => pairs.push(String::new()),
            (other, Some(pair)) => pair.push(other),
            (_, None) => {}
        }
    }
    if text.is_empty() {
        return Ok(Labels::none());
    }
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in &pairs {
        let (name, value) = pair.split_once('=').ok_or_else(bad)?;
        if name.is_empty() || labels.insert(name, value).is_some() {
            return Err(bad());
        }
    }
    Ok(Labels::from_pairs(labels))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::clock::DAY_MS;

    #[test]
    fn labels_are_read_and_mistakes_refused() {
        let found = parse_labels(r"mount=/a\,b\\c=d,disk=").unwrap();
        assert_eq!(found, Labels::from_pairs([("mount", r"/a,b\c=d"), ("disk", "")]));
        assert_eq!(parse_labels("").unwrap(), Labels::none());
        for bad in ["mount", "=x", "a=1,a=2", ",", "a=1,", r"a=\n", r"a=1\"] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn steps_make_at_most_300_buckets_where_none_is_named() {
        let now = 1_770_625_800_123;
        for (span, step) in [(0, 1), (HOUR_MS, 15), (DAY_MS, 300), (7 * DAY_MS, 3_600)] {
            assert_eq!(default_step_secs(now - span, now), step, "{span}");
        }
        for days in [299, 300, 301, 600, 3_650, 100_000] {
            let from = now - days * DAY_MS;
            let step = default_step_secs(from, now);
            assert!(buckets(from, now, step) <= BUCKETS_DEFAULT, "{days} days: {step} s");
        }
    }

    #[test]
    fn too_many_buckets_are_refused() {
        let step = 60;
        let from = 1_770_625_800_000_i64.div_euclid(60_000) * 60_000;
        let to = from + RANGE_BUCKETS_MAX * 60_000 - 1;
        assert!(check_step(from, to, step).is_ok());
        let error = check_step(from, to + 1, step).unwrap_err();
        assert!(error.message.contains("11001") && error.message.contains("11000"), "{error}");
        assert!(check_step(from, to, 0).is_err());
        assert!(check_step(-377_705_023_201_000, 253_402_207_200_000, i64::from(u32::MAX)).is_ok());
    }
}
