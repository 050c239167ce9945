//! Packed samples: a chunk's format, from the head to chunks, one chunk a series at the end.

pub mod codec;
pub mod compact;
pub mod pack;
