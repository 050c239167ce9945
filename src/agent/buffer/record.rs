//! The frame of a record in a segment, and how a reader finds the next whole one after damage.
//!
//! ```text
//! segment = "OXMBUF" version:u16  record*
//!
//! record:  0        4        8        12                20       21
//!          +--------+--------+--------+-----------------+--------+-----------
//!          | "OXR\n"| length | crc32  | sequence        | kind   | body
//!          +--------+--------+--------+-----------------+--------+-----------
//! ```
//!
//! Numbers are little endian. `length` is that of kind and body; the checksum covers length,
//! sequence, kind and body. Kind 1 is a sample set. Kind 2 says that the sample sets `sequence` to
//! the one in its body (u64) are done with: stored by the server, or given up.

/// The first bytes of a segment: what it is, and the version of its format.
pub(super) const HEADER: [u8; 8] = *b"OXMBUF\x01\x00";
/// Bytes of a record before its kind.
pub(super) const FRAME_BYTES: usize = 20;

const MARK: [u8; 4] = *b"OXR\n";
const KIND_SET: u8 = 1;
const KIND_DONE: u8 = 2;
/// A sample set of the most points with the longest names stays below it.
const LENGTH_MAX: usize = 16 * 1024 * 1024;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// An encoded sample set.
    SampleSet { sequence: u64, body: &'a [u8] },
    /// The sample sets `from` to `to`, both included, are done with.
    Done { from: u64, to: u64 },
}

/// Appends the record of a sample set, given its encoding.
pub(super) fn put_set(out: &mut Vec<u8>, sequence: u64, body: &[u8]) {
    put(out, sequence, KIND_SET, body);
}

/// Appends the record that the sample sets `from` to `to` are done with.
pub(super) fn put_done(out: &mut Vec<u8>, from: u64, to: u64) {
    put(out, from, KIND_DONE, &to.to_le_bytes());
}

fn put(out: &mut Vec<u8>, sequence: u64, kind: u8, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&((body.len() + 1) as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    let crc = checksum(&out[start..]);
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(record.get(4..8).unwrap_or_default());
    hasher.update(record.get(12..).unwrap_or_default());
    hasher.finalize()
}

/// The record at the start of `bytes` and how many bytes it takes; `None` where it is not whole.
pub(super) fn parse(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let frame: &[u8; FRAME_BYTES] = bytes.first_chunk()?;
    if frame[..4] != MARK {
        return None;
    }
    let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
    if length == 0 || length > LENGTH_MAX {
        return None;
    }
    let size = FRAME_BYTES + length;
    let whole = bytes.get(..size)?;
    let crc = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
    if crc != checksum(whole) {
        return None;
    }
    let sequence = u64::from_le_bytes(*frame.last_chunk()?);
    let (kind, body) = whole.get(FRAME_BYTES..)?.split_first()?;
    let record = match *kind {
        KIND_SET => Record::SampleSet { sequence, body },
        KIND_DONE => Record::Done { from: sequence, to: u64::from_le_bytes(body.try_into().ok()?) },
        _ => return None,
    };
    Some((record, size))
}

/// Hands each whole record of a segment to `found` with its place, and returns how many bytes
/// belong to no whole record.
pub(super) fn scan<'a>(bytes: &'a [u8], mut found: impl FnMut(u64, usize, Record<'a>)) -> usize {
    let mut at = if bytes.starts_with(&HEADER) { HEADER.len() } else { 0 };
    let mut skipped = 0;
    while let Some(left) = bytes.get(at..).filter(|left| !left.is_empty()) {
        if let Some((record, size)) = parse(left) {
            found(at as u64, size, record);
            at += size;
        } else {
            let step = left
                .get(1..)
                .and_then(|rest| rest.windows(MARK.len()).position(|window| window == MARK))
                .map_or(left.len(), |distance| distance + 1);
            skipped += step;
            at += step;
        }
    }
    skipped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn segment() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = HEADER.to_vec();
        let mut ends = Vec::new();
        for sequence in 1..=5_u64 {
            put_set(&mut bytes, sequence, &[sequence as u8; 30]);
            ends.push(bytes.len());
        }
        put_done(&mut bytes, 1, 2);
        ends.push(bytes.len());
        (bytes, ends)
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        let mut all = Vec::new();
        scan(bytes, |_, _, record| {
            if let Record::SampleSet { sequence, .. } = record {
                all.push(sequence);
            }
        });
        all
    }

    #[test]
    fn a_torn_tail_loses_the_torn_record_alone() {
        let (bytes, ends) = segment();
        for cut in 0..=bytes.len() {
            let whole = ends.iter().take(5).filter(|end| **end <= cut).count() as u64;
            assert_eq!(sequences(&bytes[..cut]), (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_byte_loses_its_record_alone() {
        let (bytes, ends) = segment();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            let hit = ends.iter().position(|end| at < *end).unwrap() as u64 + 1;
            let expected: Vec<u64> =
                (1..=5).filter(|sequence| at < HEADER.len() || *sequence != hit).collect();
            assert_eq!(sequences(&damaged), expected, "damaged at {at}");
        }
    }

    #[test]
    fn done_comes_back() {
        let mut bytes = Vec::new();
        put_done(&mut bytes, 3, 9);
        assert_eq!(parse(&bytes), Some((Record::Done { from: 3, to: 9 }, bytes.len())));
    }
}
