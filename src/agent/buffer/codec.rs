//! One sample set as bytes: complete in itself, so that a lost neighbour takes nothing with it.
//!
//! ```text
//! sample set   = time:zigzag  count:varint  point*
//! point  = shared:varint  suffix:text  labels:varint  (name:text  value:text)*
//!          delta:zigzag  value:8 bytes, IEEE 754, little endian
//! text   = length:varint  UTF-8 bytes
//! ```
//!
//! `shared` is how many bytes of the metric's name are those of the point before, and `delta` is
//! the point's time less the sample set's. A varint is LEB128; zigzag folds the sign into its low
//! bit.

use crate::base::limits::{BATCH_POINTS_MAX, LABELS_MAX};
use crate::model::point::Point;
use crate::model::series::Labels;

/// What one sample set collected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SampleSet {
    /// Unix milliseconds that all of its collectors were given.
    pub timestamp_ms: i64,
    /// The points, in the collectors' order.
    pub points: Vec<Point>,
}

/// Appends `sample set` to `out`.
pub(super) fn encode(set: &SampleSet, out: &mut Vec<u8>) {
    put_varint(out, zigzag(set.timestamp_ms));
    put_varint(out, set.points.len() as u64);
    let mut before = "";
    for point in &set.points {
        let shared = shared_prefix(before, &point.metric);
        put_varint(out, shared as u64);
        put_text(out, point.metric.get(shared..).unwrap_or_default());
        put_varint(out, point.labels.len() as u64);
        for (name, value) in point.labels.iter() {
            put_text(out, name);
            put_text(out, value);
        }
        put_varint(out, zigzag(point.timestamp_ms.wrapping_sub(set.timestamp_ms)));
        out.extend_from_slice(&point.value.to_le_bytes());
        before = &point.metric;
    }
}

/// Reads back what [`encode`] wrote; `None` for anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<SampleSet> {
    let mut left = bytes;
    let timestamp_ms = unzigzag(take_varint(&mut left)?);
    let count = usize::try_from(take_varint(&mut left)?).ok()?;
    if count > BATCH_POINTS_MAX {
        return None;
    }
    // No point is shorter than 12 bytes, so a wrong count can't ask for much memory.
    let mut points: Vec<Point> = Vec::with_capacity(count.min(left.len() / 12));
    for _ in 0..count {
        let shared = usize::try_from(take_varint(&mut left)?).ok()?;
        let before = points.last().map_or("", |point| &point.metric);
        let mut metric = before.get(..shared)?.to_owned();
        metric.push_str(take_text(&mut left)?);
        let labels = usize::try_from(take_varint(&mut left)?).ok()?;
        if labels > LABELS_MAX {
            return None;
        }
        let mut pairs = Vec::with_capacity(labels);
        for _ in 0..labels {
            pairs.push((take_text(&mut left)?, take_text(&mut left)?));
        }
        let delta = unzigzag(take_varint(&mut left)?);
        let (value, rest) = left.split_first_chunk::<8>()?;
        left = rest;
        points.push(Point {
            metric: metric.into(),
            labels: Labels::from_pairs(pairs),
            timestamp_ms: timestamp_ms.wrapping_add(delta),
            value: f64::from_le_bytes(*value),
        });
    }
    left.is_empty().then_some(SampleSet { timestamp_ms, points })
}

/// How many points an encoded sample set has, from its first bytes alone.
pub(super) fn count(bytes: &[u8]) -> Option<usize> {
    let mut left = bytes;
    take_varint(&mut left)?;
    usize::try_from(take_varint(&mut left)?).ok().filter(|count| *count <= BATCH_POINTS_MAX)
}

fn shared_prefix(a: &str, b: &str) -> usize {
    let mut end = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !b.is_char_boundary(end) {
        end -= 1;
    }
    end
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(left: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = left.split_first()?;
        *left = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(left: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(take_varint(left)?).ok()?;
    let (text, rest) = left.split_at_checked(length)?;
    *left = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_point() -> impl Strategy<Value = Point> {
        let labels = proptest::collection::vec(("[a-z]{1,6}", "\\PC{0,12}"), 0..4);
        ("[a-zä.]{1,20}", labels, any::<i64>(), any::<f64>().prop_filter("NaN", |v| !v.is_nan()))
            .prop_map(|(metric, labels, timestamp_ms, value)| Point {
                metric: metric.into(),
                labels: Labels::from_pairs(labels),
                timestamp_ms,
                value,
            })
    }

    proptest! {
        #[test]
        fn a_set_survives(timestamp_ms in any::<i64>(),
                           points in proptest::collection::vec(any_point(), 0..30)) {
            let set = SampleSet { timestamp_ms, points };
            let mut bytes = Vec::new();
            encode(&set, &mut bytes);
            prop_assert_eq!(count(&bytes), Some(set.points.len()));
            prop_assert_eq!(decode(&bytes), Some(set));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_usual_set_is_small() {
        let points = (0..32)
            .map(|core| Point::labelled("cpu.core_usage", "core", &core.to_string(), 7, 1.5))
            .collect();
        let mut bytes = Vec::new();
        encode(&SampleSet { timestamp_ms: 7, points }, &mut bytes);
        assert!(bytes.len() < 32 * 21, "{}", bytes.len());
    }
}
