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
//! exceeds it gets GOAWAY with ENHANCE_YOUR_CALM.

mod conn;
mod frames;
mod hpack;
mod metrics;
pub(crate) mod probe;
mod serve;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus::Registry;

use crate::base::exit::{Exit, Fatal};
use crate::rt::thread;
use crate::server::gate::tls::Acceptor;
use metrics::Metrics;

/// The running gate. Dropping it sends what is unsent and closes every connection.
pub(crate) struct GrpcGate {
    /// A byte stops accepting, its end ends the gate.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    tls: Option<Arc<Acceptor>>,
    addresses: Vec<SocketAddr>,
}

/// What a gate is made of.
pub(crate) struct Setup {
    /// Where clients connect to.
    pub(crate) listeners: Vec<TcpListener>,
    /// TLS where there is one.
    pub(crate) tls: Option<Arc<Acceptor>>,
    /// The socket that the core listens on.
    pub(crate) core: PathBuf,
}

impl GrpcGate {
    /// Starts the gate's thread.
    ///
    /// # Errors
    ///
    /// When the system has no poller or no descriptor for it.
    pub(crate) fn start(setup: Setup, registry: &Registry) -> Result<Self, Fatal> {
        let failed = |error: &dyn std::fmt::Display| {
            Fatal::new(Exit::Failed, format!("cannot start the gRPC gate: {error}"))
        };
        let metrics = Metrics::register(registry).map_err(|error| failed(&error))?;
        let addresses: Result<Vec<_>, _> =
            setup.listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| failed(&error))?;
        let (wake, woken) = UnixStream::pair().map_err(|error| failed(&error))?;
        let tls = setup.tls.clone();
        let serve = serve::Serve::new(setup, woken, Arc::new(metrics));
        let serve = serve.map_err(|error| failed(&error))?;
        let thread = thread::spawn("grpc-gate", move || Ok(serve.run()?));
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

    /// Accepts no more connections; open ones are relayed on.
    pub(crate) fn stop_accepting(&self) {
        if let Some(mut wake) = self.wake.as_ref() {
            // A gate that has ended accepts nothing either.
            let _ = wake.write_all(&[1]);
        }
    }
}

impl Drop for GrpcGate {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A gate that failed has ended the process already.
            let _ = thread.join();
        }
    }
}
