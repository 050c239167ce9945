//! Packed samples: a chunk's format, from the head to chunks, one chunk a series at the end.

pub(crate) mod codec;
pub(crate) mod compact;
pub(crate) mod pack;
