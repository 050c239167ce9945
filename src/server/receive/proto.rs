//! Protobuf's wire format, read in place and written: as much as remote write, remote read and
//! OTLP need. A message that claims more than it has is refused; nothing is copied.

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The message is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the protobuf message is malformed")]
pub struct Malformed;

/// The fields of a message, in the order in which they were sent.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.array()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.array()?)),
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes a number of variable length from the front.
///
/// # Errors
///
/// When there is none, or it has over 64 bits.
pub fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Numbers of variable length one after the other (a packed field).
///
/// # Errors
///
/// When the bytes do not end with a whole one.
pub fn packed(mut bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        out.push(varint(&mut bytes)?);
    }
    Ok(out)
}

impl<'a> Value<'a> {
    /// The value as bytes.
    ///
    /// # Errors
    ///
    /// When it is a number.
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    /// The value as text.
    ///
    /// # Errors
    ///
    /// When it is a number, or not UTF-8.
    pub fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The value as a `double`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn double(self) -> Result<f64, Malformed> {
        if let Value::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err(Malformed) }
    }

    /// The value as an integer, signed ones as they are sent.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn int(self) -> Result<i64, Malformed> {
        match self {
            Value::Varint(number) | Value::Fixed64(number) => Ok(number as i64),
            Value::Fixed32(number) => Ok(i64::from(number)),
            Value::Bytes(_) => Err(Malformed),
        }
    }
}

/// Appends a number of variable length.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field of bytes, a text or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a `double`.
pub fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Appends an `int64`.
pub fn put_int(out: &mut Vec<u8>, field: u64, value: i64) {
    put_varint(out, field << 3);
    put_varint(out, value as u64);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"name");
        put_double(&mut out, 2, -0.5);
        put_int(&mut out, 300, -1);
        let fields: Vec<_> = Fields::new(&out).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields[0].1.text(), Ok("name"));
        assert_eq!(fields[1].1.double(), Ok(-0.5));
        assert_eq!((fields[2].0, fields[2].1.int()), (300, Ok(-1)));
        assert_eq!(packed(&[1, 0x80, 1]), Ok(vec![1, 128]));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(0..=u8::MAX, 0..200)) {
            for field in Fields::new(&bytes).flatten() {
                let _ = (field.1.text(), field.1.double(), field.1.int());
            }
            let _ = packed(&bytes);
        }
    }
}
