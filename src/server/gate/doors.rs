//! Where connections come from: listeners, and how many of them the system lets the gate have.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::limits::HTTP_CONNECTIONS_MAX;

/// Descriptors that the databases, the gRPC port and the senders keep for themselves.
const RESERVED_DESCRIPTORS: u64 = 512;
/// Connections that there may be at the least, whatever the system gives.
const CONNECTIONS_MIN: usize = 32;

/// Connections that the system may hold ready at a listener. With the library's 128 a burst of them
/// has others wait a second for their next try.
const BACKLOG: i32 = 1_024;

/// What came of asking a listener.
pub enum Caller {
    /// A client.
    Came(TcpStream, SocketAddr),
    /// Nobody now.
    Nobody,
    /// The process or the system has no descriptor for it.
    NoRoom,
}

/// Makes a bound listener ready for the gate.
///
/// # Errors
///
/// When the system refuses it.
pub fn open(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

/// Takes the next connection from a listener that does not block.
pub fn accept(listener: &TcpListener) -> Caller {
    loop {
        match listener.accept().and_then(ready) {
            Ok((socket, peer)) => return Caller::Came(socket, peer),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Caller::Nobody,
                // A client that is gone already is nobody's loss.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ if no_room(&error) => return Caller::NoRoom,
                _ => {
                    log::debug!("cannot take a connection: {error}");
                    return Caller::Nobody;
                }
            },
        }
    }
}

fn ready((socket, peer): (TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    socket.set_nonblocking(true)?;
    // Answers go out whole, so waiting to fill a packet only delays them.
    socket.set_nodelay(true)?;
    Ok((socket, peer))
}

fn no_room(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Some).contains(&errno)
}

/// Raises the process' limit of descriptors to what it may have, and says how many connections fit.
pub fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // A sandbox may forbid it; then the limit is as it was.
    let raised = setrlimit(Resource::Nofile, wanted).is_ok();
    let given = if raised { limit.maximum } else { limit.current };
    let room =
        given.map_or(usize::MAX, |given| given.saturating_sub(RESERVED_DESCRIPTORS) as usize);
    room.clamp(CONNECTIONS_MIN, HTTP_CONNECTIONS_MAX)
}
