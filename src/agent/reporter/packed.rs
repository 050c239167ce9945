//! Sample sets as `ReportPacked` takes them: each series is named once a stream, and a sample set
//! like the one before is its time and its values alone.

use std::collections::HashMap;

use crate::agent::buffer::SampleSet;
use crate::base::limits::STREAM_SERIES_MAX;
use crate::model::point::Point;
use crate::model::series::Labels;
use crate::wire::pb::metrics::{PackedBatch, PackedSeries, PackedTick};

type Series = (Box<str>, Labels);

/// What one stream has been sent.
#[derive(Default)]
pub(super) struct Packer {
    numbers: HashMap<Series, u32>,
    names: Vec<Series>,
    /// The numbers of the last sample set.
    last: Vec<u32>,
    /// Points of the largest sample set.
    largest: usize,
}

/// A table of series may hold so many that are in no sample set any more, beside as many as the
/// largest set has: those of containers and interfaces that came and went. Both ends keep the table
/// in memory as long as the stream lasts, and naming all series again is a few kilobytes.
const GONE_SERIES_MAX: usize = 128;

impl Packer {
    /// The next message of the stream; `None` when the stream's table of series has no room left,
    /// or holds mostly what is gone, and a new stream is needed.
    pub(super) fn pack(
        &mut self,
        sequence: u64,
        agent: &str,
        sets: &[SampleSet],
    ) -> Option<PackedBatch> {
        if self.names.len() > 2 * self.largest + GONE_SERIES_MAX {
            return None;
        }
        let mut batch = PackedBatch::new();
        batch.sequence = sequence;
        if self.names.is_empty() {
            batch.agent_id = agent.to_owned();
        }
        for set in sets {
            // Points of a sample set share its time; should they not, they are sample sets of their
            // own.
            for points in set.points.chunk_by(|a, b| a.timestamp_ms == b.timestamp_ms) {
                let mut packed = PackedTick::new();
                packed.timestamp_ms = points.first().map_or(set.timestamp_ms, |p| p.timestamp_ms);
                packed.values = points.iter().map(|point| point.value).collect();
                if !self.is_like_last(points) {
                    packed.series = self.number(points, &mut batch.new_series)?;
                    self.last.clone_from(&packed.series);
                    self.largest = self.largest.max(points.len());
                }
                batch.ticks.push(packed);
            }
        }
        Some(batch)
    }

    fn is_like_last(&self, points: &[Point]) -> bool {
        points.len() == self.last.len()
            && points.iter().zip(&self.last).all(|(point, number)| {
                self.names.get(*number as usize).is_some_and(|(metric, labels)| {
                    *metric == point.metric && *labels == point.labels
                })
            })
    }

    fn number(&mut self, points: &[Point], new: &mut Vec<PackedSeries>) -> Option<Vec<u32>> {
        let mut numbers = Vec::with_capacity(points.len());
        for point in points {
            let series = (point.metric.clone(), point.labels.clone());
            let number = match self.numbers.get(&series) {
                Some(number) => *number,
                None if self.names.len() >= STREAM_SERIES_MAX => return None,
                None => {
                    let number = u32::try_from(self.names.len()).ok()?;
                    let mut named = PackedSeries::new();
                    named.metric_name = point.metric.to_string();
                    named.labels =
                        point.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                    new.push(named);
                    self.names.push(series.clone());
                    self.numbers.insert(series, number);
                    number
                }
            };
            numbers.push(number);
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn set(timestamp_ms: i64, cores: i64) -> SampleSet {
        let points = (0..cores)
            .map(|c| Point::labelled("cpu.core_usage", "core", &c.to_string(), timestamp_ms, 1.0))
            .collect();
        SampleSet { timestamp_ms, points }
    }

    #[test]
    fn a_series_is_named_once_and_a_like_set_names_none() {
        let mut packer = Packer::default();
        let first = packer.pack(1, "web-01", &[set(1, 2)]).unwrap();
        assert_eq!((first.agent_id.as_str(), first.new_series.len()), ("web-01", 2));
        assert_eq!(first.ticks[0].series, [0, 1]);
        let second = packer.pack(2, "web-01", &[set(2, 2), set(3, 3)]).unwrap();
        assert_eq!((second.agent_id.as_str(), second.new_series.len()), ("", 1));
        assert!(second.ticks[0].series.is_empty());
        assert_eq!(second.ticks[1].series, [0, 1, 2]);
        let third = packer.pack(3, "web-01", &[set(4, 1)]).unwrap();
        assert_eq!(third.ticks[0].series, [0]);
    }

    #[test]
    fn a_stream_that_names_mostly_what_is_gone_is_full() {
        let container = |second: i64| {
            let name = format!("c{second}");
            let point = Point::labelled("container.cpu_usage", "name", &name, second, 1.0);
            let mut set = set(second, 100);
            set.points.push(point);
            set
        };
        let mut packer = Packer::default();
        let full = (0..).position(|second| packer.pack(1, "a", &[container(second)]).is_none());
        assert_eq!(full, Some(101 + 1 + 128 + 1));
        // Sets that take turns with different series are not gone.
        let mut packer = Packer::default();
        for second in 0..10 {
            let cores = if second % 2 == 0 { 1_000 } else { 1 };
            assert!(packer.pack(1, "a", &[set(second, cores)]).is_some());
        }
    }

    #[test]
    fn a_stream_that_has_named_too_many_series_is_full() {
        let mut packer = Packer::default();
        assert!(packer.pack(1, "a", &[set(1, STREAM_SERIES_MAX as i64)]).is_some());
        assert!(packer.pack(2, "a", &[set(2, STREAM_SERIES_MAX as i64 + 1)]).is_none());
    }
}
