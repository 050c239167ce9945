//! Filling `cert.db` from a seed file, beside a running server or before its first start.

pub mod channels;
pub mod rules;
