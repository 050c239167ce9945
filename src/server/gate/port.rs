//! A port and the poller of its gate: listeners, and the socket that wakes the thread.

use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::SslAcceptor;

use super::listener::{self, Accepted};
use super::poll::{Event, Poller};
use super::stream::Interest;
use super::tls::Acceptor;

/// The token of [`Port::woken`].
pub(crate) const WAKE: u64 = 0;
/// The token of the first listener. Those of a gate's own sockets begin at [`OWN`].
pub(crate) const LISTENERS: u64 = 1 << 16;
/// The first token that a gate may use.
pub(crate) const OWN: u64 = 2 << 16;

/// What the gate's owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// No more connections.
    StopAccepting,
    /// The gate's end.
    End,
}

/// The sockets that clients connect to, and the poller.
pub(crate) struct Port {
    /// Says which sockets are ready.
    pub(crate) poller: Poller,
    listeners: Vec<TcpListener>,
    is_paused: bool,
    tls: Option<Arc<Acceptor>>,
    wake: UnixStream,
}

impl Port {
    /// Registers the listeners and the socket that wakes the thread.
    ///
    /// # Errors
    ///
    /// When the system has no poller or no descriptor for it.
    pub(crate) fn open(
        listeners: Vec<TcpListener>,
        tls: Option<Arc<Acceptor>>,
        wake: UnixStream,
    ) -> io::Result<Self> {
        wake.set_nonblocking(true)?;
        let mut poller = Poller::new()?;
        poller.add(&wake, WAKE, Some(Interest::Read))?;
        for (listener, token) in listeners.iter().zip(LISTENERS..) {
            listener::open(listener)?;
            poller.add(listener, token, Some(Interest::Read))?;
        }
        Ok(Self { poller, listeners, is_paused: false, tls, wake })
    }

    /// Waits for ready sockets: for `limit` where the gate has deadlines, or the port is paused.
    pub(crate) fn wait(&mut self, has_deadlines: bool, limit: Duration) -> io::Result<Vec<Event>> {
        self.poller.wait((has_deadlines || self.is_paused).then_some(limit))
    }

    /// What the owner of the gate wants, once [`WAKE`] is ready.
    pub(crate) fn woken(&mut self) -> io::Result<Woken> {
        if matches!(self.wake.read(&mut [0; 8]), Ok(bytes) if bytes > 0) {
            return Ok(Woken::StopAccepting);
        }
        self.poller.remove(&self.wake, WAKE)?;
        Ok(Woken::End)
    }

    /// The acceptor of new connections, where the port speaks TLS.
    pub(crate) fn tls(&self) -> Option<SslAcceptor> {
        self.tls.as_ref().map(|tls| tls.current())
    }

    /// The next connection that waits at the listener of a token.
    pub(crate) fn accept(&self, token: u64) -> Accepted {
        let listener = self.listeners.get((token - LISTENERS) as usize);
        listener.map_or(Accepted::Nothing, listener::accept)
    }

    /// Accepts nothing until [`Self::resume`]: without a descriptor the listeners stay ready, and
    /// would wake the thread at once.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.is_paused = true;
        self.listen(None)
    }

    /// Accepts again after a pause.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        if !self.is_paused {
            return Ok(());
        }
        self.is_paused = false;
        self.listen(Some(Interest::Read))
    }

    fn listen(&mut self, interest: Option<Interest>) -> io::Result<()> {
        for (listener, token) in self.listeners.iter().zip(LISTENERS..) {
            self.poller.change(listener, token, interest)?;
        }
        Ok(())
    }

    /// Closes the listeners.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        for (listener, token) in self.listeners.drain(..).zip(LISTENERS..) {
            self.poller.remove(&listener, token)?;
        }
        Ok(())
    }
}
