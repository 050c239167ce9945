//! The size of header blocks once decoded (HPACK, RFC 7541), so that a few bytes that refer to a
//! large field are counted as what they become. Contents are not kept but for three fields: the
//! dynamic table holds the lengths of its entries, what kind of call a `:path` is, and the values
//! of `agent-id` and `authorization`.

use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a dynamic table may have: the protocol's default, which the C core does not change.
const TABLE_BYTES_MAX: usize = 4_096;
/// Bytes that each field counts beside its name and its value (RFC 7541, section 4.1).
const FIELD_OVERHEAD: usize = 32;
/// `:path` in the static table, and once more as `/index.html`.
const PATH_INDEXES: [usize; 2] = [4, 5];
/// `authorization` in the static table.
const AUTHORIZATION_INDEX: usize = 23;

/// What a call may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A report, up to the limits of a batch.
    Report,
    /// A stream of reports, each up to the limits of a batch.
    Stream,
    /// Anything else: enrolment and health, which are small.
    Other,
}

impl CallKind {
    /// The kind of a call by its `:path`.
    pub(super) fn of_path(path: &[u8]) -> Self {
        match path {
            b"/oxmon.MetricService/ReportMetrics" => Self::Report,
            b"/oxmon.MetricService/ReportPacked" => Self::Stream,
            _ => Self::Other,
        }
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
/// The symbols in the order of their codes; after them comes [`END`].
const SYMBOLS: &[u8; 256] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\0$\
      @[]~^}<`{\\\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\
      \xd9\xe3\xe5\xe6\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\
      \xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\
      \x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\t\x8e\x90\x91\x94\x9f\xab\
      \xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\
      \xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\
      \x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\
      \x1d\x1e\x1f\x7f\xdc\xf9\n\r\x16";
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Bytes of all fields: name, value and 32 each.
    pub(super) bytes: usize,
    /// What its `:path` names; `Other` without one.
    pub(super) kind: CallKind,
    /// The value of `agent-id`, the last one where there are several.
    pub(super) agent_id: Option<Arc<[u8]>>,
    /// The value of `authorization`, likewise.
    pub(super) authorization: Option<Arc<[u8]>>,
}

/// What is kept of a field, by its name.
#[derive(Debug, Clone)]
enum Kept {
    Path(CallKind),
    AgentId(Arc<[u8]>),
    Authorization(Arc<[u8]>),
}

impl Kept {
    /// What is kept of a field of this name, without its value.
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b":path" => Some(Self::Path(CallKind::Other)),
            b"agent-id" => Some(Self::AgentId(Arc::default())),
            b"authorization" => Some(Self::Authorization(Arc::default())),
            _ => None,
        }
    }

    /// The same name with another value.
    fn with(&self, value: &[u8]) -> Self {
        match self {
            Self::Path(_) => Self::Path(CallKind::of_path(value)),
            Self::AgentId(_) => Self::AgentId(value.into()),
            Self::Authorization(_) => Self::Authorization(value.into()),
        }
    }
}

/// A field's lengths, and what is kept of it.
#[derive(Debug, Clone)]
struct Field {
    name: u16,
    value: u16,
    kept: Option<Kept>,
}

impl Field {
    fn bytes(&self) -> usize {
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
        let (kind, agent_id, authorization) = (CallKind::Other, None, None);
        let mut decoded = Decoded { bytes: 0, kind, agent_id, authorization };
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
            match &field.kept {
                Some(Kept::Path(kind)) => decoded.kind = *kind,
                Some(Kept::AgentId(value)) => decoded.agent_id = Some(Arc::clone(value)),
                Some(Kept::Authorization(value)) => {
                    decoded.authorization = Some(Arc::clone(value));
                }
                None => {}
            }
            if indexed {
                self.insert(field);
            }
        }
        Ok(decoded)
    }

    fn field(&self, index: usize) -> Result<Field, HpackError> {
        let at = index.checked_sub(1).ok_or(HpackError::Malformed)?;
        if let Some((name, value)) = STATIC.get(at) {
            let kept = match index {
                AUTHORIZATION_INDEX => Some(Kept::Authorization(Arc::default())),
                _ => PATH_INDEXES.contains(&index).then_some(Kept::Path(CallKind::Other)),
            };
            return Ok(Field { name: u16::from(*name), value: u16::from(*value), kept });
        }
        self.table.get(at - STATIC.len()).cloned().ok_or(HpackError::Malformed)
    }

    fn literal(
        &self,
        input: &mut Input<'_>,
        prefix: u32,
        bytes_max: usize,
    ) -> Result<Field, HpackError> {
        let (name, kept) = match input.integer(prefix)? {
            0 => (input.string(bytes_max)?, Kept::named(&input.text)),
            index => {
                let named = self.field(index)?;
                (named.name, named.kept)
            }
        };
        let value = input.string(bytes_max)?;
        Ok(Field { name, value, kept: kept.map(|kept| kept.with(&input.text)) })
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
            let symbol = SYMBOLS.get((before + at) as usize).ok_or(HpackError::Malformed)?;
            return Ok(Some((length, *symbol)));
        }
        before += symbols;
    }
    Err(HpackError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
