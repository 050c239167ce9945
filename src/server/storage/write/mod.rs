//! How samples reach a day file: the writer thread, its transactions, the WAL records.

pub(crate) mod group;
pub(crate) mod wal;
pub(crate) mod writer;
