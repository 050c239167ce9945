//! WAL records: the rows of `samples`. A record is one sample set of one agent: the values of many
//! series at one time.
//!
//! ```text
//! samples  id │ agent │ timestamp │ received │ series          │ data         │ crc
//!          17 │ 3     │ 17706…    │ 17706…    │ 5               │ [12.5,3,0.1] │ …    of list 5
//!          18 │ 3     │ 17706…    │ 17706…    │ '[101,102,107]' │ [12.5,3,0.1] │ …    named here
//! layouts  id │ agent │ series        │ crc
//!          5  │ 3     │ [101,102,103] │ …
//! ```
//!
//! `data` is a JSON array of the shortest decimal texts that read back as the same 64 bits: about
//! five bytes a value where the bits themselves would take eight, and plain `sqlite3` reads it in
//! the view `metrics` with nothing but its JSON functions. An agent's sample sets have the
//! same series in the same order, so a list that comes a second time is written once, into
//! `layouts`.
//!
//! `crc` is over the other columns: one digit that the disk has turned into another still makes a
//! number, and only the checksum tells.

use rusqlite::Row;
use rusqlite::types::ValueRef;

/// The checksum of a row: over its numbers, then its texts. It has the bits of a CRC-32, as the
/// signed number that SQLite keeps in four bytes.
pub(crate) fn checksum(numbers: &[i64], texts: &[&[u8]]) -> i32 {
    let mut hasher = crc32fast::Hasher::new();
    numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.finalize().cast_signed()
}

/// `samples.crc` of a row: of its id, agent, timestamp and arrival, of `series` as the row has it,
/// and of `data`.
pub(crate) fn row_sum(numbers: [i64; 4], series: ValueRef<'_>, data: &[u8]) -> i32 {
    let [id, agent, timestamp, received] = numbers;
    match series {
        ValueRef::Integer(row) => checksum(&[id, agent, timestamp, received, row], &[data]),
        ValueRef::Text(list) => checksum(&numbers, &[list, data]),
        _ => checksum(&numbers, &[data]),
    }
}

/// A row of `samples` that is what was written.
pub(crate) struct WalRecord<'r> {
    /// Time of its points, Unix milliseconds.
    pub timestamp: i64,
    /// When they came, Unix milliseconds.
    pub received: i64,
    /// Which series: an integer names a row of `layouts`, a text is the list itself.
    pub series: ValueRef<'r>,
    /// The values.
    pub values: Vec<f64>,
}

/// The columns of [`WalRecord::read`], in its order.
pub(crate) const COLUMNS: &str = "samples.id, samples.agent, samples.timestamp, samples.received, \
                           samples.series, samples.data, samples.crc";

impl<'r> WalRecord<'r> {
    /// Reads a row of [`COLUMNS`], and maybe others behind them; `None` when it is damaged.
    ///
    /// # Errors
    ///
    /// When a column has a value of another kind.
    pub(crate) fn read(row: &'r Row<'_>) -> Result<Option<Self>, rusqlite::Error> {
        let (id, agent): (i64, u32) = (row.get(0)?, row.get(1)?);
        let (timestamp, received) = (row.get(2)?, row.get(3)?);
        let series = row.get_ref(4)?;
        let ValueRef::Text(data) = row.get_ref(5)? else { return Ok(None) };
        if row.get::<_, i32>(6)? != row_sum([id, agent.into(), timestamp, received], series, data) {
            return Ok(None);
        }
        let values = std::str::from_utf8(data).ok().and_then(decode_values);
        Ok(values.map(|values| Self { timestamp, received, series, values }))
    }
}

/// Appends the text of one record's values to `out`. Every value is finite.
pub(crate) fn encode_values(out: &mut Vec<u8>, values: &[f64]) {
    let mut integer = itoa::Buffer::new();
    let mut float = zmij::Buffer::new();
    out.push(b'[');
    for (index, &value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Whole numbers are the commonest values, and shorter without their `.0`. Minus zero
        // keeps its sign only as a float.
        if value.trunc() == value && value.abs() < EXACT_INTEGERS && !is_minus_zero(value) {
            out.extend_from_slice(integer.format(value as i64).as_bytes());
        } else {
            out.extend_from_slice(float.format_finite(value).as_bytes());
        }
    }
    out.push(b']');
}

/// Below it, every whole `f64` is an `i64` of the same value.
const EXACT_INTEGERS: f64 = 9e15;

fn is_minus_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// The values of a record, every bit as it was; `None` when the text is not an array of numbers.
pub(crate) fn decode_values(text: &str) -> Option<Vec<f64>> {
    numbers(text)?.map(|item| item.parse().ok().filter(|value: &f64| value.is_finite())).collect()
}

/// The text of a list of series ids.
pub(crate) fn encode_ids(ids: impl IntoIterator<Item = u32>) -> String {
    let mut text = String::from("[");
    let mut integer = itoa::Buffer::new();
    for (index, id) in ids.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(integer.format(id));
    }
    text.push(']');
    text
}

/// The ids of a list; `None` when the text is not one.
pub(crate) fn decode_ids(text: &str) -> Option<Vec<u32>> {
    numbers(text)?.map(|item| item.parse().ok()).collect()
}

fn numbers(text: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split(',').filter(move |_| !inner.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bit_comes_back(bits in proptest::collection::vec(any::<u64>(), 0..50)) {
            let values: Vec<f64> =
                bits.into_iter().map(f64::from_bits).filter(|value| value.is_finite()).collect();
            let mut text = Vec::new();
            encode_values(&mut text, &values);
            let back = decode_values(std::str::from_utf8(&text).unwrap()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values));
        }
    }

    #[test]
    fn the_text_is_short() {
        let mut text = Vec::new();
        encode_values(&mut text, &[12.5, 3.0, -0.0, 0.0, 1e300, -7.0]);
        assert_eq!(text, b"[12.5,3,-0.0,0,1e+300,-7]".as_slice());
    }

    #[test]
    fn damage_is_seen() {
        for text in ["", "[", "[1,]", "[1,x]", "1,2", "[NaN]"] {
            assert_eq!(decode_values(text), None, "{text}");
        }
        assert_eq!(decode_ids("[1,4294967296]"), None);
        assert_eq!(decode_ids(&encode_ids([1, 22, 333])).unwrap(), [1, 22, 333]);
        assert_eq!(decode_ids("[]").unwrap(), Vec::<u32>::new());
    }
}
