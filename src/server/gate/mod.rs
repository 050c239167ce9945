//! The gate before the HTTP workers: one thread that owns every client's socket and never waits for
//! one of them. It collects each request under the limits and deadlines of `base::limits`, answers
//! what it refuses itself, and hands only whole requests on.
//!
//! ```text
//! clients ═► accept ─► collect ─► queue ─► line ─► tiny_http ─► worker
//!    4,096 sockets, TLS         http_queue    └─ http_workers of each ─┘
//! ```
//!
//! `tiny_http` alone gives each connection a thread without an end and reads bodies of any length at
//! any pace. Behind the gate it sees a fixed number of connections of its own, over a Unix socket
//! whose name is gone once they stand, and on each of them one complete request at a time.

mod body;
mod client;
mod doors;
pub mod head;
pub mod line;
mod metrics;
mod ready;
pub mod refuse;
mod run;
pub mod tls;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus::Registry;

use crate::base::exit::{Exit, Fatal};
use crate::rt::thread;
use metrics::Metrics;
use tls::Acceptor;

/// The running gate. Stopping or dropping it answers what has come in and closes the rest.
pub struct Gate {
    /// Its end tells the gate to stop.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    tls: Option<Arc<Acceptor>>,
    addresses: Vec<SocketAddr>,
}

/// What a gate stands between.
pub struct Sides {
    /// Where clients come in.
    pub listeners: Vec<TcpListener>,
    /// HTTPS where there is one.
    pub tls: Option<Arc<Acceptor>>,
    /// Connections to the HTTP library, one for each worker.
    pub lines: Vec<UnixStream>,
    /// Requests that may wait for a line.
    pub queue: usize,
}

impl Gate {
    /// Starts the gate.
    ///
    /// # Errors
    ///
    /// When the system refuses what it needs.
    pub fn start(sides: Sides, registry: &Registry) -> Result<Self, Fatal> {
        let failed = |error: &dyn std::fmt::Display| {
            Fatal::new(Exit::Failed, format!("cannot start the HTTP gate: {error}"))
        };
        let metrics = Metrics::register(registry).map_err(|error| failed(&error))?;
        let addresses: Result<Vec<_>, _> =
            sides.listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| failed(&error))?;
        let (wake, woken) = UnixStream::pair().map_err(|error| failed(&error))?;
        let tls = sides.tls.clone();
        let run = run::Run::new(sides, woken, Arc::new(metrics));
        let run = run.map_err(|error| failed(&error))?;
        let thread = thread::spawn("http-gate", move || Ok(run.serve()?));
        Ok(Self { wake: Some(wake), thread: Some(thread), tls, addresses })
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has new connections use the certificate as it is now.
    ///
    /// # Errors
    ///
    /// When it can't be used; the one before stays in force.
    pub fn reload(&self) -> Result<(), String> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A gate that failed has ended the process already.
            let _ = thread.join();
        }
    }
}
