//! The HTTP side of the gate: one thread that owns every client's socket and never blocks on one of
//! them. It collects each request under the limits and deadlines of `base::limits`, answers what it
//! refuses itself, and passes complete requests on.
//!
//! ```text
//! clients ═► accept ─► collect ─► queue ─► backend ─► tiny_http ─► worker
//!    4,096 sockets, TLS         http_queue    └── http_workers of each ──┘
//! ```
//!
//! `tiny_http` alone gives each connection a thread without an end and reads bodies of any length
//! at any pace. Behind the gate it sees a fixed number of connections, over a Unix socket whose
//! name is removed once they are made, and on each of them one complete request at a time.

pub(crate) mod backend;
pub(crate) mod body;
mod conn;
mod metrics;
pub(crate) mod parse;
pub(crate) mod refusal;
mod serve;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus::Registry;

use crate::base::exit::{Exit, Fatal};
use crate::rt::thread;
use crate::server::gate::tls::Acceptor;
use metrics::Metrics;
use refusal::Render;

/// The running gate. Dropping it answers what has arrived and closes the rest.
pub(crate) struct HttpGate {
    /// Its end stops the gate.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    tls: Option<Arc<Acceptor>>,
    addresses: Vec<SocketAddr>,
}

/// What a gate is made of.
pub(crate) struct Setup {
    /// Where clients connect to.
    pub(crate) listeners: Vec<TcpListener>,
    /// HTTPS where there is one.
    pub(crate) tls: Option<Arc<Acceptor>>,
    /// Connections to the HTTP library, one for each worker.
    pub(crate) backends: Vec<UnixStream>,
    /// Requests that may wait for a backend.
    pub(crate) queue: usize,
    /// Writes the answer to what is refused.
    pub(crate) render: Render,
}

impl HttpGate {
    /// Starts the gate's thread.
    ///
    /// # Errors
    ///
    /// When the system has no poller or no descriptor for it.
    pub(crate) fn start(setup: Setup, registry: &Registry) -> Result<Self, Fatal> {
        let failed = |error: &dyn std::fmt::Display| {
            Fatal::new(Exit::Failed, format!("cannot start the HTTP gate: {error}"))
        };
        let metrics = Metrics::register(registry).map_err(|error| failed(&error))?;
        let addresses: Result<Vec<_>, _> =
            setup.listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| failed(&error))?;
        let (wake, woken) = UnixStream::pair().map_err(|error| failed(&error))?;
        let tls = setup.tls.clone();
        let serve = serve::Serve::new(setup, woken, Arc::new(metrics));
        let serve = serve.map_err(|error| failed(&error))?;
        let thread = thread::spawn("http-gate", move || Ok(serve.run()?));
        Ok(Self { wake: Some(wake), thread: Some(thread), tls, addresses })
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Uses the certificate on the disk for new connections.
    ///
    /// # Errors
    ///
    /// When it can't be used; the one before stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

impl Drop for HttpGate {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A gate that failed has ended the process already.
            let _ = thread.join();
        }
    }
}
