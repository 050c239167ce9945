//! Identifiers and secrets made from the system's randomness.

/// `bytes` random bytes as lower-case hexadecimal. Agent tokens take 32 of them.
///
/// # Panics
///
/// When the system has no source of randomness, since nothing safe can be made without one.
pub fn random_hex(bytes: usize) -> String {
    let mut raw = vec![0_u8; bytes];
    #[allow(clippy::expect_used, reason = "no secret may be made without randomness")]
    getrandom::fill(&mut raw).expect("the system's random source answers");
    hex(&raw)
}

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A new row's id: a UUID of version 7 (RFC 9562), so that ids sort by the time they were made.
#[cfg(feature = "server")]
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// An id that is the same for the same parts, whoever computes it: for rows that may be written
/// twice and must stand once.
#[cfg(feature = "server")]
pub fn stable_id(parts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_have_their_length() {
        let (a, b) = (random_hex(32), random_hex(32));
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }

    #[cfg(feature = "server")]
    #[test]
    fn stable_ids_keep_parts_apart() {
        assert_eq!(stable_id(&["a", "bc"]), stable_id(&["a", "bc"]));
        assert_ne!(stable_id(&["a", "bc"]), stable_id(&["ab", "c"]));
    }
}
