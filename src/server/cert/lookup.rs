//! The addresses of a name. getaddrinfo(3) has no time limit of ours, so that it runs on a thread
//! that can be given up on.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{after, bounded, select};

use crate::base::limits::CERT_ADDRESSES_MAX;
use crate::rt::thread;
use crate::server::cert::fault::{Fault, Kind};
use crate::server::cert::link::Limit;

/// How a name and a port become addresses; tests put another in its place.
pub(super) type Look = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Looks names up.
pub(super) struct Lookups {
    look: Look,
    /// Look-ups under way, those that were given up on among them.
    running: Arc<AtomicUsize>,
    most: usize,
}

/// The system's own way.
pub(super) fn system() -> Look {
    Arc::new(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
}

impl Lookups {
    /// Look-ups of which `most` run at once: each that hangs is a thread until the system gives
    /// it up.
    pub(super) fn new(look: Look, most: usize) -> Self {
        Self { look, running: Arc::new(AtomicUsize::new(0)), most }
    }

    /// The addresses of a host in the system's order, each once.
    ///
    /// # Errors
    ///
    /// When there are none, or none came in time.
    pub(super) fn addresses(
        &self,
        host: &str,
        port: u16,
        limit: &Limit,
    ) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let late = |why: &str| Fault::new(Kind::Timeout, format!("looking `{host}` up {why}"));
        if self.running.fetch_add(1, Ordering::SeqCst) >= self.most {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return Err(late("has to wait: too many look-ups hang"));
        }
        let (reply, answer) = bounded(1);
        let (look, running, name) =
            (Arc::clone(&self.look), Arc::clone(&self.running), host.to_owned());
        thread::spawn("cert-lookup", move || {
            let found = look(&name, port);
            running.fetch_sub(1, Ordering::SeqCst);
            // Nobody waits any more when the check has been given up.
            let _ = reply.send(found);
            Ok(())
        });
        select! {
            recv(answer) -> found => match found {
                Ok(Ok(found)) => Ok(once_each(found)),
                Ok(Err(error)) => Err(failed(host, &error)),
                Err(_) => Err(late("broke off")),
            },
            recv(limit.stop().receiver()) -> _ => Err(late("was given up: the server stops")),
            recv(after(limit.left())) -> _ => Err(late("took too long")),
        }
        .and_then(|found| if found.is_empty() { Err(no_address(host)) } else { Ok(found) })
    }
}

fn once_each(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if addresses.len() < CERT_ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn no_address(host: &str) -> Fault {
    Fault::new(Kind::NoSuchName, format!("the name `{host}` has no address"))
}

/// The standard library tells the resolver's codes apart by their text alone.
fn failed(host: &str, error: &io::Error) -> Fault {
    let text = error.to_string();
    let said = text.rsplit(": ").next().unwrap_or(&text);
    // glibc, musl, and a fault below the resolver.
    // That a look-up failed for good (EAI_FAIL) says nothing of the name either.
    let passing = [
        "Temporary failure",
        "Try again",
        "System error",
        "Non-recoverable failure",
        "Unrecoverable error",
        "Memory allocation failure",
        "Out of memory",
    ];
    if passing.iter().any(|words| text.contains(words)) {
        let sentence = format!("looking `{host}` up failed: {said}");
        return Fault::new(Kind::LookupFailed, sentence);
    }
    Fault::new(Kind::NoSuchName, format!("the name `{host}` has no address: {said}"))
}
