//! Bodies as senders pack them: Snappy's block format, Zstandard, gzip. What they unpack to is
//! bounded, and so is what unpacking needs in between.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::Refusal;
use crate::base::limits::RECEIVE_BYTES_MAX;

/// The first bytes of gzip (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of a Zstandard frame (RFC 8878). No block of Snappy begins so: it would begin
/// with a copy of what is not there yet.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Undoes Snappy's block format, or Zstandard where a sender uses that instead.
///
/// # Errors
///
/// When it is neither, or larger than it may be.
pub(crate) fn unpack(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    if body.starts_with(&ZSTD) {
        return zstd(body);
    }
    let malformed = |error: snap::Error| Refusal::Malformed(format!("snappy: {error}"));
    if snap::raw::decompress_len(body).map_err(malformed)? > RECEIVE_BYTES_MAX {
        return Err(too_large());
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(malformed)
}

/// Undoes gzip or Zstandard where a body is either of them.
///
/// # Errors
///
/// When it is broken, or larger than it may be.
pub(crate) fn unpack_if_packed(body: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if body.starts_with(&ZSTD) {
        return zstd(body).map(Cow::Owned);
    }
    if body.starts_with(&GZIP) {
        return bounded(MultiGzDecoder::new(body), "gzip").map(Cow::Owned);
    }
    Ok(body.into())
}

fn zstd(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let decoder = StreamingDecoder::new_with_max_window_size(body, RECEIVE_BYTES_MAX as u64);
    let decoder = decoder.map_err(|error| Refusal::Malformed(format!("zstd: {error}")))?;
    bounded(decoder, "zstd")
}

fn bounded(reader: impl Read, what: &str) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let read = reader.take(RECEIVE_BYTES_MAX as u64 + 1).read_to_end(&mut out);
    read.map_err(|error| Refusal::Malformed(format!("{what}: {error}")))?;
    if out.len() > RECEIVE_BYTES_MAX { Err(too_large()) } else { Ok(out) }
}

fn too_large() -> Refusal {
    Refusal::Malformed(format!("the request unpacks to over {RECEIVE_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    #[test]
    fn what_is_packed_comes_back_and_no_more_than_fits() {
        let text = "samples ".repeat(10_000).into_bytes();
        let packed = compress_to_vec(&text[..], CompressionLevel::Fastest);
        assert_eq!(unpack(&packed).unwrap(), text);
        assert_eq!(&*unpack_if_packed(&packed).unwrap(), text);
        let snappy = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(unpack(&snappy).unwrap(), text);
        assert_eq!(&*unpack_if_packed(b"plain").unwrap(), b"plain");
        let bomb = compress_to_vec(&vec![0; RECEIVE_BYTES_MAX + 1][..], CompressionLevel::Fastest);
        assert!(bomb.len() < 100_000);
        assert!(unpack(&bomb).unwrap_err().to_string().contains("unpacks to over"));
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        assert!(unpack(&[0x28, 0xb5, 0x2f, 0xfd]).is_err());
    }

    #[test]
    fn a_frame_that_needs_a_larger_window_is_refused() {
        // A window of 1 GiB, and a block that says nothing.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
        assert!(unpack(&frame).unwrap_err().to_string().starts_with("zstd: "));
    }
}
