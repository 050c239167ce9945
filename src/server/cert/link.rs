//! A connection on which nothing waits longer than the check may take, or after the server has
//! been notified to stop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use crate::rt::stop::Stop;

/// How long a check may go on.
#[derive(Clone)]
pub(super) struct Limit {
    deadline: Instant,
    stop: Stop,
}

/// The stop signal is not a file, so waiting for one looks up this often.
const LOOK_UP: Duration = Duration::from_millis(100);

impl Limit {
    /// Until `timeout` from now, or the signal.
    pub(super) fn new(timeout: Duration, stop: Stop) -> Self {
        Self { deadline: Instant::now() + timeout, stop }
    }

    /// What is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The part of what is left that each of `count` takers may have.
    pub(super) fn share(&self, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self { deadline: Instant::now() + self.left() / count, stop: self.stop.clone() }
    }

    /// The signal.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Waits until one of `polled` is ready.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the time has ended, or the server stops.
    pub(super) fn wait(&self, polled: &mut [PollFd<'_>]) -> io::Result<()> {
        loop {
            let left = self.left();
            if left.is_zero() || self.stop.is_stopped() {
                return Err(ErrorKind::TimedOut.into());
            }
            let slice = left.min(LOOK_UP);
            let wait = Timespec { tv_sec: 0, tv_nsec: slice.subsec_nanos().into() };
            match poll(polled, Some(&wait)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Begins to connect. The socket can be written to once it is connected, or has failed.
///
/// # Errors
///
/// When the system refuses at once, as where no way leads to the address.
pub(super) fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    match rustix::net::connect(&stream, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(stream),
        Err(error) => Err(error.into()),
    }
}

/// A connection that remembers what came first on it, to say what it is when it is not TLS.
pub(super) struct Link {
    stream: TcpStream,
    limit: Limit,
    first: Vec<u8>,
    ended: bool,
}

/// Bytes that are remembered: enough to know a TLS record, or a line of another protocol.
const FIRST_BYTES: usize = 64;

impl Link {
    /// A link over a socket that is connected and does not block.
    pub(super) fn new(stream: TcpStream, limit: Limit) -> Self {
        Self { stream, limit, first: Vec::new(), ended: false }
    }

    /// Forgets what came: the next bytes are the first.
    pub(super) fn mark(&mut self) {
        self.first.clear();
    }

    /// The first bytes since the mark.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Whether the endpoint has closed the connection.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn ready(&self, for_what: PollFlags) -> io::Result<()> {
        self.limit.wait(&mut [PollFd::new(&self.stream, for_what)])
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => {
                    self.ended |= count == 0;
                    let room = FIRST_BYTES.saturating_sub(self.first.len()).min(count);
                    self.first.extend_from_slice(&buffer[..room]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready(PollFlags::IN)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready(PollFlags::OUT)?
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
