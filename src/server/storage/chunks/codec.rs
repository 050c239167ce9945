//! A chunk: many points of one series, packed, with what summaries need beside them.
//!
//! ```text
//! chunks  id │ series │ start │ end │ count │ min │ max │ sum │ first │ last │ lag
//!            │ crc32 of these ten │ times │ data
//!
//! times   NULL                   the points are evenly spaced from start to end
//!         pco(i64…)   crc32      otherwise
//! data    (empty)                every value is `first`
//!         0  f64 bits…  crc32    few values, as they are (little endian)
//!         1  pco(f64…)  crc32    the rest
//! ```
//!
//! `lag` is the longest time in milliseconds between a point's timestamp and its arrival. The
//! checksums keep bytes that the disk has changed away from the decoder.

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec};

use crate::server::storage::write::wal;

/// Values of fewer points are kept as they are: pco's header would be larger than what it saves.
const RAW_POINTS_MAX: usize = 3;
/// Points that one chunk may hold; what claims more is damaged.
pub(crate) const CHUNK_POINTS_MAX: usize = 1 << 24;

/// How hard pco tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Quickly, while the day runs. Differences between neighbours serve most hosts' series, and
    /// trying the other ways on each would be a quarter of the processor time that ingest takes.
    Quick,
    /// Thoroughly, once the day is finished.
    Thorough,
}

impl Effort {
    fn config(self) -> ChunkConfig {
        let config = ChunkConfig::default();
        match self {
            Self::Quick => {
                config.with_compression_level(4).with_delta_spec(DeltaSpec::TryConsecutive(1))
            }
            Self::Thorough => config.with_compression_level(8),
        }
    }
}

/// The summary of a chunk, readable without unpacking it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Meta {
    /// Id of the series in the day file.
    pub series: u32,
    /// Time of the first point.
    pub start: i64,
    /// Time of the last point.
    pub end: i64,
    /// Number of points.
    pub count: usize,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Sum of the values, oldest first.
    pub sum: f64,
    /// First value.
    pub first: f64,
    /// Last value.
    pub last: f64,
    /// Longest time between a point's timestamp and its arrival, milliseconds.
    pub lag: i64,
}

impl Meta {
    /// The checksum of the row's numbers, as SQLite keeps it.
    pub(crate) fn checksum(&self) -> i32 {
        // No chunk has a count beyond an i64.
        let count = i64::try_from(self.count).unwrap_or(-1);
        // SQLite gives a minus zero back as a zero.
        let bits = |value: f64| (value + 0.0).to_bits().cast_signed();
        let floats = [self.min, self.max, self.sum, self.first, self.last].map(bits);
        let [min, max, sum, first, last] = floats;
        let series = self.series.into();
        let numbers = [series, self.start, self.end, count, min, max, sum, first, last, self.lag];
        wal::checksum(&numbers, &[])
    }
}

/// A chunk as its row has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    /// The summary.
    pub meta: Meta,
    /// The times, unless they are evenly spaced.
    pub times: Option<Vec<u8>>,
    /// The values.
    pub data: Vec<u8>,
}

/// Why a chunk can't be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of series {0} can't be unpacked")]
pub(crate) struct BadChunk(pub u32);

/// Packs points, which are sorted by time and not empty.
pub(crate) fn encode(
    series: u32,
    times: &[i64],
    values: &[f64],
    lag: i64,
    effort: Effort,
) -> Chunk {
    debug_assert_eq!(times.len(), values.len(), "a value for each time");
    debug_assert!(times.is_sorted_by(|a, b| a < b), "each time once, in order");
    let mut meta = Meta {
        series,
        start: times.first().copied().unwrap_or_default(),
        end: times.last().copied().unwrap_or_default(),
        count: values.len(),
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        first: values.first().copied().unwrap_or_default(),
        last: values.last().copied().unwrap_or_default(),
        lag,
    };
    // SQLite would give a minus zero in `first` back as a zero.
    let mut constant = meta.first.to_bits() != (-0.0f64).to_bits();
    for &value in values {
        meta.min = meta.min.min(value);
        meta.max = meta.max.max(value);
        meta.sum += value;
        constant &= value.to_bits() == meta.first.to_bits();
    }
    // SQLite has no NaN, which a sum of both infinities would be.
    meta.sum = if meta.sum.is_nan() { 0.0 } else { meta.sum };
    let config = effort.config();
    let times_packed =
        if evenly_spaced(times) { None } else { Some(seal(pack_times(times, &config))) };
    let data = if constant { Vec::new() } else { seal(pack_values(values, &config)) };
    Chunk { meta, times: times_packed, data }
}

fn evenly_spaced(times: &[i64]) -> bool {
    let Some(step) = times.get(1).map(|second| second - times[0]) else { return true };
    times.windows(2).all(|pair| pair[1] - pair[0] == step)
}

fn pack_times(times: &[i64], config: &ChunkConfig) -> Vec<u8> {
    // Compression fails only for a configuration or a size that can't be; neither is made here.
    simple_compress(times, config).unwrap_or_default()
}

fn pack_values(values: &[f64], config: &ChunkConfig) -> Vec<u8> {
    if values.len() > RAW_POINTS_MAX
        && let Ok(packed) = simple_compress(values, config)
        && packed.len() < values.len() * 8
    {
        let mut out = Vec::with_capacity(packed.len() + 5);
        out.push(1);
        out.extend_from_slice(&packed);
        return out;
    }
    let mut out = vec![0];
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    out
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (inner, sum) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(inner) == u32::from_le_bytes(*sum)).then_some(inner)
}

/// The times of a chunk.
///
/// # Errors
///
/// When the bytes are not what [`encode`] made.
pub(crate) fn decode_times(meta: &Meta, times: Option<&[u8]>) -> Result<Vec<i64>, BadChunk> {
    let mut out = Vec::new();
    decode_times_into(meta, times, &mut out)?;
    Ok(out)
}

/// As [`decode_times`], in place of what `out` has.
pub(crate) fn decode_times_into(
    meta: &Meta,
    times: Option<&[u8]>,
    out: &mut Vec<i64>,
) -> Result<(), BadChunk> {
    let bad = BadChunk(meta.series);
    if meta.count == 0 || meta.count > CHUNK_POINTS_MAX || meta.end < meta.start {
        return Err(bad);
    }
    out.clear();
    let Some(packed) = times else {
        let steps = (meta.count as i64 - 1).max(1);
        let step = meta.end.checked_sub(meta.start).ok_or(bad)? / steps;
        out.extend((0..meta.count as i64).map(|index| meta.start + index * step));
        return Ok(());
    };
    out.resize(meta.count, 0);
    let inner = unseal(packed).ok_or(bad)?;
    let progress = simple_decompress_into(inner, out).map_err(|_| bad)?;
    if progress.n_processed == meta.count && progress.finished { Ok(()) } else { Err(bad) }
}

/// The values of a chunk.
///
/// # Errors
///
/// When the bytes are not what [`encode`] made.
pub(crate) fn decode_values(meta: &Meta, data: &[u8]) -> Result<Vec<f64>, BadChunk> {
    let mut out = Vec::new();
    decode_values_into(meta, data, &mut out)?;
    Ok(out)
}

/// As [`decode_values`], in place of what `out` has.
pub(crate) fn decode_values_into(
    meta: &Meta,
    data: &[u8],
    out: &mut Vec<f64>,
) -> Result<(), BadChunk> {
    let bad = BadChunk(meta.series);
    if meta.count == 0 || meta.count > CHUNK_POINTS_MAX {
        return Err(bad);
    }
    out.clear();
    if data.is_empty() {
        out.resize(meta.count, meta.first);
        return Ok(());
    }
    match unseal(data).and_then(<[u8]>::split_first) {
        Some((0, raw)) if raw.len() == meta.count * 8 => {
            let (values, _) = raw.as_chunks::<8>();
            out.extend(values.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            Ok(())
        }
        Some((1, packed)) => {
            out.resize(meta.count, 0.0);
            let progress = simple_decompress_into(packed, out).map_err(|_| bad)?;
            let whole = progress.n_processed == meta.count && progress.finished;
            if whole { Ok(()) } else { Err(bad) }
        }
        _ => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn round(times: &[i64], values: &[f64]) {
        let chunk = encode(7, times, values, 5, Effort::Thorough);
        assert_eq!(decode_times(&chunk.meta, chunk.times.as_deref()).unwrap(), times);
        let back = decode_values(&chunk.meta, &chunk.data).unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values));
    }

    proptest! {
        #[test]
        fn points_come_back(
            points in proptest::collection::btree_map(any::<i32>(), any::<f64>(), 1..500),
        ) {
            let times: Vec<i64> = points.keys().map(|&time| i64::from(time)).collect();
            let values: Vec<f64> = points.values().copied().collect();
            round(&times, &values);
        }
    }

    #[test]
    fn even_times_and_constant_values_cost_nothing() {
        let times: Vec<i64> = (0..8640).map(|tick| 1_770_625_800_000 + tick * 10_000).collect();
        let chunk = encode(1, &times, &vec![1e12; 8640], 0, Effort::Thorough);
        assert_eq!((chunk.times, chunk.data.len()), (None, 0));
        round(&times, &vec![-0.0; 8640]);
        round(&times[..1], &[3.0]);
        round(&times[..2], &[0.0, -0.0]);
    }

    #[test]
    fn changed_bytes_are_an_error() {
        let values: Vec<f64> = (0..300).map(|tick| f64::from(tick % 17) * 0.01).collect();
        let times: Vec<i64> = (0..300).map(|tick| tick * tick).collect();
        let chunk = encode(1, &times, &values, 0, Effort::Quick);
        for at in 0..chunk.data.len() {
            let mut data = chunk.data.clone();
            data[at] ^= 0x10;
            assert!(decode_values(&chunk.meta, &data).is_err());
        }
        let mut packed = chunk.times.clone().unwrap();
        packed.truncate(9);
        assert!(decode_times(&chunk.meta, Some(&packed)).is_err());
        let absurd = Meta { count: usize::MAX, ..chunk.meta };
        assert!(decode_values(&absurd, &chunk.data).is_err());
        assert!(decode_times(&absurd, None).is_err());
    }
}
