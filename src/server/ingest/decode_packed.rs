//! `PackedBatch`, read with its counts held: of each list no more is kept than its limit and one,
//! so that bytes that unpack to many small elements cost no more memory than a batch.

use protobuf::CodedInputStream;
use protobuf::rt::{read_unknown_or_skip_group, skip_field_for_tag};

use super::decode::{COUNT_MAX, read_facts, read_snapshot};
use crate::base::limits::{BATCH_POINTS_MAX, LABELS_MAX, STREAM_SERIES_MAX};
use crate::model::host::HostReport;

/// A message of a packed stream, not yet checked.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Packed {
    /// The agent's number for it.
    pub(crate) sequence: u64,
    /// The agent, or nothing.
    pub(crate) agent_id: String,
    /// Series that are added to the stream's table.
    pub(crate) new_series: Vec<NewSeries>,
    /// The samples.
    pub(crate) ticks: Vec<Tick>,
    /// The agent's clock when it sent the message, Unix milliseconds; 0 when it does not say.
    pub(crate) sent_at_ms: i64,
    /// Values of the message, and ticks without any.
    pub(crate) count: usize,
    /// What it says of the host beside samples.
    pub(crate) host: HostReport,
}

/// A series that is added to a stream's table.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct NewSeries {
    /// The metric's name.
    pub(crate) metric: String,
    /// Names and values of labels.
    pub(crate) labels: Vec<(String, String)>,
}

/// Samples of one time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tick {
    /// Unix milliseconds.
    pub(crate) timestamp_ms: i64,
    /// Numbers of the series; none for those of the tick before.
    pub(crate) series: Vec<u32>,
    /// The values, in the order of the series.
    pub(crate) values: Vec<f64>,
}

impl Packed {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// When the bytes are not a `PackedBatch`.
    pub(crate) fn parse(bytes: &[u8]) -> protobuf::Result<Self> {
        let mut packed = Self::default();
        let mut input = CodedInputStream::from_bytes(bytes);
        // A batch that is refused anyway is not read to its end.
        while packed.count < COUNT_MAX
            && packed.new_series.len() <= STREAM_SERIES_MAX
            && let Some(tag) = input.read_raw_tag_or_eof()?
        {
            match tag {
                8 => packed.sequence = input.read_uint64()?,
                18 => packed.agent_id = input.read_string()?,
                26 => {
                    packed.new_series.push(new_series(&mut input)?);
                }
                34 => {
                    let room = BATCH_POINTS_MAX.saturating_sub(packed.count);
                    let (tick, values) = tick(&mut input, room)?;
                    packed.count += values.max(1);
                    if !packed.is_over() {
                        packed.ticks.push(tick);
                    }
                }
                40 => packed.sent_at_ms = input.read_int64()?,
                50 => read_facts(&mut input, &mut packed.host)?,
                58 => read_snapshot(&mut input, &mut packed.host)?,
                tag => skip_unknown(tag, &mut input)?,
            }
        }
        Ok(packed)
    }

    /// Whether it has more points than a batch may have; then not all of them are kept.
    pub(crate) fn is_over(&self) -> bool {
        self.count > BATCH_POINTS_MAX
    }
}

fn new_series(input: &mut CodedInputStream<'_>) -> protobuf::Result<NewSeries> {
    let mut series = NewSeries::default();
    let len = input.read_raw_varint64()?;
    let outer = input.push_limit(len)?;
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            10 => series.metric = input.read_string()?,
            18 => {
                let label = label(input)?;
                // One more than a series may have: it is rejected for that.
                if series.labels.len() <= LABELS_MAX {
                    series.labels.push(label);
                }
            }
            tag => skip_unknown(tag, input)?,
        }
    }
    input.pop_limit(outer);
    Ok(series)
}

fn label(input: &mut CodedInputStream<'_>) -> protobuf::Result<(String, String)> {
    let (mut name, mut value) = (String::new(), String::new());
    let len = input.read_raw_varint32()?;
    let outer = input.push_limit(u64::from(len))?;
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            10 => name = input.read_string()?,
            18 => value = input.read_string()?,
            tag => skip_field_for_tag(tag, input)?,
        }
    }
    input.pop_limit(outer);
    Ok((name, value))
}

/// A tick with at most `room` values and one, and how many it has.
fn tick(input: &mut CodedInputStream<'_>, room: usize) -> protobuf::Result<(Tick, usize)> {
    let (mut tick, mut count) = (Tick::default(), 0);
    let len = input.read_raw_varint64()?;
    let outer = input.push_limit(len)?;
    let mut numbers = 0;
    let mut number = |series: &mut Vec<u32>, number| {
        numbers += 1;
        if series.len() <= BATCH_POINTS_MAX {
            series.push(number);
        }
        if numbers > COUNT_MAX { Err(too_many()) } else { Ok(()) }
    };
    let mut value = |values: &mut Vec<f64>, value| {
        count += 1;
        if values.len() <= room {
            values.push(value);
        }
    };
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            8 => tick.timestamp_ms = input.read_int64()?,
            16 => number(&mut tick.series, input.read_uint32()?)?,
            18 => {
                let len = input.read_raw_varint64()?;
                let inner = input.push_limit(len)?;
                while !input.eof()? {
                    number(&mut tick.series, input.read_uint32()?)?;
                }
                input.pop_limit(inner);
            }
            25 => value(&mut tick.values, input.read_double()?),
            26 => {
                let len = input.read_raw_varint64()?;
                let inner = input.push_limit(len)?;
                tick.values.reserve((len as usize / 8).min(room + 1));
                while !input.eof()? {
                    value(&mut tick.values, input.read_double()?);
                }
                input.pop_limit(inner);
            }
            tag => skip_unknown(tag, input)?,
        }
    }
    input.pop_limit(outer);
    Ok((tick, count))
}

fn too_many() -> protobuf::Error {
    let what = "a tick has too many series";
    std::io::Error::new(std::io::ErrorKind::InvalidData, what).into()
}

fn skip_unknown(tag: u32, input: &mut CodedInputStream<'_>) -> protobuf::Result<()> {
    // What newer agents may add is passed over.
    let mut dropped = protobuf::UnknownFields::new();
    read_unknown_or_skip_group(tag, input, &mut dropped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use proptest::prelude::*;
    use protobuf::Message as _;

    use crate::wire::pb::metrics::{
        HostFacts, PackedBatch, PackedSeries, PackedTick, ProcessSnapshot, ProcessUse,
    };

    /// The same message by the generated decoder.
    fn generated(bytes: &[u8]) -> Option<Packed> {
        let batch = PackedBatch::parse_from_bytes(bytes).ok()?;
        let new_series = batch.new_series.into_iter().map(|series| {
            let labels = series.labels.into_iter().collect();
            NewSeries { metric: series.metric_name, labels }
        });
        let count = batch.ticks.iter().map(|tick| tick.values.len().max(1)).sum();
        let ticks = batch.ticks.into_iter().map(|tick| Tick {
            timestamp_ms: tick.timestamp_ms,
            series: tick.series,
            values: tick.values,
        });
        Some(Packed {
            sequence: batch.sequence,
            agent_id: batch.agent_id,
            new_series: new_series.collect(),
            ticks: ticks.collect(),
            sent_at_ms: batch.sent_at_ms,
            count,
            host: HostReport {
                facts: batch.facts.into_option().map(crate::wire::facts_from_proto),
                snapshot: batch.snapshot.into_option().map(crate::wire::snapshot_from_proto),
            },
        })
    }

    prop_compose! {
        fn any_tick()(
            timestamp_ms in any::<i64>(),
            series in prop::collection::vec(any::<u32>(), 0..4),
            values in prop::collection::vec(-1e9..1e9_f64, 0..4),
        ) -> PackedTick {
            let mut tick = PackedTick::new();
            tick.timestamp_ms = timestamp_ms;
            tick.series = series;
            tick.values = values;
            tick
        }
    }

    prop_compose! {
        fn any_batch()(
            sequence in any::<u64>(),
            agent_id in ".{0,8}",
            sent_at_ms in any::<i64>(),
            names in prop::collection::vec(("[a-z.é]{0,9}", "[a-z]{0,3}", ".{0,4}"), 0..4),
            ticks in prop::collection::vec(any_tick(), 0..4),
            os in prop::option::of(".{0,300}"),
            processes in prop::option::of(prop::collection::vec(".{0,20}", 0..4)),
        ) -> Vec<u8> {
            let mut batch = PackedBatch::new();
            batch.sequence = sequence;
            batch.agent_id = agent_id;
            batch.sent_at_ms = sent_at_ms;
            batch.new_series = names.into_iter().map(|(metric, label, value)| {
                let mut series = PackedSeries::new();
                series.metric_name = metric;
                series.labels.insert(label, value);
                series
            }).collect();
            batch.ticks = ticks;
            batch.facts = os.map(|os| HostFacts { os, ..HostFacts::new() }).into();
            batch.snapshot = processes.map(|names| {
                let process = |name| ProcessUse { name, ..ProcessUse::new() };
                let processes = names.into_iter().map(process).collect();
                ProcessSnapshot { processes, ..ProcessSnapshot::new() }
            }).into();
            batch.write_to_bytes().unwrap()
        }
    }

    proptest! {
        #[test]
        fn it_reads_what_the_generated_decoder_reads(bytes in any_batch()) {
            prop_assert_eq!(Packed::parse(&bytes).ok(), generated(&bytes));
        }

        #[test]
        fn it_refuses_what_the_generated_decoder_refuses(
            mut bytes in any_batch(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            if !bytes.is_empty() {
                for (at, to) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = to;
                }
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            prop_assert_eq!(Packed::parse(&bytes).is_ok(), generated(&bytes).is_some());
        }
    }

    #[test]
    fn no_more_is_kept_than_a_batch_may_have() {
        let packed = Packed::parse(&[26, 0].repeat(1_000_000)).unwrap();
        assert_eq!(packed.new_series.len(), STREAM_SERIES_MAX + 1);
        let packed = Packed::parse(&[34, 0].repeat(1_000_000)).unwrap();
        assert_eq!((packed.ticks.len(), packed.count), (BATCH_POINTS_MAX, COUNT_MAX));
        assert!(packed.is_over());
        let mut labels = vec![26, 0x80, 0x89, 0x7a];
        labels.extend([18, 0].repeat(1_000_000));
        assert_eq!(Packed::parse(&labels).unwrap().new_series[0].labels.len(), LABELS_MAX + 1);
        let mut numbers = vec![34, 0x84, 0x89, 0x7a, 18, 0x80, 0x89, 0x7a];
        numbers.extend([0].repeat(2_000_000));
        assert!(Packed::parse(&numbers).is_err());
    }
}
