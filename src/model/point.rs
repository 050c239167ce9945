//! Points and batches as they travel from a collector to the store.

use crate::model::series::Labels;

/// One value of one series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The metric's name, such as `disk.used_percent`.
    pub metric: Box<str>,
    /// What tells series of one metric apart, such as `mount`.
    pub labels: Labels,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value, in the unit that the metric's name stands for.
    pub value: f64,
}

impl Point {
    /// A point without labels.
    pub fn plain(metric: &str, timestamp_ms: i64, value: f64) -> Self {
        Self { metric: metric.into(), labels: Labels::none(), timestamp_ms, value }
    }

    /// A point with one label.
    pub fn labelled(metric: &str, name: &str, label: &str, timestamp_ms: i64, value: f64) -> Self {
        Self { metric: metric.into(), labels: Labels::one(name, label), timestamp_ms, value }
    }
}

/// What one agent says at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The agent that collected it.
    pub agent_id: Box<str>,
    /// Unix milliseconds of the tick.
    pub timestamp_ms: i64,
    /// The points, in the collectors' order, which stays the same from tick to tick.
    pub points: Vec<Point>,
}
