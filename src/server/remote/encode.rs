//! Samples as a remote write 1.0 request: a protobuf message, packed with Snappy.
//!
//! ```text
//! WriteRequest  1: timeseries { 1: labels { 1: name, 2: value }, 2: samples { 1: value, 2: ms } }
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::server::receive::proto::{put_bytes, put_double, put_int, put_varint};
use crate::server::remote::naming::Naming;
use crate::server::storage::{SampleSet, Series};

/// Bytes of labels that one encoder remembers.
const REMEMBERED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One sample with its series.
pub(super) type Single = (Arc<Series>, i64, f64);

/// Samples of series: Unix milliseconds and value.
pub(super) type Columns = Vec<(Arc<Series>, Vec<(i64, f64)>)>;

/// The labels of a series as they are sent; `None` when no engine can hold them. The weak reference
/// keeps its address from being another series'.
type Known = (Weak<Series>, Option<Box<[u8]>>);

/// Samples that are sent in one request.
#[derive(Debug)]
pub(super) enum Body {
    /// As they were stored: by agent, each agent's sets oldest first.
    Sets(Vec<SampleSet>),
    /// By series, as they are read from the store.
    Columns(Columns),
}

impl Body {
    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Sets(sets) => sets.iter().map(|set| set.values.len()).sum(),
            Self::Columns(columns) => columns.iter().map(|(_, points)| points.len()).sum(),
        }
    }

    /// Each sample by itself, of a series oldest first.
    pub(super) fn singles(&self) -> Vec<Single> {
        match self {
            Self::Sets(sets) => {
                let of_set = |set: &SampleSet| {
                    let (ms, values) = (set.timestamp_ms, set.values.clone());
                    let pairs = set.series.iter().cloned().zip(values);
                    pairs.map(move |(series, value)| (series, ms, value)).collect::<Vec<_>>()
                };
                sets.iter().flat_map(of_set).collect()
            }
            Self::Columns(columns) => {
                let of_series = |(series, points): &(Arc<Series>, Vec<(i64, f64)>)| {
                    let single = |&(ms, value): &(i64, f64)| (Arc::clone(series), ms, value);
                    points.iter().map(single).collect::<Vec<_>>()
                };
                columns.iter().flat_map(of_series).collect()
            }
        }
    }
}

/// Makes requests. It remembers the labels of the series that it saw.
pub(super) struct Encoder {
    naming: Naming,
    /// By address.
    known: HashMap<usize, Known>,
    known_bytes: usize,
    message: Vec<u8>,
    packed: Vec<u8>,
    snappy: snap::raw::Encoder,
    /// Samples of the last request that no engine can hold.
    pub(super) unsendable: usize,
}

impl Encoder {
    /// An encoder by these names.
    pub(super) fn new(naming: Naming) -> Self {
        Self {
            naming,
            known: HashMap::new(),
            known_bytes: 0,
            message: Vec::new(),
            packed: Vec::new(),
            snappy: snap::raw::Encoder::new(),
            unsendable: 0,
        }
    }

    /// A request with all samples of a body.
    pub(super) fn body(&mut self, body: &Body) -> &[u8] {
        self.begin();
        match body {
            Body::Sets(sets) => {
                // Sets in a row with one list: each series once, with a sample of each set.
                let same = |a: &SampleSet, b: &SampleSet| Arc::ptr_eq(&a.series, &b.series);
                for run in sets.chunk_by(same) {
                    let Some(first) = run.first() else { continue };
                    for (place, series) in first.series.iter().enumerate() {
                        let sample = |set: &SampleSet| {
                            set.values.get(place).map(|value| (set.timestamp_ms, *value))
                        };
                        self.series(series, run.iter().filter_map(sample));
                    }
                }
            }
            Body::Columns(columns) => {
                for (series, points) in columns {
                    self.series(series, points.iter().copied());
                }
            }
        }
        self.pack()
    }

    /// A request with these samples.
    pub(super) fn singles(&mut self, singles: &[Single]) -> &[u8] {
        self.begin();
        for run in singles.chunk_by(|a, b| Arc::ptr_eq(&a.0, &b.0)) {
            let Some((series, ..)) = run.first() else { continue };
            self.series(series, run.iter().map(|(_, ms, value)| (*ms, *value)));
        }
        self.pack()
    }

    fn begin(&mut self) {
        self.message.clear();
        self.unsendable = 0;
        if self.known_bytes > REMEMBERED_BYTES_MAX {
            self.known.clear();
            self.known_bytes = 0;
        }
    }

    fn series(&mut self, series: &Arc<Series>, samples: impl Iterator<Item = (i64, f64)> + Clone) {
        let address = Arc::as_ptr(series) as usize;
        if !self.known.contains_key(&address) {
            let labels = labels(&self.naming, series);
            self.known_bytes += labels.as_ref().map_or(0, |bytes| bytes.len()) + 64;
            self.known.insert(address, (Arc::downgrade(series), labels));
        }
        let Some((_, labels)) = self.known.get(&address) else { return };
        let Some(labels) = labels else {
            self.unsendable += samples.count();
            return;
        };
        let size = |(ms, _): (i64, f64)| 2 + sample_bytes(ms);
        let bytes = labels.len() + samples.clone().map(size).sum::<usize>();
        put_varint(&mut self.message, 1 << 3 | 2);
        put_varint(&mut self.message, bytes as u64);
        self.message.extend_from_slice(labels);
        for (ms, value) in samples {
            put_varint(&mut self.message, 2 << 3 | 2);
            put_varint(&mut self.message, sample_bytes(ms) as u64);
            put_double(&mut self.message, 1, value);
            put_int(&mut self.message, 2, ms);
        }
    }

    fn pack(&mut self) -> &[u8] {
        let most = snap::raw::max_compress_len(self.message.len());
        self.packed.resize(most.max(1), 0);
        // The buffer has the size that it asks for, so it can't fail.
        let size = self.snappy.compress(&self.message, &mut self.packed).unwrap_or(0);
        self.packed.get(..size).unwrap_or_default()
    }
}

/// Bytes of one sample: a key and eight bytes, a key and a varint.
fn sample_bytes(ms: i64) -> usize {
    let bits = 64 - (ms as u64 | 1).leading_zeros() as usize;
    9 + 1 + bits.div_ceil(7)
}

/// The labels of a series as its part of the message; `None` when no engine can hold them.
fn labels(naming: &Naming, series: &Series) -> Option<Box<[u8]>> {
    let outside = match naming.outside(&series.key) {
        Ok(outside) => outside,
        Err(why) => {
            let (agent, metric) = (&series.key.agent, &series.key.metric);
            log::warn!("samples of {metric} of {agent} are not sent to the engine: {why}");
            return None;
        }
    };
    let mut out = Vec::with_capacity(200);
    let mut pair = Vec::with_capacity(64);
    for (name, value) in &outside {
        pair.clear();
        put_bytes(&mut pair, 1, name.as_bytes());
        put_bytes(&mut pair, 2, value.as_bytes());
        put_bytes(&mut out, 1, &pair);
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::configfile::Source;
    use crate::model::series::{Labels, SeriesKey};
    use crate::server::config::ServerConfig;
    use crate::server::receive::proto::Fields;

    fn series(number: u32, metric: &str) -> Arc<Series> {
        let key =
            SeriesKey { agent: "a".into(), metric: metric.into(), labels: Labels::one("k", "v") };
        Arc::new(Series { number, metric_number: number, key })
    }

    /// Each series' name, with its samples.
    fn read(packed: &[u8]) -> Vec<(String, Vec<(i64, f64)>)> {
        let message = snap::raw::Decoder::new().decompress_vec(packed).unwrap();
        let mut out = Vec::new();
        for field in Fields::new(&message) {
            let (mut name, mut samples) = (String::new(), Vec::new());
            for field in Fields::new(field.unwrap().1.bytes().unwrap()) {
                let (number, value) = field.unwrap();
                let parts: Vec<_> =
                    Fields::new(value.bytes().unwrap()).collect::<Result<_, _>>().unwrap();
                match number {
                    1 if parts[0].1.text() == Ok("__name__") => {
                        name = parts[1].1.text().unwrap().to_owned();
                    }
                    2 => samples.push((parts[1].1.int().unwrap(), parts[0].1.double().unwrap())),
                    _ => {}
                }
            }
            out.push((name, samples));
        }
        out
    }

    #[test]
    fn sets_that_share_a_list_name_each_series_once() {
        let config = ServerConfig::from_source(&Source::embedded("s.toml", "")).unwrap();
        let mut encoder = Encoder::new(Naming::of(&config));
        let list: Arc<[Arc<Series>]> = [series(0, "m"), series(1, "x.y")].into();
        let other: Arc<[Arc<Series>]> = [Arc::clone(&list[0])].into();
        let set = |timestamp_ms, series: &Arc<[Arc<Series>]>, values: &[f64]| SampleSet {
            timestamp_ms,
            series: Arc::clone(series),
            values: values.to_vec(),
        };
        let sets = [
            set(1_700_000_000_000, &list, &[1.0, -0.5]),
            set(1_700_000_000_001, &list, &[2.0, 3.0]),
            set(-1, &other, &[4.0]),
        ];
        let body = Body::Sets(sets.to_vec());
        let wanted = [
            ("m".to_owned(), vec![(1_700_000_000_000, 1.0), (1_700_000_000_001, 2.0)]),
            ("oxmon_x_y".to_owned(), vec![(1_700_000_000_000, -0.5), (1_700_000_000_001, 3.0)]),
            ("m".to_owned(), vec![(-1, 4.0)]),
        ];
        assert_eq!(read(encoder.body(&body)), wanted);
        assert_eq!(body.len(), 5);
        let singles = body.singles();
        assert_eq!(
            read(encoder.singles(&singles[3..])),
            [
                ("oxmon_x_y".to_owned(), vec![(1_700_000_000_001, 3.0)]),
                ("m".to_owned(), vec![(-1, 4.0)]),
            ]
        );
    }
}
