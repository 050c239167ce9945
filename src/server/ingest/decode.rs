//! `MetricBatchProto` read where it lies: a report's points are spans of its bytes, so that taking
//! one costs two allocations, not several for each point. Accepts and refuses exactly what the
//! generated decoder does, which a test holds it to.

use protobuf::CodedInputStream;
use protobuf::rt::skip_field_for_tag;

use crate::base::limits::{BATCH_POINTS_MAX, HOST_REPORT_BYTES_MAX, LABELS_MAX};
use crate::model::host::HostReport;
use crate::wire::pb::metrics as pb;
use crate::wire::{facts_from_proto, snapshot_from_proto};

/// Elements of a message that are counted, most of which are not kept.
pub(super) const COUNT_MAX: usize = 10 * BATCH_POINTS_MAX;

/// Where a piece of text stands in the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

/// A point as it stands in the message.
#[derive(Debug, Clone, Copy, Default)]
struct Raw {
    timestamp_ms: i64,
    value: f64,
    agent: Span,
    metric: Span,
    /// First of its labels in [`Report::labels`].
    labels_start: u32,
    labels_len: u32,
}

/// A report, not yet checked.
#[derive(Debug, Default)]
pub(crate) struct Report {
    bytes: Vec<u8>,
    agent: Span,
    timestamp_ms: i64,
    sent_at_ms: i64,
    /// Points of the message, of which no more than a batch may have are kept.
    count: usize,
    points: Vec<Raw>,
    labels: Vec<(Span, Span)>,
    host: HostReport,
}

/// A point of a report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawPoint<'a> {
    report: &'a Report,
    raw: &'a Raw,
}

impl Report {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Where the bytes are no `MetricBatchProto`.
    pub(crate) fn parse(bytes: Vec<u8>) -> protobuf::Result<Self> {
        let mut report = Self::default();
        let mut input = CodedInputStream::from_bytes(&bytes);
        // A batch that is refused anyway is not read to its end.
        while report.count < COUNT_MAX
            && let Some(tag) = input.read_raw_tag_or_eof()?
        {
            match tag {
                10 => report.agent = text(&bytes, &mut input)?,
                16 => report.timestamp_ms = input.read_int64()?,
                32 => report.sent_at_ms = input.read_int64()?,
                42 => read_facts(&mut input, &mut report.host)?,
                50 => read_snapshot(&mut input, &mut report.host)?,
                26 => {
                    let raw = point(&bytes, &mut input, &mut report.labels)?;
                    if report.points.is_empty() {
                        // A guess that fits where all points are alike, which they mostly are.
                        let rest = bytes.len() / input.pos().max(1) as usize;
                        report.points.reserve(rest.min(BATCH_POINTS_MAX));
                    }
                    report.count += 1;
                    if report.points.len() < BATCH_POINTS_MAX {
                        report.points.push(raw);
                    } else {
                        report.labels.truncate(raw.labels_start as usize);
                    }
                }
                tag => skip_unknown(tag, &mut input)?,
            }
        }
        drop(input);
        report.bytes = bytes;
        Ok(report)
    }

    /// The agent's clock when it sent the batch, Unix milliseconds; 0 where it does not say.
    pub(crate) fn sent_at_ms(&self) -> i64 {
        self.sent_at_ms
    }

    /// Whether it says something of the host beside points.
    pub(crate) fn has_host(&self) -> bool {
        !self.host.is_empty()
    }

    /// What it says of the host beside points; taken out of it.
    pub(crate) fn take_host(&mut self) -> HostReport {
        std::mem::take(&mut self.host)
    }

    /// The batch's `agent_id`.
    pub(crate) fn agent(&self) -> &str {
        self.text(self.agent)
    }

    /// The batch's own time, Unix milliseconds.
    #[cfg(test)]
    pub(crate) fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The number of points. A batch that has too many is refused, and not all of them are kept.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether every point is of the batch's own agent.
    pub(crate) fn is_of_one_agent(&self) -> bool {
        self.points.iter().all(|raw| raw.agent.len == 0 || self.text(raw.agent) == self.agent())
    }

    /// The points in their order.
    pub(crate) fn points(&self) -> impl ExactSizeIterator<Item = RawPoint<'_>> {
        self.points.iter().map(|raw| RawPoint { report: self, raw })
    }

    fn text(&self, span: Span) -> &str {
        // Spans are made by `text`, which has checked that they are UTF-8 inside of the bytes.
        slice(&self.bytes, span).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// Reads the facts of a host. What is too large is passed over.
pub(super) fn read_facts(
    input: &mut CodedInputStream<'_>,
    host: &mut HostReport,
) -> protobuf::Result<()> {
    if let Some(message) = read_bounded::<pb::HostFacts>(input)? {
        host.facts = Some(facts_from_proto(message));
    }
    Ok(())
}

/// Reads a snapshot of processes. What is too large is passed over.
pub(super) fn read_snapshot(
    input: &mut CodedInputStream<'_>,
    host: &mut HostReport,
) -> protobuf::Result<()> {
    if let Some(message) = read_bounded::<pb::ProcessSnapshot>(input)? {
        host.snapshot = Some(snapshot_from_proto(message));
    }
    Ok(())
}

fn read_bounded<M: protobuf::Message>(
    input: &mut CodedInputStream<'_>,
) -> protobuf::Result<Option<M>> {
    let len = input.read_raw_varint64()?;
    if len > HOST_REPORT_BYTES_MAX as u64 {
        input.skip_raw_bytes(u32::try_from(len).unwrap_or(u32::MAX))?;
        return Ok(None);
    }
    let outer = input.push_limit(len)?;
    let mut message = M::new();
    message.merge_from(input)?;
    input.pop_limit(outer);
    Ok(Some(message))
}

impl<'a> RawPoint<'a> {
    /// Unix milliseconds.
    pub(crate) fn timestamp_ms(&self) -> i64 {
        self.raw.timestamp_ms
    }

    /// As the agent sent it, so it may be infinite or not a number.
    pub(crate) fn value(&self) -> f64 {
        self.raw.value
    }

    /// The point's own `agent_id`, which may be empty.
    pub(crate) fn agent(&self) -> &'a str {
        self.report.text(self.raw.agent)
    }

    /// The metric's name.
    pub(crate) fn metric(&self) -> &'a str {
        self.report.text(self.raw.metric)
    }

    /// Name and value of each label, as they stand: a name may come twice, and the last one counts.
    pub(crate) fn labels(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> {
        let start = self.raw.labels_start as usize;
        let range = start..start + self.raw.labels_len as usize;
        let spans = self.report.labels.get(range).unwrap_or_default();
        let report = self.report;
        spans.iter().map(|(name, value)| (report.text(*name), report.text(*value)))
    }
}

fn point(
    bytes: &[u8],
    input: &mut CodedInputStream<'_>,
    labels: &mut Vec<(Span, Span)>,
) -> protobuf::Result<Raw> {
    let mut raw = Raw { labels_start: labels.len() as u32, ..Raw::default() };
    let len = input.read_raw_varint64()?;
    let outer = input.push_limit(len)?;
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            8 => raw.timestamp_ms = input.read_int64()?,
            18 => raw.agent = text(bytes, input)?,
            26 => raw.metric = text(bytes, input)?,
            33 => raw.value = input.read_double()?,
            42 => {
                let label = label(bytes, input)?;
                // One more than a point may have: it is rejected for that.
                if labels.len() - raw.labels_start as usize <= LABELS_MAX {
                    labels.push(label);
                }
            }
            tag => skip_unknown(tag, input)?,
        }
    }
    input.pop_limit(outer);
    raw.labels_len = labels.len() as u32 - raw.labels_start;
    Ok(raw)
}

fn label(bytes: &[u8], input: &mut CodedInputStream<'_>) -> protobuf::Result<(Span, Span)> {
    let (mut name, mut value) = (Span::default(), Span::default());
    let len = input.read_raw_varint32()?;
    let outer = input.push_limit(u64::from(len))?;
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            10 => name = text(bytes, input)?,
            18 => value = text(bytes, input)?,
            tag => skip_field_for_tag(tag, input)?,
        }
    }
    input.pop_limit(outer);
    Ok((name, value))
}

/// A string field: its length, then that many bytes of UTF-8.
fn text(bytes: &[u8], input: &mut CodedInputStream<'_>) -> protobuf::Result<Span> {
    let len = input.read_raw_varint32()?;
    let start = input.pos();
    input.skip_raw_bytes(len)?;
    let no_text = || std::io::Error::new(std::io::ErrorKind::InvalidData, "text is not UTF-8");
    let span = Span { start: u32::try_from(start).map_err(|_| no_text())?, len };
    let valid = slice(bytes, span).is_some_and(|bytes| str::from_utf8(bytes).is_ok());
    if valid { Ok(span) } else { Err(no_text().into()) }
}

fn slice(bytes: &[u8], span: Span) -> Option<&[u8]> {
    let start = span.start as usize;
    bytes.get(start..start.checked_add(span.len as usize)?)
}

fn skip_unknown(tag: u32, input: &mut CodedInputStream<'_>) -> protobuf::Result<()> {
    // What newer agents may add is passed over.
    let mut dropped = protobuf::UnknownFields::new();
    protobuf::rt::read_unknown_or_skip_group(tag, input, &mut dropped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    use proptest::prelude::*;
    use protobuf::Message as _;

    use crate::wire::pb::metrics::{MetricBatchProto, MetricDataPointProto};

    /// Both decoders on the same bytes: they agree on whether, and on what.
    fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
        let ours = Report::parse(bytes.to_vec());
        let theirs = MetricBatchProto::parse_from_bytes(bytes);
        // The generated one takes facts and a snapshot that claim more bytes than there are.
        let has_host = |it: &MetricBatchProto| it.facts.is_some() || it.snapshot.is_some();
        if ours.is_err() && theirs.as_ref().is_ok_and(has_host) {
            return Ok(());
        }
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", &ours, &theirs);
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
        prop_assert_eq!(ours.agent(), &theirs.agent_id);
        prop_assert_eq!(ours.timestamp_ms(), theirs.timestamp_ms);
        prop_assert_eq!(ours.len(), theirs.data_points.len());
        prop_assert_eq!(ours.points().len(), theirs.data_points.len());
        for (our, their) in ours.points().zip(&theirs.data_points) {
            prop_assert_eq!(our.timestamp_ms(), their.timestamp_ms);
            prop_assert_eq!(our.value().to_bits(), their.value.to_bits());
            prop_assert_eq!(our.agent(), &their.agent_id);
            prop_assert_eq!(our.metric(), &their.metric_name);
            let labels: HashMap<String, String> =
                our.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&labels, &their.labels);
        }
        Ok(())
    }

    prop_compose! {
        fn any_point()(
            timestamp_ms in any::<i64>(),
            bits in any::<u64>(),
            agent in ".{0,4}",
            metric in "[a-z.é]{0,12}",
            labels in prop::collection::hash_map("[a-z]{0,3}", ".{0,5}", 0..4),
        ) -> MetricDataPointProto {
            let mut point = MetricDataPointProto::new();
            point.timestamp_ms = timestamp_ms;
            point.value = f64::from_bits(bits);
            point.agent_id = agent;
            point.metric_name = metric;
            point.labels = labels;
            point
        }
    }

    prop_compose! {
        fn any_batch()(
            agent in ".{0,8}",
            timestamp_ms in any::<i64>(),
            points in prop::collection::vec(any_point(), 0..6),
        ) -> Vec<u8> {
            let mut batch = MetricBatchProto::new();
            batch.agent_id = agent;
            batch.timestamp_ms = timestamp_ms;
            batch.data_points = points;
            batch.write_to_bytes().unwrap()
        }
    }

    proptest! {
        #[test]
        fn it_reads_what_the_generated_decoder_reads(bytes in any_batch()) {
            compare(&bytes)?;
        }

        #[test]
        fn it_refuses_what_the_generated_decoder_refuses(
            mut bytes in any_batch(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            if !bytes.is_empty() {
                for (at, to) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = to;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            compare(&bytes)?;
        }

        #[test]
        fn noise_panics_neither(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            compare(&bytes)?;
        }
    }

    #[test]
    fn no_more_is_kept_than_a_batch_may_have() {
        let empty_points = [26, 0].repeat(1_000_000);
        let report = Report::parse(empty_points).unwrap();
        assert_eq!((report.len(), report.points.len()), (COUNT_MAX, BATCH_POINTS_MAX));
        let mut empty_labels = vec![26, 0x80, 0x89, 0x7a];
        empty_labels.extend([42, 0].repeat(1_000_000));
        let report = Report::parse(empty_labels).unwrap();
        assert_eq!((report.len(), report.labels.len()), (1, LABELS_MAX + 1));
    }
}
