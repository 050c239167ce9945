//! One look at a domain: every address of the name, and what each serves.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::rt::stop::Stop;
use crate::server::cert::fault::{Fault, Kind};
use crate::server::cert::link::{Limit, Link, begin};
use crate::server::cert::lookup::Lookups;
use crate::server::cert::starttls::Protocol;
use crate::server::cert::tls::{Shown, shake};
use crate::server::cert::trust::Trust;
use crate::server::config::outgoing::Denied;

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// A host name or an IP address.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The protocol that TLS begins in; none where the port speaks TLS at once.
    pub starttls: Option<&'static Protocol>,
}

/// What the checkers share.
pub(super) struct Prober {
    /// Whom to trust.
    pub trust: Trust,
    /// How names become addresses.
    pub lookups: Lookups,
    /// Time for look-up, connections and handshakes together.
    pub timeout: Duration,
    /// Addresses that must not be connected to.
    pub denied: Denied,
    /// Ends every wait.
    pub stop: Stop,
}

/// One address of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AtAddress {
    /// The address.
    pub address: IpAddr,
    /// What it showed, or why it showed nothing.
    pub outcome: Result<Shown, Fault>,
}

impl Prober {
    /// Looks at a domain, at `now_ms`. The addresses stand in the look-up's order.
    ///
    /// # Errors
    ///
    /// When the name has no address.
    pub(super) fn look(&self, target: Target<'_>, now_ms: i64) -> Result<Vec<AtAddress>, Fault> {
        let limit = Limit::new(self.timeout, self.stop.clone());
        let addresses = self.lookups.addresses(target.host, target.port, &limit)?;
        // All connect at once, and who answers first is spoken with first: an address that hangs
        // takes time from none that does not.
        let mut open = Vec::new();
        let mut seen = Vec::new();
        for address in &addresses {
            if let Err(why) = self.denied.check(address.ip()) {
                seen.push((*address, Err(Fault::new(Kind::Denied, why))));
                continue;
            }
            match begin(*address) {
                Ok(stream) => open.push((*address, stream)),
                Err(error) => seen.push((*address, Err(not_connected(*address, &error)))),
            }
        }
        while !open.is_empty() {
            let Ok(index) = first_ready(&open, &limit) else { break };
            let share = limit.share(open.len());
            let (address, stream) = open.swap_remove(index);
            let outcome = match stream.take_error() {
                Ok(None) => self.speak(target, now_ms, Link::new(stream, share)),
                Ok(Some(error)) | Err(error) => Err(not_connected(address, &error)),
            };
            seen.push((address, outcome));
        }
        let late = |address: SocketAddr| {
            let sentence = format!("{address} does not take the connection in time");
            (address, Err(Fault::new(Kind::Timeout, sentence)))
        };
        seen.extend(open.iter().map(|(address, _)| late(*address)));
        let order = |address: SocketAddr| addresses.iter().position(|other| *other == address);
        seen.sort_by_key(|(address, _)| order(*address));
        let seen = seen.into_iter();
        Ok(seen.map(|(address, outcome)| AtAddress { address: address.ip(), outcome }).collect())
    }

    fn speak(&self, target: Target<'_>, now_ms: i64, mut link: Link) -> Result<Shown, Fault> {
        if let Some(protocol) = target.starttls {
            protocol.begin(&mut link)?;
        }
        shake(&self.trust, target.host, now_ms, link)
    }
}

/// The first of the connections that is made, or has failed.
fn first_ready(open: &[(SocketAddr, TcpStream)], limit: &Limit) -> io::Result<usize> {
    let mut polled: Vec<PollFd<'_>> =
        open.iter().map(|(_, stream)| PollFd::new(stream, PollFlags::OUT)).collect();
    limit.wait(&mut polled)?;
    let ready = polled.iter().position(|polled| !polled.revents().is_empty());
    ready.ok_or_else(|| ErrorKind::TimedOut.into())
}

fn not_connected(address: SocketAddr, error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            let sentence = format!("nothing listens on {address}: the connection is refused");
            Fault::new(Kind::ConnectionRefused, sentence)
        }
        ErrorKind::TimedOut => {
            Fault::new(Kind::Timeout, format!("{address} does not take the connection in time"))
        }
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            Fault::new(Kind::Closed, format!("{address} closed the connection at once"))
        }
        _ => Fault::new(Kind::Unreachable, format!("{address} can't be reached: {error}")),
    }
}
