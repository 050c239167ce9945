//! The HTTP side of the gate: one thread that owns every client's socket and never blocks on one of
//! them. It collects each request under the limits and deadlines of `base::limits`, answers what it
//! refuses itself, and passes complete requests on.
//!
//! ```text
//! clients ═► accept ─► collect ─► queue ─► backend ─► tiny_http ─► worker
//!    4,096 sockets, TLS         http_queue    └── http_workers of each ──┘
//!                                        ├── one for health, with a queue of its own
//!                                        └── some for other servers of [peers], likewise
//! ```
//!
//! `tiny_http` alone gives each connection a thread without an end and reads bodies of any length
//! at any pace. Behind the gate it sees a fixed number of connections, over a Unix socket whose
//! name is removed once they are made, and on each of them one complete request at a time.

pub(crate) mod backend;
pub(crate) mod body;
mod conn;
pub(crate) mod forwarded;
mod lanes;
mod metrics;
pub(crate) mod parse;
pub(crate) mod refusal;
mod serve;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forwarded::Proxies;
use refusal::Render;
pub(crate) use serve::Serve;

/// Which requests nobody waits for any more. Each backend has a place, which holds the connection
/// whose request was given up last.
#[derive(Debug)]
pub(crate) struct Gone(Vec<AtomicU64>);

impl Gone {
    /// For so many backends.
    pub(crate) fn new(backends: usize) -> Self {
        Self((0..backends).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that the client of a backend's request is gone.
    fn note(&self, backend: usize, client: u64) {
        if let Some(place) = self.0.get(backend) {
            place.store(client, Ordering::Relaxed);
        }
    }

    fn has(&self, backend: usize, client: u64) -> bool {
        self.0.get(backend).is_some_and(|place| place.load(Ordering::Relaxed) == client)
    }
}

/// Says whether somebody still waits for the answer to one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket(Option<(Arc<Gone>, usize, u64)>);

impl Ticket {
    /// The ticket in the header [`backend::TICKET`].
    pub(crate) fn parse(gone: &Arc<Gone>, text: &str) -> Self {
        let parts = text.split_once('.');
        let parts = parts.and_then(|(backend, id)| Some((backend.parse().ok()?, id.parse().ok()?)));
        Self(parts.map(|(backend, client)| (Arc::clone(gone), backend, client)))
    }

    /// Whether the client has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.as_ref().is_some_and(|(gone, backend, client)| gone.has(*backend, *client))
    }
}

/// What is behind the gate.
pub(crate) struct Behind {
    /// Connections to the HTTP library, one for each worker; the first one is for health.
    pub(crate) backends: Vec<UnixStream>,
    /// How many of those after it are for other servers of `[peers]`.
    pub(crate) peers: usize,
    /// Takes the requests whose clients have gone.
    pub(crate) gone: Arc<Gone>,
    /// Requests that may wait for a backend.
    pub(crate) queue: usize,
    /// Writes the answer to what is refused.
    pub(crate) render: Render,
    /// The proxies whose word on a client's address counts.
    pub(crate) proxies: Proxies,
}
