//! One client's connection: checks what the client sends and relays it to the C core, and relays
//! the core's answers back. It never blocks. What one side does not take, the other is not read
//! for.
//!
//! ```text
//! handshake ─► open ─────────► closing ─► closed
//!    TLS       client ⇄ core   GOAWAY, what is unsent
//! ```

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::SslAcceptor;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::admission::Admission;
use super::frames::{Answers, Requests, Violation, goodbye};
use super::metrics::Closed;
use super::peer;
use crate::base::limits::{
    GRPC_ANSWER_SECS_MAX, GRPC_FIRST_MESSAGE_SECS_MAX, GRPC_HANDSHAKE_SECS_MAX,
    GRPC_SILENCE_SECS_MAX,
};
use crate::server::gate::listener::address_key;
use crate::server::gate::stream::{Interest, Io, Stream};

/// How long a closed connection is read on: closing a socket with unread bytes resets the
/// connection, and the GOAWAY under way is lost.
const CLOSING_FOR: Duration = Duration::from_secs(2);
/// Reads of one socket before others have their turn.
const READS_A_TURN: usize = 4;

/// What all connections share.
pub(super) struct Context {
    /// The time.
    pub(super) now: Instant,
    /// The buffer that sockets are read into.
    pub(super) scratch: Vec<u8>,
    /// What of it the core may have.
    pub(super) allowed: Vec<u8>,
    /// What is behind the gate.
    pub(super) behind: Behind,
}

/// What is behind the gate.
pub(crate) struct Behind {
    /// The core's socket.
    pub(crate) core: PathBuf,
    /// Who may report.
    pub(crate) admission: Admission,
}

/// Why a connection is dropped: `None` where the client or the core has ended it.
pub(super) type End = Option<Closed>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake(Interest),
    Open,
    Closing,
}

/// Bytes that a socket had no room for.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    since: Option<Instant>,
}

/// A client's connection.
pub(super) struct Conn {
    stream: Stream,
    core: Option<UnixStream>,
    client: IpAddr,
    stage: Stage,
    requests: Requests,
    answers: Answers,
    to_core: Unsent,
    to_client: Unsent,
    /// Whether anything of the core was sent to the client.
    has_answered: bool,
    accepted: Instant,
    /// When the client last sent something.
    heard: Instant,
    /// When it is closed at the latest, once it is closing.
    close_by: Instant,
    /// Whether the client was sent the end.
    is_ended: bool,
    /// What the client did, until it is counted.
    violation: Option<Violation>,
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes what `write` takes of `bytes` after what is unsent, and keeps the rest. False when
    /// the other side has closed.
    fn send(&mut self, bytes: &[u8], now: Instant, mut write: impl FnMut(&[u8]) -> Io) -> bool {
        let mut rest = bytes;
        while self.is_empty() && !rest.is_empty() {
            match write(rest) {
                Io::Done(written) => rest = rest.get(written..).unwrap_or_default(),
                Io::Wait(_) => break,
                Io::Closed => return false,
            }
        }
        if !rest.is_empty() {
            self.since.get_or_insert(now);
            self.bytes.extend_from_slice(rest);
        }
        true
    }

    /// Writes what `write` takes of what is unsent. False when the other side has closed.
    fn flush(&mut self, now: Instant, mut write: impl FnMut(&[u8]) -> Io) -> bool {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match write(rest) {
                Io::Done(bytes) => {
                    self.sent += bytes;
                    self.since = Some(now);
                }
                Io::Wait(_) => return true,
                Io::Closed => return false,
            }
        }
        *self = Self::default();
        true
    }
}

impl Conn {
    /// A connection that was just accepted.
    ///
    /// # Errors
    ///
    /// When the TLS library gives no state for it.
    pub(super) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<&SslAcceptor>,
        cx: &Context,
    ) -> Result<Self, ErrorStack> {
        let now = cx.now;
        let stream = Stream::new(socket, tls)?;
        let is_tls = stream.is_tls();
        Ok(Self {
            stream,
            core: None,
            client: peer.ip(),
            stage: if is_tls { Stage::Handshake(Interest::Read) } else { Stage::Open },
            requests: Requests::new(now).with_admission(cx.behind.admission.clone()),
            answers: Answers::default(),
            to_core: Unsent::default(),
            to_client: Unsent::default(),
            has_answered: false,
            accepted: now,
            heard: now,
            close_by: now,
            is_ended: false,
            violation: None,
        })
    }

    /// The client's address, as connections are counted.
    pub(super) fn peer(&self) -> IpAddr {
        address_key(self.client)
    }

    /// The client's socket.
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// The connection to the core.
    pub(super) fn core(&self) -> Option<&UnixStream> {
        self.core.as_ref()
    }

    /// What the client's socket waits for.
    pub(super) fn client_interest(&self) -> Option<Interest> {
        match self.stage {
            Stage::Handshake(interest) => Some(interest),
            Stage::Open => either(self.takes_more(), !self.to_client.is_empty()),
            Stage::Closing => either(self.to_client.is_empty(), !self.to_client.is_empty()),
        }
    }

    /// Whether the core takes more: before it is connected, what comes is a greeting.
    fn takes_more(&self) -> bool {
        self.core.is_none() || self.to_core.is_empty()
    }

    /// What the core's socket waits for.
    pub(super) fn core_interest(&self) -> Option<Interest> {
        either(self.to_client.is_empty(), !self.to_core.is_empty())
    }

    /// Which connection is evicted first: those that never sent a message, then those without an
    /// open call, then the others; among them the one that has been silent for the longest.
    pub(super) fn eviction_order(&self) -> (u8, Instant) {
        if !self.requests.has_data() || self.stage == Stage::Closing {
            (0, self.accepted)
        } else {
            (if self.requests.open() == 0 { 1 } else { 2 }, self.heard)
        }
    }

    /// When it was accepted, while its TLS handshake is under way.
    pub(super) fn handshake_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Handshake(_)).then_some(self.accepted)
    }

    /// Calls that are open at the core.
    pub(super) fn calls(&self) -> usize {
        self.requests.open()
    }

    /// Calls that the client ended before the core did, since this was last asked.
    pub(super) fn take_unanswered(&mut self) -> usize {
        self.requests.take_unanswered()
    }

    /// Whether it is ending already.
    pub(super) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    /// The violation that ended the connection, once.
    pub(super) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Whether all that came of the core was sent, and the client has seen the end that it got:
    /// closing with unread bytes of the client would take back what is on its way.
    pub(super) fn is_flushed(&self) -> bool {
        self.to_client.is_empty() && self.stage != Stage::Closing
    }

    /// Goes on after the client's socket got ready.
    ///
    /// # Errors
    ///
    /// When the connection is to be dropped.
    pub(super) fn on_client(&mut self, cx: &mut Context) -> Result<(), End> {
        if let Stage::Handshake(_) = self.stage {
            match self.stream.handshake() {
                Io::Done(_) => self.stage = Stage::Open,
                Io::Wait(interest) => {
                    self.stage = Stage::Handshake(interest);
                    return Ok(());
                }
                Io::Closed => return Err(Some(Closed::Handshake)),
            }
        }
        self.flush_client(cx.now)?;
        match self.stage {
            Stage::Closing => self.drain(cx),
            _ => self.read_client(cx),
        }
    }

    /// Goes on after the core's socket got ready.
    ///
    /// # Errors
    ///
    /// When the connection is to be dropped.
    pub(super) fn on_core(&mut self, cx: &mut Context) -> Result<(), End> {
        self.flush_core(cx.now)?;
        for _ in 0..READS_A_TURN {
            let Some(core) = &mut self.core else { return Ok(()) };
            if !self.to_client.is_empty() {
                return Ok(());
            }
            match core.read(&mut cx.scratch) {
                Ok(bytes) if bytes > 0 => {
                    let sent = &cx.scratch[..bytes];
                    let requests = &mut self.requests;
                    self.answers.follow(sent, |id| requests.ended(id));
                    self.has_answered = true;
                    let stream = &mut self.stream;
                    if !self.to_client.send(sent, cx.now, |bytes| stream.write(bytes)) {
                        return Err(None);
                    }
                    if bytes < cx.scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => {
                    // The core has ended the connection: its last bytes go to the client.
                    self.core = None;
                    return self.close(cx.now);
                }
            }
        }
        Ok(())
    }

    /// Checks the deadlines.
    ///
    /// # Errors
    ///
    /// When the connection is to be dropped.
    pub(super) fn check_time(&mut self, cx: &Context) -> Result<(), End> {
        let now = cx.now;
        let is_late = |since: Instant, secs| now.duration_since(since) > Duration::from_secs(secs);
        if self.stage == Stage::Closing {
            return if now > self.close_by { Err(None) } else { Ok(()) };
        }
        if self.to_client.since.is_some_and(|since| is_late(since, GRPC_ANSWER_SECS_MAX)) {
            return Err(Some(Closed::SlowReader));
        }
        if !self.requests.is_greeted() && is_late(self.accepted, GRPC_HANDSHAKE_SECS_MAX) {
            return Err(Some(Closed::Handshake));
        }
        if !self.requests.has_data() && is_late(self.accepted, GRPC_FIRST_MESSAGE_SECS_MAX) {
            return Err(Some(Closed::FirstMessage));
        }
        if is_late(self.heard, GRPC_SILENCE_SECS_MAX) {
            return Err(Some(Closed::Silent));
        }
        Ok(())
    }

    /// What the client did not send in time.
    pub(super) fn violation_of_time(&self, now: Instant) -> Option<Violation> {
        if self.stage == Stage::Open { self.requests.check_time(now).err() } else { None }
    }

    /// Ends the connection for a violation: the core's side at once, the client's with GOAWAY.
    ///
    /// # Errors
    ///
    /// When the client has gone already.
    pub(super) fn violate(&mut self, violation: Violation, now: Instant) -> Result<(), End> {
        self.violation = Some(violation);
        self.core = None;
        self.to_core = Unsent::default();
        // Within a frame of the core, GOAWAY would be taken for its payload.
        if self.answers.is_between_frames() {
            let bytes = goodbye(violation, !self.has_answered);
            let stream = &mut self.stream;
            if !self.to_client.send(&bytes, now, |bytes| stream.write(bytes)) {
                return Err(None);
            }
        }
        self.close(now)
    }

    fn close(&mut self, now: Instant) -> Result<(), End> {
        self.stage = Stage::Closing;
        self.close_by = now + CLOSING_FOR;
        self.flush_client(now)
    }

    fn flush_client(&mut self, now: Instant) -> Result<(), End> {
        let stream = &mut self.stream;
        if !self.to_client.flush(now, |bytes| stream.write(bytes)) {
            return Err(None);
        }
        if self.stage == Stage::Closing && !self.is_ended && self.to_client.is_empty() {
            self.is_ended = true;
            self.stream.end();
        }
        Ok(())
    }

    fn flush_core(&mut self, now: Instant) -> Result<(), End> {
        self.send_core(&[], now)
    }

    fn send_core(&mut self, bytes: &[u8], now: Instant) -> Result<(), End> {
        let core = &mut self.core;
        let mut write = |bytes: &[u8]| match core.as_mut().map(|core| core.write(bytes)) {
            Some(Ok(written)) => Io::Done(written),
            Some(Err(error)) if error.kind() == ErrorKind::Interrupted => Io::Done(0),
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => Io::Closed,
            // Not connected yet, or no room.
            _ => Io::Wait(Interest::Write),
        };
        if self.to_core.flush(now, &mut write) && self.to_core.send(bytes, now, &mut write) {
            return Ok(());
        }
        self.read_last(now)
    }

    /// The core takes no more bytes: it has closed, and what it answered last goes to the client
    /// before that connection ends too.
    fn read_last(&mut self, now: Instant) -> Result<(), End> {
        self.to_core = Unsent::default();
        let mut rest = [0; 4_096];
        while let Some(core) = &mut self.core {
            match core.read(&mut rest) {
                Ok(bytes) if bytes > 0 => {
                    let sent = &rest[..bytes];
                    let requests = &mut self.requests;
                    self.answers.follow(sent, |id| requests.ended(id));
                    self.has_answered = true;
                    let stream = &mut self.stream;
                    if !self.to_client.send(sent, now, |bytes| stream.write(bytes)) {
                        return Err(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => self.core = None,
            }
        }
        self.close(now)
    }

    fn read_client(&mut self, cx: &mut Context) -> Result<(), End> {
        for _ in 0..READS_A_TURN {
            if !self.takes_more() {
                return Ok(());
            }
            match self.stream.read(&mut cx.scratch) {
                Io::Done(bytes) => {
                    self.heard = cx.now;
                    cx.allowed.clear();
                    let came = &cx.scratch[..bytes];
                    if let Err(why) = self.requests.follow(came, cx.now, &mut cx.allowed) {
                        return self.violate(why, cx.now);
                    }
                    self.forward(cx)?;
                    // A record of TLS is smaller than the buffer, and another one may follow.
                    if bytes < cx.scratch.len() && !self.stream.is_tls() {
                        return Ok(());
                    }
                }
                Io::Wait(_) => return Ok(()),
                Io::Closed => return Err(None),
            }
        }
        Ok(())
    }

    /// Sends to the core what it may have; connects once there is an HTTP/2 client.
    fn forward(&mut self, cx: &Context) -> Result<(), End> {
        if self.core.is_none() && self.requests.is_greeted() {
            let connected = self.connect(&cx.behind.core).inspect_err(|error| {
                log::warn!("cannot connect to the gRPC library: {error}");
            });
            self.core = Some(connected.map_err(|_| Some(Closed::Core))?);
        }
        self.send_core(&cx.allowed, cx.now)
    }

    fn connect(&self, core: &PathBuf) -> io::Result<UnixStream> {
        // The core stops listening where its own accept finds no descriptor.
        let spare = (self.socket().as_fd().try_clone_to_owned()?, self.socket().try_clone()?);
        drop(spare);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        peer::name(&socket, self.client);
        connect(&socket, &SocketAddrUnix::new(core)?)?;
        Ok(UnixStream::from(socket))
    }

    /// Reads and drops what a client sends whose connection is closing.
    fn drain(&mut self, cx: &mut Context) -> Result<(), End> {
        match self.stream.discard(&mut cx.scratch) {
            // One read a turn, so that a flood does not hold the thread.
            Io::Done(_) | Io::Wait(_) => Ok(()),
            Io::Closed => Err(None),
        }
    }
}

fn either(read: bool, write: bool) -> Option<Interest> {
    match (read, write) {
        (true, true) => Some(Interest::Both),
        (true, false) => Some(Interest::Read),
        (false, true) => Some(Interest::Write),
        (false, false) => None,
    }
}
