//! The values of a record as the head keeps them: every bit, in about half the memory.
//!
//! ```text
//! tags    two bits a value, four values a byte, the first one lowest
//! values  0  nothing: the value is 0
//!         1  i32 n: n / 100       percentages, rates, small counts
//!         2  i32 n: n × 4096      sizes of memory and disks
//!         3  f64                  the rest
//! ```
//!
//! All little endian, one after the other. What hosts report fits 0 to 2, nearly always.

use std::collections::VecDeque;

const ZERO: u8 = 0;
const HUNDREDTHS: u8 = 1;
const PAGES: u8 = 2;
const BITS: u8 = 3;

/// Bytes of a value by its tag.
const SIZES: [u8; 4] = [0, 4, 4, 8];
/// Bytes of four values by their tags.
const SIZES_OF_FOUR: [u8; 256] = sizes_of_four();

const PARTS: f64 = 100.0;
const PAGE: f64 = 4_096.0;

const fn sizes_of_four() -> [u8; 256] {
    let mut table = [0; 256];
    let mut tags = 0;
    while tags < 256 {
        table[tags] =
            SIZES[tags & 3] + SIZES[tags >> 2 & 3] + SIZES[tags >> 4 & 3] + SIZES[tags >> 6];
        tags += 1;
    }
    table
}

/// Bytes of a block: some 50 records of an agent. One that is larger has a block of its own.
const BLOCK_BYTES: usize = 4_096;

/// Where the values of one record are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    block: u32,
    start: u32,
}

/// The values of an agent's records. Those that follow one another are side by side in memory, so
/// that a series is read without a miss of the cache for each of its points.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// Oldest first; records go into the last.
    blocks: VecDeque<Block>,
    /// The number of the oldest.
    first: u32,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    /// Records that are still needed.
    records: u32,
}

impl Values {
    /// Keeps the values of a record. Callers know how many there are.
    pub(crate) fn add(&mut self, values: &[f64]) -> Place {
        let tags = values.len().div_ceil(4);
        let most = tags + values.len() * 8;
        let filled = self.blocks.back().map(|block| block.bytes.len());
        if filled.is_none_or(|filled| filled > 0 && filled + most > BLOCK_BYTES) {
            // What was needed once is needed again; the first block of an agent grows.
            let bytes = Vec::with_capacity(filled.map_or(0, |_| BLOCK_BYTES));
            if let Some(full) = self.blocks.back_mut() {
                full.bytes.shrink_to_fit();
            }
            self.blocks.push_back(Block { bytes, records: 0 });
        }
        let number = self.first.wrapping_add(self.blocks.len().saturating_sub(1) as u32);
        let Some(Block { bytes, records }) = self.blocks.back_mut() else {
            return Place { block: number, start: 0 };
        };
        *records += 1;
        let start = bytes.len();
        bytes.resize(start + tags, 0);
        for (index, &value) in values.iter().enumerate() {
            let (tag, number) = tagged(value);
            bytes[start + index / 4] |= tag << (index % 4 * 2);
            match tag {
                ZERO => {}
                BITS => bytes.extend_from_slice(&value.to_le_bytes()),
                _ => bytes.extend_from_slice(&number.to_le_bytes()),
            }
        }
        Place { block: number, start: start as u32 }
    }

    /// Forgets the values of a record.
    pub(crate) fn remove(&mut self, place: Place) {
        let Some(block) = self.blocks.get_mut(place.block.wrapping_sub(self.first) as usize) else {
            return;
        };
        block.records = block.records.saturating_sub(1);
        if block.records == 0 {
            block.bytes = Vec::new();
        }
        while self.blocks.len() > 1 && self.blocks.front().is_some_and(|one| one.records == 0) {
            self.blocks.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// What a record has from its first tag on.
    fn bytes(&self, place: Place) -> &[u8] {
        let block = self.blocks.get(place.block.wrapping_sub(self.first) as usize);
        block.and_then(|block| block.bytes.get(place.start as usize..)).unwrap_or_default()
    }

    /// Bytes of memory that the `count` values of a record take.
    pub(crate) fn size_bytes(&self, place: Place, count: usize) -> usize {
        let tags = count.div_ceil(4);
        let bytes = self.bytes(place).get(..tags).unwrap_or_default();
        tags + bytes.iter().map(|&tags| size_of_four(tags)).sum::<usize>()
    }

    /// The `count` values of a record.
    pub(crate) fn iter(&self, place: Place, count: usize) -> impl Iterator<Item = f64> {
        let bytes = self.bytes(place);
        let (tags, mut rest) = bytes.split_at_checked(count.div_ceil(4)).unwrap_or_default();
        (0..count).map_while(move |index| {
            let tag = tags.get(index / 4)? >> (index % 4 * 2) & 3;
            let (value, after) = rest.split_at_checked(usize::from(SIZES[usize::from(tag)]))?;
            rest = after;
            Some(read(tag, value))
        })
    }

    /// Value `index` of the `count` of a record.
    pub(crate) fn get(&self, place: Place, index: usize, count: usize) -> Option<f64> {
        if index >= count {
            return None;
        }
        let (tags, rest) = self.bytes(place).split_at_checked(count.div_ceil(4))?;
        let four = *tags.get(index / 4)?;
        let shift = index % 4 * 2;
        let before: usize = tags[..index / 4].iter().map(|&tags| size_of_four(tags)).sum();
        let start = before + size_of_four(four & ((1 << shift) - 1));
        let tag = four >> shift & 3;
        Some(read(tag, rest.get(start..start + usize::from(SIZES[usize::from(tag)]))?))
    }
}

fn size_of_four(tags: u8) -> usize {
    usize::from(SIZES_OF_FOUR[usize::from(tags)])
}

/// The tag that keeps every bit of a value in the fewest bytes, and its number.
fn tagged(value: f64) -> (u8, i32) {
    if value.to_bits() == 0 {
        return (ZERO, 0);
    }
    // The cast stops at the ends of i32, and then the value does not come back.
    let parts = (value * PARTS + 0.5_f64.copysign(value)) as i32;
    if (f64::from(parts) / PARTS).to_bits() == value.to_bits() {
        return (HUNDREDTHS, parts);
    }
    let pages = (value / PAGE) as i32;
    if (f64::from(pages) * PAGE).to_bits() == value.to_bits() {
        return (PAGES, pages);
    }
    (BITS, 0)
}

fn read(tag: u8, bytes: &[u8]) -> f64 {
    match (tag, bytes) {
        (HUNDREDTHS, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])) / PARTS,
        (PAGES, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])) * PAGE,
        (BITS, bytes) => bytes.try_into().map(f64::from_le_bytes).unwrap_or_default(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64]) {
        let mut kept = Values::default();
        let others = [1.5, 0.0, 1e9 / 7.0];
        kept.add(&others);
        let place = kept.add(values);
        kept.add(&others);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let all: Vec<f64> = kept.iter(place, values.len()).collect();
        assert_eq!(bits(&all), bits(values));
        for (index, value) in values.iter().enumerate() {
            let got = kept.get(place, index, values.len()).map(f64::to_bits);
            assert_eq!(got, Some(value.to_bits()), "{index} of {values:?}");
        }
        assert_eq!(kept.get(place, values.len(), values.len()), None);
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(values in proptest::collection::vec(
            prop_oneof![
                any::<f64>(),
                any::<u64>().prop_map(f64::from_bits),
                (-300_000i32..300_000).prop_map(|n| f64::from(n) / 100.0),
                (0u32..).prop_map(|n| f64::from(n) * 4096.0),
                Just(0.0),
                Just(-0.0),
            ],
            0..70,
        )) {
            check(&values);
        }
    }

    #[test]
    fn what_hosts_report_takes_half_the_memory() {
        let values = [12.34, 0.0, 1e6, 274_877_906_944.0, 99.99, 0.0, 123_456.7, 87.0];
        let mut kept = Values::default();
        let place = kept.add(&values);
        assert_eq!(kept.size_bytes(place, values.len()), 2 + 6 * 4);
        check(&values);
        check(&[f64::MAX, f64::MIN_POSITIVE, 1e-3, 4096.5, -4096.0, 1e300, f64::INFINITY]);
    }

    #[test]
    fn memory_goes_with_the_records() {
        let mut kept = Values::default();
        let value = |record: u32, index: usize| f64::from(record) * 1e9 / 7.0 + index as f64;
        let values = |record| (0..60).map(|index| value(record, index)).collect::<Vec<f64>>();
        let bytes = |kept: &Values| kept.blocks.iter().map(|one| one.bytes.capacity()).sum();
        let mut places = VecDeque::new();
        for record in 0..10_000 {
            places.push_back((record, kept.add(&values(record))));
            // Ten at a time, and one that stays for long.
            if record > 100 {
                let (_, place) = places.remove(usize::from(record < 5_000)).unwrap();
                kept.remove(place);
                let held: usize = bytes(&kept);
                assert!(held < 101 * 60 * 9 + 3 * BLOCK_BYTES, "{record}: {held}");
            }
        }
        for (record, place) in &places {
            let all: Vec<f64> = kept.iter(*place, 60).collect();
            assert_eq!(all, values(*record));
        }
        places.into_iter().for_each(|(_, place)| kept.remove(place));
        assert_eq!((bytes(&kept), kept.blocks.len()), (0, 1));
        let large = kept.add(&vec![0.1; 5_000]);
        assert_eq!(kept.iter(large, 5_000).count(), 5_000);
        assert_eq!(kept.get(large, 4_999, 5_000), Some(0.1));
    }
}
