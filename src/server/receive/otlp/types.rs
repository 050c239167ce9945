//! An export as OTLP's JSON has it; the protobuf form is read into the same.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

/// A 64-bit number, in JSON a text or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Whole(pub(super) i64);

/// A `double`, in JSON a number, or a text such as `NaN`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Real(pub(super) f64);

/// Names and values, values as texts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Attributes(pub(super) Vec<(String, String)>);

impl Attributes {
    /// The value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            // Names of enumerations are taken too.
            other => other.as_i64().or_else(|| other.as_u64().and_then(|n| i64::try_from(n).ok())),
        };
        let named = match value.as_str() {
            Some("AGGREGATION_TEMPORALITY_CUMULATIVE") => Some(2),
            Some("AGGREGATION_TEMPORALITY_DELTA") => Some(1),
            _ => None,
        };
        number.or(named).map(Self).ok_or_else(|| D::Error::custom("expected a 64-bit number"))
    }
}

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        number.map(Self).ok_or_else(|| D::Error::custom("expected a number"))
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<Value> = Vec::deserialize(deserializer)?;
        let pair = |pair: Value| {
            let name = pair.get("key")?.as_str()?.to_owned();
            let (kind, value) = pair.get("value")?.as_object()?.iter().next()?;
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return None,
            };
            (kind != "bytesValue").then_some((name, text))
        };
        Ok(Self(pairs.into_iter().filter_map(pair).collect()))
    }
}

macro_rules! message {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub(super) struct $name { $(pub(super) $field: $type),* }
    };
}

message!(Export { resource_metrics: Vec<ResourceMetrics> });
message!(ResourceMetrics { resource: Resource, scope_metrics: Vec<ScopeMetrics> });
message!(Resource { attributes: Attributes });
message!(ScopeMetrics { metrics: Vec<Metric> });
message!(Metric {
    name: String,
    unit: String,
    gauge: Option<Gauge>,
    sum: Option<Sum>,
    histogram: Option<Histogram>,
    summary: Option<Summary>,
    exponential_histogram: Option<Others>,
});
message!(Gauge { data_points: Vec<NumberPoint> });
message!(Sum {
    data_points: Vec<NumberPoint>,
    aggregation_temporality: Whole,
    is_monotonic: bool,
});
message!(Histogram { data_points: Vec<HistogramPoint>, aggregation_temporality: Whole });
message!(Summary { data_points: Vec<SummaryPoint> });
message!(Others { data_points: Vec<serde::de::IgnoredAny> });
message!(NumberPoint {
    attributes: Attributes,
    time_unix_nano: Whole,
    as_double: Option<Real>,
    as_int: Option<Whole>,
    flags: Whole,
});
message!(HistogramPoint {
    attributes: Attributes,
    time_unix_nano: Whole,
    count: Whole,
    sum: Option<Real>,
    bucket_counts: Vec<Whole>,
    explicit_bounds: Vec<Real>,
    flags: Whole,
});
message!(SummaryPoint {
    attributes: Attributes,
    time_unix_nano: Whole,
    count: Whole,
    sum: Real,
    quantile_values: Vec<QuantileValue>,
});
message!(QuantileValue { quantile: Real, value: Real });
