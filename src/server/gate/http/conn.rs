//! One client's connection: collects a request under the limits, waits for its answer, writes it,
//! and goes on to the next. It never blocks, and each stage but the wait for a worker has a
//! deadline.
//!
//! ```text
//! handshake ─► head ─► body ─► waiting ─► answering ─► head, or draining ─► closed
//!                └──────┴─ refused ───────────┘
//! ```

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::SslAcceptor;

use super::backend::{Request, Response};
use super::body::Body;
use super::forwarded::Proxies;
use super::metrics::{Closed, Metrics};
use super::parse::{self, Head, Scanner};
use super::refusal::{Refusal, Render};
use crate::base::limits::{HTTP_ANSWER_SECS_MAX, HTTP_IDLE_SECS_MAX, HTTP_REQUEST_SECS_MAX};
use crate::server::gate::listener::address_key;
use crate::server::gate::stream::{Interest, Io, Stream};

const REQUEST_WITHIN: Duration = Duration::from_secs(HTTP_REQUEST_SECS_MAX);
const IDLE_FOR: Duration = Duration::from_secs(HTTP_IDLE_SECS_MAX);
const ANSWER_WITHIN: Duration = Duration::from_secs(HTTP_ANSWER_SECS_MAX);
/// How long the rest of what a refused client sends is read: closing a socket with unread bytes
/// resets the connection, and the answer under way is lost.
const DRAIN_FOR: Duration = Duration::from_secs(2);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What all connections share.
pub(crate) struct Context {
    /// The time.
    pub(crate) now: Instant,
    /// The buffer that sockets are read into.
    pub(crate) scratch: Vec<u8>,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Writes the answer to a refused request.
    pub(crate) render: Render,
    /// The proxies whose word on a client's address counts.
    pub(crate) proxies: Proxies,
    /// Whether connections close after the pending answer.
    pub(crate) stopping: bool,
}

/// What a connection needs next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Its socket to be ready; `None` while a worker has its request.
    Wait(Option<Interest>),
    /// A worker for this request.
    Request(Box<Request>),
    /// To be closed.
    Close,
}

enum Stage {
    Handshake,
    Head,
    Body(Box<(Head, Body)>),
    Waiting { bytes: usize },
    Answering,
    Draining,
}

/// A client's connection.
pub(crate) struct Conn {
    stream: Stream,
    peer: IpAddr,
    /// Whose request it is: the peer's, or of the client that a trusted proxy names.
    address: String,
    /// By which its requests are counted.
    key: IpAddr,
    stage: Stage,
    /// When the stage began.
    since: Instant,
    /// When the stage must have ended.
    deadline: Option<Instant>,
    /// Bytes that were read and not used yet.
    input: Vec<u8>,
    scanner: Scanner,
    /// Whether bytes of the request have arrived.
    begun: bool,
    output: Vec<u8>,
    sent: usize,
    /// Whether the connection stays open after the answer.
    keep_alive: bool,
    is_http_1_0: bool,
    is_head: bool,
}

impl Conn {
    /// A connection that was just accepted.
    ///
    /// # Errors
    ///
    /// When the TLS library gives no state for it.
    pub(crate) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<&SslAcceptor>,
        now: Instant,
    ) -> Result<Self, ErrorStack> {
        let stream = Stream::new(socket, tls)?;
        let stage = if stream.is_tls() { Stage::Handshake } else { Stage::Head };
        // A port on `::` sees IPv4 clients under mapped addresses.
        let peer = peer.ip().to_canonical();
        Ok(Self {
            stream,
            peer,
            address: peer.to_string(),
            key: address_key(peer),
            stage,
            since: now,
            // The first request must follow at once.
            deadline: Some(now + REQUEST_WITHIN),
            input: Vec::new(),
            scanner: Scanner::default(),
            begun: false,
            output: Vec::new(),
            sent: 0,
            keep_alive: false,
            is_http_1_0: false,
            is_head: false,
        })
    }

    /// The client's connection, for the poller.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Bytes that it has in memory.
    pub(crate) fn held(&self) -> usize {
        let request = match &self.stage {
            Stage::Body(parts) => parts.1.data.capacity(),
            Stage::Waiting { bytes } => *bytes,
            _ => 0,
        };
        request + self.input.capacity() + self.output.capacity()
    }

    /// When it was accepted, while its TLS handshake is under way.
    pub(crate) fn handshake_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Handshake).then_some(self.since)
    }

    /// Since when it has been without a request: an idle connection may be evicted.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let unasked = matches!(self.stage, Stage::Handshake | Stage::Head | Stage::Draining);
        unasked.then_some(self.since)
    }

    /// Since when it has been sending a body or reading an answer.
    pub(crate) fn slow_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Body(_) | Stage::Answering).then_some(self.since)
    }

    /// Whether a complete request of it has no complete answer yet.
    pub(crate) fn is_owed(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Answering)
    }

    /// Whether its stage has exceeded its deadline.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Goes on as far as it can.
    pub(crate) fn advance(&mut self, cx: &mut Context) -> Step {
        loop {
            let step = match self.stage {
                Stage::Handshake => self.handshake(cx),
                Stage::Head => self.read_head(cx),
                Stage::Body(_) => self.read_body(cx),
                Stage::Waiting { .. } => Some(Step::Wait(None)),
                Stage::Answering => self.write_answer(cx),
                Stage::Draining => Some(self.drain(cx)),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Starts to write the answer to its request.
    pub(crate) fn answer(&mut self, answered: Response, cx: &Context) {
        let keep = self.keep_alive && !cx.stopping;
        self.start_answer(answered.bytes, answered.status, keep, cx);
    }

    /// Answers with a refusal, after which the connection closes.
    pub(crate) fn refuse(&mut self, refusal: Refusal, cx: &Context) {
        cx.metrics.refuse(refusal.reason());
        let (bytes, status) = (cx.render)(refusal, &self.address, self.is_head);
        self.start_answer(bytes, status, false, cx);
    }

    /// Ends a stage that has exceeded its deadline.
    pub(crate) fn expire(&mut self, cx: &mut Context) -> Step {
        match self.stage {
            Stage::Head if !self.begun => cx.metrics.close(Closed::Idle),
            Stage::Head | Stage::Body(_) => {
                self.refuse(Refusal::Slow, cx);
                return self.advance(cx);
            }
            Stage::Handshake => cx.metrics.close(Closed::Handshake),
            Stage::Answering => cx.metrics.close(Closed::SlowReader),
            Stage::Waiting { .. } | Stage::Draining => {}
        }
        Step::Close
    }

    fn enter(&mut self, stage: Stage, now: Instant, within: Option<Duration>) {
        self.stage = stage;
        self.since = now;
        self.deadline = within.map(|within| now + within);
    }

    fn handshake(&mut self, cx: &Context) -> Option<Step> {
        match self.stream.handshake() {
            Io::Done(_) => {
                // Handshake and first request have one deadline.
                self.stage = Stage::Head;
                None
            }
            Io::Wait(want) => Some(Step::Wait(Some(want))),
            Io::Closed => {
                log::debug!("the TLS handshake of {} failed", self.address);
                cx.metrics.close(Closed::Handshake);
                Some(Step::Close)
            }
        }
    }

    fn read_head(&mut self, cx: &mut Context) -> Option<Step> {
        match self.scanner.scan(&self.input) {
            Ok(None) => self.read_more(cx),
            // Old clients send an empty line after a body; RFC 9112, section 2.2 has it ignored.
            Ok(Some(end @ 2)) => {
                self.input.drain(..end);
                self.scanner = Scanner::default();
                None
            }
            Ok(Some(end)) => {
                let outcome = parse::parse(&self.input[..end]);
                self.input.drain(..end);
                self.scanner = Scanner::default();
                match outcome {
                    Ok(head) => self.take_head(head, cx),
                    Err(refusal) => self.refuse(refusal, cx),
                }
                None
            }
            Err(refusal) => {
                self.refuse(refusal, cx);
                None
            }
        }
    }

    /// Says whose request the next one is.
    fn name_client(&mut self, client: IpAddr) {
        self.address = client.to_string();
        self.key = address_key(client);
    }

    fn take_head(&mut self, head: Head, cx: &Context) {
        self.name_client(cx.proxies.client(self.peer, &head));
        self.keep_alive = head.keep_alive;
        self.is_http_1_0 = head.is_http_1_0;
        self.is_head = head.is_head();
        if head.expects_continue && self.input.is_empty() {
            self.output = CONTINUE.to_vec();
            self.sent = 0;
        }
        let body = Body::new(head.framing, head.body_max);
        // The request's deadline bounds head and body together.
        self.stage = Stage::Body(Box::new((head, body)));
    }

    fn read_body(&mut self, cx: &mut Context) -> Option<Step> {
        let Stage::Body(parts) = &mut self.stage else { return None };
        match parts.1.take(&mut self.input) {
            Ok(true) => Some(self.request(cx)),
            Ok(false) => match self.flush() {
                Io::Done(_) => self.read_more(cx),
                Io::Wait(want) => Some(Step::Wait(Some(want))),
                Io::Closed => Some(Step::Close),
            },
            Err(refusal) => {
                self.refuse(refusal, cx);
                None
            }
        }
    }

    fn request(&mut self, cx: &Context) -> Step {
        let (head, body) = match std::mem::replace(&mut self.stage, Stage::Head) {
            Stage::Body(parts) => *parts,
            stage => {
                self.stage = stage;
                return Step::Close;
            }
        };
        // An idle connection holds no memory.
        self.input.shrink_to_fit();
        let (client, address) = (self.address.clone(), self.key);
        let request = Request { head, body: body.data, client, address };
        self.enter(Stage::Waiting { bytes: request.body.capacity() }, cx.now, None);
        Step::Request(Box::new(request))
    }

    fn read_more(&mut self, cx: &mut Context) -> Option<Step> {
        match self.stream.read(&mut cx.scratch) {
            Io::Done(bytes) => {
                self.input.extend_from_slice(&cx.scratch[..bytes]);
                self.begin(cx.now);
                None
            }
            Io::Wait(want) => Some(Step::Wait(Some(want))),
            Io::Closed => Some(Step::Close),
        }
    }

    /// Starts the time of a request with its first byte.
    fn begin(&mut self, now: Instant) {
        if !self.begun && !self.input.is_empty() {
            self.begun = true;
            self.since = now;
            self.deadline = Some(now + REQUEST_WITHIN);
        }
    }

    fn start_answer(&mut self, mut bytes: Vec<u8>, status: u16, keep: bool, cx: &Context) {
        cx.metrics.answered(status);
        let connection: &[u8] = match (keep, self.is_http_1_0) {
            (false, _) => b"Connection: close\r\n",
            (true, true) => b"Connection: keep-alive\r\n",
            (true, false) => b"",
        };
        // The status line comes first, and headers have no order among themselves.
        if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
            bytes.splice(end + 2..end + 2, connection.iter().copied());
        }
        // The rest of a `100 Continue` goes first.
        let mut output = self.output.split_off(self.sent.min(self.output.len()));
        if output.is_empty() {
            output = bytes;
        } else {
            output.append(&mut bytes);
        }
        self.output = output;
        self.sent = 0;
        self.keep_alive = keep;
        self.enter(Stage::Answering, cx.now, Some(ANSWER_WITHIN));
    }

    /// Writes the pending output: [`Io::Done`] when all of it is written.
    fn flush(&mut self) -> Io {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Io::Done(bytes) => self.sent += bytes,
                other => return other,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        Io::Done(0)
    }

    fn write_answer(&mut self, cx: &Context) -> Option<Step> {
        match self.flush() {
            Io::Done(_) if cx.stopping => {
                self.stream.end();
                Some(Step::Close)
            }
            Io::Done(_) if !self.keep_alive => {
                self.stream.end();
                self.input = Vec::new();
                self.enter(Stage::Draining, cx.now, Some(DRAIN_FOR));
                None
            }
            Io::Done(_) => {
                self.begun = false;
                self.name_client(self.peer);
                self.is_head = false;
                self.is_http_1_0 = false;
                self.enter(Stage::Head, cx.now, Some(IDLE_FOR));
                // The next request may have arrived with this one.
                self.begin(cx.now);
                None
            }
            Io::Wait(want) => Some(Step::Wait(Some(want))),
            Io::Closed => Some(Step::Close),
        }
    }

    fn drain(&mut self, cx: &mut Context) -> Step {
        match self.stream.discard(&mut cx.scratch) {
            // One read a turn, so that a flood does not hold the thread.
            Io::Done(_) => Step::Wait(Some(Interest::Read)),
            Io::Wait(want) => Step::Wait(Some(want)),
            Io::Closed => Step::Close,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
