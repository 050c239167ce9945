//! Starting and stopping a gate, which both ports do alike: one thread owns the sockets of the
//! port, and a socket pair wakes it.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus::Registry;

use super::port::Port;
use super::tls::Acceptor;
use crate::base::exit::{Exit, Fatal};
use crate::rt::thread;

/// What the thread of a gate does.
pub(crate) trait Serve: Send + Sized + 'static {
    /// What it needs besides its port.
    type Behind;
    /// The protocol of the port, for messages.
    const PROTOCOL: &'static str;
    /// The thread's name.
    const THREAD: &'static str;

    /// Registers the metrics and every socket that there is at the start.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left, or a metric has a name twice.
    fn new(port: Port, behind: Self::Behind, registry: &Registry) -> Result<Self, Box<dyn Error>>;

    /// Serves until the port's other end of the socket pair closes.
    ///
    /// # Errors
    ///
    /// When the poller, or what is behind the gate, fails.
    fn run(self) -> io::Result<()>;
}

/// A gate that runs. Dropping it sends what is unsent and closes every connection.
pub(crate) struct Gate {
    /// A byte stops accepting, its end ends the gate.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    tls: Option<Arc<Acceptor>>,
    addresses: Vec<SocketAddr>,
}

impl Gate {
    /// Starts the thread of a gate for the clients of `listeners`, with TLS where there is an
    /// acceptor.
    ///
    /// # Errors
    ///
    /// When the system has no poller or no descriptor for it.
    pub(crate) fn start<S: Serve>(
        listeners: Vec<TcpListener>,
        tls: Option<Arc<Acceptor>>,
        behind: S::Behind,
        registry: &Registry,
    ) -> Result<Self, Fatal> {
        let failed = |error: &dyn Display| {
            Fatal::new(Exit::Failed, format!("cannot start the {} gate: {error}", S::PROTOCOL))
        };
        let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| failed(&error))?;
        let (wake, woken) = UnixStream::pair().map_err(|error| failed(&error))?;
        let port = Port::open(listeners, tls.clone(), woken).map_err(|error| failed(&error))?;
        let serve = S::new(port, behind, registry).map_err(|error| failed(&error))?;
        let thread = thread::spawn(S::THREAD, move || Ok(serve.run()?));
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

    /// Accepts no more connections; open ones are served on.
    pub(crate) fn stop_accepting(&self) {
        if let Some(mut wake) = self.wake.as_ref() {
            // A gate that has ended accepts nothing either.
            let _ = wake.write_all(&[1]);
        }
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
