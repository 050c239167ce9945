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

/// Values in their order. Callers know how many there are.
#[derive(Debug)]
pub(crate) struct Values(Box<[u8]>);

impl Values {
    /// Keeps these values.
    pub(crate) fn new(values: &[f64]) -> Self {
        let tags = values.len().div_ceil(4);
        let mut bytes = Vec::with_capacity(tags + values.len() * 4 + 16);
        bytes.resize(tags, 0);
        for (index, &value) in values.iter().enumerate() {
            let (tag, number) = tagged(value);
            bytes[index / 4] |= tag << (index % 4 * 2);
            match tag {
                ZERO => {}
                BITS => bytes.extend_from_slice(&value.to_le_bytes()),
                _ => bytes.extend_from_slice(&number.to_le_bytes()),
            }
        }
        Self(bytes.into())
    }

    /// Bytes of memory beside the struct.
    pub(crate) fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// The first `count` values, which are all of them.
    pub(crate) fn iter(&self, count: usize) -> impl Iterator<Item = f64> {
        let (tags, mut rest) = self.0.split_at_checked(count.div_ceil(4)).unwrap_or_default();
        (0..count).map_while(move |index| {
            let tag = tags.get(index / 4)? >> (index % 4 * 2) & 3;
            let (value, after) = rest.split_at_checked(usize::from(SIZES[usize::from(tag)]))?;
            rest = after;
            Some(read(tag, value))
        })
    }

    /// Value `index` of `count`.
    pub(crate) fn get(&self, index: usize, count: usize) -> Option<f64> {
        let (tags, rest) = self.0.split_at_checked(count.div_ceil(4))?;
        let size = |tags: u8| usize::from(SIZES_OF_FOUR[usize::from(tags)]);
        let four = *tags.get(index / 4)?;
        let shift = index % 4 * 2;
        let before: usize = tags[..index / 4].iter().map(|&tags| size(tags)).sum();
        let start = before + size(four & ((1 << shift) - 1));
        let tag = four >> shift & 3;
        Some(read(tag, rest.get(start..start + usize::from(SIZES[usize::from(tag)]))?))
    }
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
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64]) {
        let kept = Values::new(values);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let all: Vec<f64> = kept.iter(values.len()).collect();
        assert_eq!(bits(&all), bits(values));
        for (index, value) in values.iter().enumerate() {
            let got = kept.get(index, values.len()).map(f64::to_bits);
            assert_eq!(got, Some(value.to_bits()), "{index} of {values:?}");
        }
        assert_eq!(kept.get(values.len() + 4, values.len()), None);
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
        assert_eq!(Values::new(&values).size_bytes(), 2 + 6 * 4);
        check(&values);
        check(&[f64::MAX, f64::MIN_POSITIVE, 1e-3, 4096.5, -4096.0, 1e300, f64::INFINITY]);
    }
}
