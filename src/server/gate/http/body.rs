//! The body of a request: as many bytes as were announced, or chunks, decoded under the limit.

use super::parse::Framing;
use super::refusal::Refusal;
use crate::base::limits::HTTP_HEADER_BYTES_MAX;

/// Bytes of the line before a chunk, with whatever extensions it names.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Body {
    part: Part,
    /// Bytes that it may have.
    max: usize,
    /// Bytes of chunk lines and trailers, which are thrown away.
    overhead: usize,
    /// What has arrived.
    pub(crate) data: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// As many bytes, then the end.
    Bytes(usize),
    /// The line with a chunk's size.
    Size,
    /// As many bytes of a chunk, then its line's end.
    Chunk(usize),
    /// The line's end after a chunk.
    ChunkEnd,
    /// Backends after the last chunk, up to an empty one.
    Trailers,
    /// Nothing.
    Done,
}

impl Body {
    /// A body of at most `max` bytes of which nothing has arrived.
    pub(crate) fn new(framing: Framing, max: usize) -> Self {
        let part = match framing {
            Framing::Empty => Part::Done,
            Framing::Length(length) => Part::Bytes(length),
            Framing::Chunked => Part::Size,
        };
        Self { part, max, overhead: 0, data: Vec::new() }
    }

    /// Takes what belongs to it from the front of `input`; true when it is complete.
    ///
    /// # Errors
    ///
    /// When it exceeds its limit, or its chunks are malformed.
    pub(crate) fn take(&mut self, input: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut used = 0;
        let outcome = loop {
            let rest = &input[used..];
            match self.step(rest) {
                Ok(0) => break Ok(self.part == Part::Done),
                Ok(taken) => used += taken,
                Err(refusal) => break Err(refusal),
            }
        };
        input.drain(..used);
        outcome
    }

    /// Takes one part from `rest`; says how many bytes that was, 0 when more must come first.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        match self.part {
            Part::Bytes(left) | Part::Chunk(left) => {
                let taken = left.min(rest.len());
                self.data.extend_from_slice(&rest[..taken]);
                let left = left - taken;
                self.part = match self.part {
                    Part::Bytes(_) if left > 0 => Part::Bytes(left),
                    Part::Bytes(_) => Part::Done,
                    _ if left > 0 => Part::Chunk(left),
                    _ => Part::ChunkEnd,
                };
                Ok(taken)
            }
            Part::Size => {
                let Some(line) = line(rest, CHUNK_LINE_BYTES_MAX)? else { return Ok(0) };
                let size = chunk_size(line, self.max)?;
                if self.data.len() + size > self.max {
                    return Err(Refusal::LargeBody(self.max));
                }
                self.part = if size == 0 { Part::Trailers } else { Part::Chunk(size) };
                self.discard(line.len() + 2)
            }
            Part::ChunkEnd => match rest {
                [b'\r', b'\n', ..] => {
                    self.part = Part::Size;
                    self.discard(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(broken()),
            },
            Part::Trailers => {
                let Some(line) = line(rest, HTTP_HEADER_BYTES_MAX)? else { return Ok(0) };
                if line.is_empty() {
                    self.part = Part::Done;
                }
                self.discard(line.len() + 2)
            }
            Part::Done => Ok(0),
        }
    }

    fn discard(&mut self, bytes: usize) -> Result<usize, Refusal> {
        self.overhead += bytes;
        // Chunk lines and trailers are bounded like the body itself.
        if self.overhead > self.max { Err(Refusal::LargeBody(self.max)) } else { Ok(bytes) }
    }
}

/// The line at the front of `rest` without its end, once that has come.
fn line(rest: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Refusal> {
    let Some(end) = rest.iter().take(bytes_max).position(|byte| *byte == b'\n') else {
        return if rest.len() < bytes_max { Ok(None) } else { Err(broken()) };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or_else(broken)?;
    if line.contains(&b'\r') { Err(broken()) } else { Ok(Some(line)) }
}

fn chunk_size(line: &[u8], max: usize) -> Result<usize, Refusal> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(broken());
    }
    let text = std::str::from_utf8(digits).map_err(|_| broken())?;
    usize::from_str_radix(text, 16)
        .map_err(|_| Refusal::LargeBody(max))
        .and_then(|size| if size > max { Err(Refusal::LargeBody(max)) } else { Ok(size) })
}

fn broken() -> Refusal {
    Refusal::Malformed("the chunks of the body are malformed")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::base::limits::HTTP_BODY_BYTES_MAX;

    /// Feeds `wire` in pieces of `step` bytes; gives the body and what is left over.
    fn decode(framing: Framing, wire: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let (mut body, mut input) = (Body::new(framing, HTTP_BODY_BYTES_MAX), Vec::new());
        let mut pieces = wire.chunks(step);
        loop {
            if body.take(&mut input)? {
                input.extend(pieces.flatten());
                return Ok((body.data, input));
            }
            input.extend_from_slice(pieces.next().expect("the body ends before its bytes do"));
        }
    }

    #[test]
    fn chunks_come_apart_the_same_however_they_arrive() {
        let wire = b"4\r\nwiki\r\n6;note=\"x\"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX: y\r\n\r\nGET";
        for step in 1..wire.len() {
            let (body, rest) = decode(Framing::Chunked, wire, step).unwrap();
            assert_eq!(body, b"wikipedia in \r\n\r\nchunks.", "in pieces of {step}");
            assert_eq!(rest, b"GET");
        }
    }

    #[test]
    fn a_length_takes_its_bytes_and_leaves_the_next_request() {
        for step in 1..8 {
            let (body, rest) = decode(Framing::Length(5), b"helloGET", step).unwrap();
            assert_eq!((body.as_slice(), rest.as_slice()), (&b"hello"[..], &b"GET"[..]));
        }
        assert_eq!(decode(Framing::Empty, b"GET", 1).unwrap().1, b"GET");
    }

    #[test]
    fn broken_chunks_are_refused() {
        let wires: [&[u8]; 9] = [
            b"g\r\nx\r\n0\r\n\r\n",
            b"\r\n\r\n",
            b"+1\r\nx\r\n0\r\n\r\n",
            b"0x1\r\nx\r\n0\r\n\r\n",
            b"1\nx\r\n0\r\n\r\n",
            b"1\r\nxy\r\n0\r\n\r\n",
            b"1;a\rb\r\nx\r\n0\r\n\r\n",
            b" 1\r\nx\r\n0\r\n\r\n",
            b"-1\r\nx\r\n0\r\n\r\n",
        ];
        for wire in wires {
            let shown = String::from_utf8_lossy(wire);
            let outcome = decode(Framing::Chunked, wire, 3);
            assert!(matches!(outcome, Err(Refusal::Malformed(_))), "{shown:?}: {outcome:?}");
        }
        let endless = [b"1;".as_slice(), &[b'a'; 1_000]].concat();
        assert!(decode(Framing::Chunked, &endless, 10).is_err());
    }

    #[test]
    fn a_body_over_its_limit_is_refused_before_it_came() {
        let wires: [&[u8]; 3] = [b"100001\r\n", b"FFFFFFFFFFFFFFFF1\r\n", b"ffffffff\r\n"];
        for wire in wires {
            assert_eq!(
                decode(Framing::Chunked, wire, 99).unwrap_err(),
                Refusal::LargeBody(HTTP_BODY_BYTES_MAX)
            );
        }
        let mut wrapped = Vec::new();
        while wrapped.len() < 2 * HTTP_BODY_BYTES_MAX {
            wrapped
                .extend_from_slice(b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n");
        }
        assert_eq!(
            decode(Framing::Chunked, &wrapped, 4_096).unwrap_err(),
            Refusal::LargeBody(HTTP_BODY_BYTES_MAX)
        );
    }
}
