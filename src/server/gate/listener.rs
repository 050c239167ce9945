//! Accepting connections, and how many of them the descriptors allow.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::exit::{Exit, Fatal};
use crate::base::limits::{GRPC_CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX};

/// Descriptors kept for the databases and outgoing connections.
const RESERVED_DESCRIPTORS: u64 = 512;
/// Connections allowed at the least, whatever the system gives.
const CONNECTIONS_MIN: usize = 32;
/// Descriptors of a gRPC connection: the client's, and both ends of the one to the C core.
const DESCRIPTORS_A_GRPC_CONNECTION: usize = 3;

/// Connections that may wait to be accepted. With the library's 128, a burst makes others wait a
/// second for their next SYN.
const BACKLOG: i32 = 1_024;

/// Listens on every address of `bind` at a port.
///
/// # Errors
///
/// When an address is none, or the port is taken.
pub(crate) fn bind(bind: &[String], port: u16, protocol: &str) -> Result<Vec<TcpListener>, Fatal> {
    let one = |address: &String| {
        let ip: IpAddr = address.parse().map_err(|_| {
            Fatal::new(Exit::Config, format!("bind: `{address}` is not a valid IP address"))
        })?;
        let address = SocketAddr::new(ip, port);
        TcpListener::bind(address).map_err(|error| {
            let message = format!("cannot listen on {address} for {protocol}: {error}");
            Fatal::new(Exit::PortTaken, message)
        })
    };
    bind.iter().map(one).collect()
}

/// What came of accepting.
pub(crate) enum Accepted {
    /// A connection and its peer.
    Connection(TcpStream, SocketAddr),
    /// No connection waits.
    Nothing,
    /// The process or the system has no descriptor left.
    NoDescriptor,
}

/// Sets a bound listener to non-blocking, with a larger backlog.
pub(crate) fn open(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

/// Accepts the next connection of a non-blocking listener.
pub(crate) fn accept(listener: &TcpListener) -> Accepted {
    loop {
        match listener.accept().and_then(ready) {
            Ok((socket, peer)) => return Accepted::Connection(socket, peer),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Accepted::Nothing,
                // The client has gone already.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ if no_room(&error) => return Accepted::NoDescriptor,
                _ => {
                    log::debug!("cannot accept a connection: {error}");
                    return Accepted::Nothing;
                }
            },
        }
    }
}

fn ready((socket, peer): (TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    socket.set_nonblocking(true)?;
    // Answers are written whole: waiting to fill a packet only delays them.
    socket.set_nodelay(true)?;
    Ok((socket, peer))
}

fn no_room(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Some).contains(&errno)
}

/// The key by which connections and requests of one client are counted: IPv6 clients have a whole
/// /64.
pub(crate) fn address_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let prefix = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        ip => ip,
    }
}

/// How many connections the descriptors of the process allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// HTTP connections.
    pub(crate) http: usize,
    /// gRPC connections.
    pub(crate) grpc: usize,
}

impl Room {
    /// Raises the process' soft limit of descriptors to the hard one, and shares it out.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // A sandbox may forbid it; then the limit is as it was.
        let raised = setrlimit(Resource::Nofile, wanted).is_ok();
        let given = if raised { limit.maximum } else { limit.current };
        Self::of(given)
    }

    /// The shares of `given` descriptors, or of as many as wanted.
    fn of(given: Option<u64>) -> Self {
        let room = given.map_or(usize::MAX, |it| it.saturating_sub(RESERVED_DESCRIPTORS) as usize);
        let http = (room / 2).clamp(CONNECTIONS_MIN, HTTP_CONNECTIONS_MAX);
        let rest = room.saturating_sub(http) / DESCRIPTORS_A_GRPC_CONNECTION;
        Self { http, grpc: rest.clamp(CONNECTIONS_MIN, GRPC_CONNECTIONS_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out_between_both_ports() {
        let all = Room { http: HTTP_CONNECTIONS_MAX, grpc: GRPC_CONNECTIONS_MAX };
        assert_eq!(Room::of(None), all);
        assert_eq!(Room::of(Some(65_536)), all);
        assert_eq!(Room::of(Some(4_096)), Room { http: 1_792, grpc: 597 });
        assert_eq!(Room::of(Some(600)), Room { http: 44, grpc: CONNECTIONS_MIN });
        assert_eq!(Room::of(Some(64)), Room { http: CONNECTIONS_MIN, grpc: CONNECTIONS_MIN });
    }
}
