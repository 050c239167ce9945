//! The HTTP side of the gate: one thread that owns every client's socket and never blocks on one of
//! them. It collects each request under the limits and deadlines of `base::limits`, answers what it
//! refuses itself, and passes complete requests on.
//!
//! ```text
//! clients ═► accept ─► collect ─► queue ─► backend ─► tiny_http ─► worker
//!    4,096 sockets, TLS         http_queue    └── http_workers of each ──┘
//!                                        └── one for health, with a queue of its own
//! ```
//!
//! `tiny_http` alone gives each connection a thread without an end and reads bodies of any length
//! at any pace. Behind the gate it sees a fixed number of connections, over a Unix socket whose
//! name is removed once they are made, and on each of them one complete request at a time.

pub(crate) mod backend;
pub(crate) mod body;
mod conn;
mod lanes;
mod metrics;
pub(crate) mod parse;
pub(crate) mod refusal;
mod serve;

use std::os::unix::net::UnixStream;

use refusal::Render;
pub(crate) use serve::Serve;

/// What is behind the gate.
pub(crate) struct Behind {
    /// Connections to the HTTP library, one for each worker; the first one is for health.
    pub(crate) backends: Vec<UnixStream>,
    /// Requests that may wait for a backend.
    pub(crate) queue: usize,
    /// Writes the answer to what is refused.
    pub(crate) render: Render,
}
