//! Samples read back from the engine, over Prometheus' HTTP API.

use serde_json::Value;

use crate::server::remote::http::Http;
use crate::server::remote::naming::Outside;

/// A series at the engine with samples, oldest first: Unix milliseconds and value.
pub(super) type Fetched = (Outside, Vec<(i64, f64)>);

/// Every sample of the series of a selector from `from_ms` to `to_ms`, both inclusive: the instant
/// query of a range gives them as they were written.
///
/// # Errors
///
/// Why the engine did not answer, or what is odd about its answer.
pub(super) fn raw(
    http: &Http,
    base: &str,
    selector: &str,
    (from_ms, to_ms): (i64, i64),
) -> Result<Vec<Fetched>, String> {
    // Ranges are open on the left since Prometheus 3, and closed before: a millisecond more, and
    // what is outside is left out below.
    let range = to_ms.saturating_sub(from_ms).saturating_add(1).max(1);
    let query = format!("{selector}[{range}ms]");
    let data = http.query(base, "/api/v1/query", &[("query", &query), ("time", &secs(to_ms))])?;
    let mut rows = series(&data)?;
    for (_, samples) in &mut rows {
        samples.retain(|(ms, _)| (from_ms..=to_ms).contains(ms));
    }
    rows.retain(|(_, samples)| !samples.is_empty());
    Ok(rows)
}

/// Unix seconds with three digits after the point.
pub(super) fn secs(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// The series of an answer: of a vector one sample each, of a matrix all.
///
/// # Errors
///
/// When the answer has another shape.
pub(super) fn series(data: &Value) -> Result<Vec<Fetched>, String> {
    let odd = || "the answer is not one of Prometheus' API".to_owned();
    let rows = data["result"].as_array().ok_or_else(odd)?;
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let labels = row["metric"].as_object().ok_or_else(odd)?;
        let label =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let labels: Outside = labels.iter().map(label).collect::<Option<_>>().ok_or_else(odd)?;
        let samples: Option<Vec<(i64, f64)>> = match row.get("values") {
            Some(values) => values.as_array().ok_or_else(odd)?.iter().map(sample).collect(),
            None => row.get("value").and_then(sample).map(|one| vec![one]),
        };
        out.push((labels, samples.ok_or_else(odd)?));
    }
    Ok(out)
}

/// The series of a list of series, without samples.
///
/// # Errors
///
/// When the answer has another shape.
pub(super) fn labels(data: &Value) -> Result<Vec<Fetched>, String> {
    let odd = || "the answer is not one of Prometheus' API".to_owned();
    let mut out = Vec::new();
    for row in data.as_array().ok_or_else(odd)? {
        let row = row.as_object().ok_or_else(odd)?.iter();
        let label =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        out.push((row.map(label).collect::<Option<_>>().ok_or_else(odd)?, Vec::new()));
    }
    Ok(out)
}

fn sample(pair: &Value) -> Option<(i64, f64)> {
    let seconds = pair.get(0)?.as_f64()?;
    Some(((seconds * 1_000.0).round() as i64, pair.get(1)?.as_str()?.parse().ok()?))
}

/// What becomes of the `data` of an answer, in a word, for the fuzz target.
#[cfg(test)]
pub(crate) fn outcome(data: &Value) -> String {
    let naming = super::Naming::of(&crate::server::config::ServerConfig::default());
    match series(data).or_else(|why| labels(data).map_err(|_| why)) {
        Ok(rows) => {
            let samples: usize = rows.iter().map(|(_, samples)| samples.len()).sum();
            let ours = rows.into_iter().filter_map(|(labels, _)| naming.inside(labels)).count();
            format!("{} series of ours, {} samples", ours.min(3), samples.min(3))
        }
        Err(why) => why,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_read_to_the_bit_and_others_are_refused() {
        let data = serde_json::json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "m"}, "values": [[1700000000.123, "0.1"], [1700000001, "+Inf"]]},
        ]});
        let rows = series(&data).unwrap();
        assert_eq!(rows[0].1, [(1_700_000_000_123, 0.1), (1_700_000_001_000, f64::INFINITY)]);
        for odd in ["{}", "{\"result\": [{\"metric\": {\"a\": 1}}]}", "{\"result\": [{}]}"] {
            assert!(series(&serde_json::from_str(odd).unwrap()).is_err(), "{odd}");
        }
        assert_eq!((secs(1_700_000_000_005), secs(-1)), ("1700000000.005".into(), "-1.999".into()));
    }
}
