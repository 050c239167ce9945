//! The size of header blocks once decoded (HPACK, RFC 7541), so that a few bytes that refer to a
//! large field are counted as what they become. Contents are not kept: the dynamic table holds the
//! lengths of its entries, and of `:path` whether it is a call that carries reports.

use std::collections::VecDeque;

/// Bytes that a dynamic table may have: the protocol's default, which the C core does not change.
const TABLE_BYTES_MAX: usize = 4_096;
/// Bytes that each field counts beside its name and its value (RFC 7541, section 4.1).
const FIELD_OVERHEAD: usize = 32;
/// `:path` in the static table, and once more as `/index.html`.
const PATH_INDEXES: [usize; 2] = [4, 5];

/// What a call may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// Reports, up to the limits of a batch.
    Report,
    /// Anything else: enrolment and health, which are small.
    Other,
}

impl CallKind {
    /// The kind of a call by its `:path`.
    pub(super) fn of_path(path: &[u8]) -> Self {
        let reports: [&[u8]; 2] =
            [b"/oxmon.MetricService/ReportMetrics", b"/oxmon.MetricService/ReportPacked"];
        if reports.contains(&path) { Self::Report } else { Self::Other }
    }
}

/// Lengths of names and values of the static table (RFC 7541, appendix A).
const STATIC: [(u8, u8); 61] = [
    (10, 0),
    (7, 3),
    (7, 4),
    (5, 1),
    (5, 11),
    (7, 4),
    (7, 5),
    (7, 3),
    (7, 3),
    (7, 3),
    (7, 3),
    (7, 3),
    (7, 3),
    (7, 3),
    (14, 0),
    (15, 13),
    (15, 0),
    (13, 0),
    (6, 0),
    (27, 0),
    (3, 0),
    (5, 0),
    (13, 0),
    (13, 0),
    (19, 0),
    (16, 0),
    (16, 0),
    (14, 0),
    (16, 0),
    (13, 0),
    (12, 0),
    (6, 0),
    (4, 0),
    (4, 0),
    (6, 0),
    (7, 0),
    (4, 0),
    (4, 0),
    (8, 0),
    (17, 0),
    (13, 0),
    (8, 0),
    (19, 0),
    (13, 0),
    (4, 0),
    (8, 0),
    (12, 0),
    (18, 0),
    (19, 0),
    (5, 0),
    (7, 0),
    (7, 0),
    (11, 0),
    (6, 0),
    (10, 0),
    (25, 0),
    (17, 0),
    (10, 0),
    (4, 0),
    (3, 0),
    (16, 0),
];

/// Huffman codes (RFC 7541, appendix B) are canonical: codes of one length follow each other. For
/// each length its bits, its first code, and how many symbols have it.
const LENGTHS: [(u32, u32, u32); 21] = [
    (5, 0x0, 10),
    (6, 0x14, 26),
    (7, 0x5c, 32),
    (8, 0xf8, 6),
    (10, 0x3f8, 5),
    (11, 0x7fa, 3),
    (12, 0xffa, 2),
    (13, 0x1ff8, 6),
    (14, 0x3ffc, 2),
    (15, 0x7ffc, 3),
    (19, 0x7fff0, 3),
    (20, 0xfffe6, 8),
    (21, 0x1fffdc, 13),
    (22, 0x3fffd2, 26),
    (23, 0x7fffd8, 29),
    (24, 0xffffea, 12),
    (25, 0x1ffffec, 4),
    (26, 0x3ffffe0, 15),
    (27, 0x7ffffde, 19),
    (28, 0xfffffe2, 29),
    (30, 0x3ffffffc, 4),
];
/// The symbols of the codes of up to 13 bits in the order of their codes: all that names and paths
/// of calls are made of. Later ones count, and are kept as `?`.
const SYMBOLS: &[u8; 90] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\0$@[]~";
/// The code that ends a string, which no string may contain.
const END: u32 = 0x3fff_ffff;

/// Why a block is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HpackError {
    /// It breaks RFC 7541.
    Malformed,
    /// Decoded it is larger than allowed.
    TooLarge,
}

/// What a block becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Bytes of all fields: name, value and 32 each.
    pub(super) bytes: usize,
    /// What its `:path` names; `Other` without one.
    pub(super) kind: CallKind,
}

/// A field's lengths, and what it says of the call where it is `:path`.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: u16,
    value: u16,
    path: Option<CallKind>,
}

impl Field {
    fn bytes(self) -> usize {
        usize::from(self.name) + usize::from(self.value) + FIELD_OVERHEAD
    }
}

/// The decoder of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    bytes: usize,
    bytes_max: usize,
}

impl Decoder {
    /// A decoder with an empty table.
    pub(super) fn new() -> Self {
        Self { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX }
    }

    /// What a complete header block becomes, when that is at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// When it is larger, or malformed. The connection can't go on then: the table is out of step.
    pub(super) fn decode(&mut self, block: &[u8], bytes_max: usize) -> Result<Decoded, HpackError> {
        let mut input = Input { rest: block, text: Vec::new() };
        let mut decoded = Decoded { bytes: 0, kind: CallKind::Other };
        while let Some(&first) = input.rest.first() {
            let (field, indexed) = match first {
                0x80.. => (self.field(input.integer(7)?)?, false),
                0x40.. => (self.literal(&mut input, 6, bytes_max)?, true),
                0x20.. => {
                    self.resize(input.integer(5)?, decoded.bytes)?;
                    continue;
                }
                _ => (self.literal(&mut input, 4, bytes_max)?, false),
            };
            decoded.bytes += field.bytes();
            if decoded.bytes > bytes_max {
                return Err(HpackError::TooLarge);
            }
            decoded.kind = field.path.unwrap_or(decoded.kind);
            if indexed {
                self.insert(field);
            }
        }
        Ok(decoded)
    }

    fn field(&self, index: usize) -> Result<Field, HpackError> {
        let at = index.checked_sub(1).ok_or(HpackError::Malformed)?;
        if let Some((name, value)) = STATIC.get(at) {
            let path = PATH_INDEXES.contains(&index).then_some(CallKind::Other);
            return Ok(Field { name: u16::from(*name), value: u16::from(*value), path });
        }
        self.table.get(at - STATIC.len()).copied().ok_or(HpackError::Malformed)
    }

    fn literal(
        &self,
        input: &mut Input<'_>,
        prefix: u32,
        bytes_max: usize,
    ) -> Result<Field, HpackError> {
        let (name, is_path) = match input.integer(prefix)? {
            0 => {
                let name = input.string(bytes_max)?;
                (name, input.text == b":path")
            }
            index => {
                let named = self.field(index)?;
                (named.name, named.path.is_some())
            }
        };
        let value = input.string(bytes_max)?;
        let path = is_path.then(|| CallKind::of_path(&input.text));
        Ok(Field { name, value, path })
    }

    /// A change of the table's size, which may only come first in a block.
    fn resize(&mut self, bytes: usize, decoded: usize) -> Result<(), HpackError> {
        if decoded > 0 || bytes > TABLE_BYTES_MAX {
            return Err(HpackError::Malformed);
        }
        self.bytes_max = bytes;
        self.evict(0);
        Ok(())
    }

    fn insert(&mut self, field: Field) {
        self.evict(field.bytes());
        // One that is larger than the table leaves it empty.
        if field.bytes() <= self.bytes_max {
            self.bytes += field.bytes();
            self.table.push_front(field);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.bytes + room > self.bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

/// What is left of a block.
struct Input<'a> {
    rest: &'a [u8],
    /// The last string.
    text: Vec<u8>,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.rest.split_first().ok_or(HpackError::Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An integer with a prefix of so many bits (section 5.1); three further bytes at the most.
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::Malformed)
    }

    /// The length of a string literal (section 5.2), which is in `text` then.
    fn string(&mut self, bytes_max: usize) -> Result<u16, HpackError> {
        let is_huffman = self.rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(HpackError::Malformed)?;
        self.rest = rest;
        self.text.clear();
        if is_huffman {
            huffman(bytes, &mut self.text)?;
        } else {
            self.text.extend_from_slice(bytes);
        }
        if self.text.len() > bytes_max {
            return Err(HpackError::TooLarge);
        }
        u16::try_from(self.text.len()).map_err(|_| HpackError::TooLarge)
    }
}

/// Decodes a Huffman string: at most eight fifths of its bytes.
fn huffman(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), HpackError> {
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = bytes.iter();
    loop {
        while count < 30 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        let Some((length, symbol)) = symbol(bits, count)? else { break };
        text.push(symbol);
        count -= length;
        bits &= (1 << count) - 1;
    }
    // Padding: fewer than eight bits, all of them ones.
    if count < 8 && bits == (1 << count) - 1 { Ok(()) } else { Err(HpackError::Malformed) }
}

/// The bits and the symbol of the first code in the lowest `count` bits; `None` when they have
/// none.
fn symbol(bits: u64, count: u32) -> Result<Option<(u32, u8)>, HpackError> {
    let mut before = 0;
    for (length, first, symbols) in LENGTHS {
        if length > count {
            return Ok(None);
        }
        let code = (bits >> (count - length)) as u32;
        if let Some(at) = code.checked_sub(first).filter(|at| *at < symbols) {
            if code == END && length == 30 {
                return Err(HpackError::Malformed);
            }
            let known = SYMBOLS.get((before + at) as usize);
            return Ok(Some((length, known.copied().unwrap_or(b'?'))));
        }
        before += symbols;
    }
    Err(HpackError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
