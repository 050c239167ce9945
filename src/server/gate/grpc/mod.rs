//! The gRPC side of the gate: one thread that owns every client's socket, and relays between each
//! and the C core, which listens on a Unix socket in a private folder.
//!
//! ```text
//! agents ═► accept ─► TLS ─► frames checked ─► Unix socket ─► C core ─► ingest
//!        ◄════════════════════════════════════◄
//! ```
//!
//! The core has no limits that hold against a stranger. So each client's HTTP/2 frames are followed
//! before the core sees them: what is counted and bounded is in `base::limits`, and whoever
//! exceeds it gets GOAWAY with ENHANCE_YOUR_CALM. Of a report whose caller has no valid token the
//! core gets an empty message in place of the caller's, so that it holds nothing but headers; its
//! handler says why.

pub(crate) mod admission;
mod conn;
pub(crate) mod frames;
mod hpack;
mod metrics;
pub(crate) mod peer;
pub(crate) mod probe;
mod serve;
mod shares;

pub(crate) use conn::Behind;
pub(crate) use serve::Serve;
