//! How samples reach a day file: the writer thread, its transactions, the WAL records.

pub mod group;
pub mod wal;
pub mod writer;
