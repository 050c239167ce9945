//! One client's connection: collects a request under the limits, waits for its answer, writes it,
//! and goes on to the next. It never blocks, and each stage but the wait for a worker has an end.
//!
//! ```text
//! handshake ─► head ─► body ─► waiting ─► answering ─► head, or draining ─► over
//!                └──────┴─ refused ───────────┘
//! ```

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::SslAcceptor;

use super::body::Body;
use super::head::{self, Head, Scanner};
use super::line::{Answered, Whole};
use super::metrics::{Closed, Metrics};
use super::refuse::Refusal;
use super::wire::{Did, Want, Wire};
use crate::base::limits::{HTTP_ANSWER_SECS_MAX, HTTP_IDLE_SECS_MAX, HTTP_REQUEST_SECS_MAX};

const REQUEST_WITHIN: Duration = Duration::from_secs(HTTP_REQUEST_SECS_MAX);
const IDLE_FOR: Duration = Duration::from_secs(HTTP_IDLE_SECS_MAX);
const ANSWER_WITHIN: Duration = Duration::from_secs(HTTP_ANSWER_SECS_MAX);
/// How long the rest of what a refused client sends is read: a socket that closes with bytes unread
/// takes the answer back that is on its way.
const DRAIN_FOR: Duration = Duration::from_secs(2);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What every client's turn shares.
pub struct Turn {
    /// The time.
    pub now: Instant,
    /// Where bytes are read to.
    pub scratch: Vec<u8>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Whether connections end with the answer that is due.
    pub stopping: bool,
}

/// What a client needs next.
#[derive(Debug)]
pub enum Step {
    /// To be told when its socket is ready; `None` while a worker has its request.
    Wait(Option<Want>),
    /// A worker for this request.
    Ask(Box<Whole>),
    /// Nothing: the connection is to be dropped.
    Over,
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
pub struct Client {
    wire: Wire,
    address: String,
    stage: Stage,
    /// When the stage began.
    since: Instant,
    /// When it must be over.
    deadline: Option<Instant>,
    /// Bytes that came and were not used yet.
    input: Vec<u8>,
    scanner: Scanner,
    /// Whether bytes of the request have come.
    begun: bool,
    output: Vec<u8>,
    sent: usize,
    /// What the request said of the connection after its answer.
    keep_alive: bool,
    is_http_1_0: bool,
    is_head: bool,
}

impl Client {
    /// A connection that was just taken.
    ///
    /// # Errors
    ///
    /// When the TLS library gives no state for it.
    pub fn new(
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<&SslAcceptor>,
        now: Instant,
    ) -> Result<Self, ErrorStack> {
        let wire = Wire::new(socket, tls)?;
        let stage = if wire.is_tls() { Stage::Handshake } else { Stage::Head };
        Ok(Self {
            wire,
            // A port on `::` sees IPv4 clients under mapped addresses.
            address: peer.ip().to_canonical().to_string(),
            stage,
            since: now,
            // Nobody connects to say nothing: the first request is due at once.
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

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.wire.socket()
    }

    /// Bytes that it has in memory.
    pub fn held(&self) -> usize {
        let request = match &self.stage {
            Stage::Body(parts) => parts.1.data.capacity(),
            Stage::Waiting { bytes } => *bytes,
            _ => 0,
        };
        request + self.input.capacity() + self.output.capacity()
    }

    /// Since when it has asked for nothing: such a one may go when its place is needed.
    pub fn unasked_since(&self) -> Option<Instant> {
        let unasked = matches!(self.stage, Stage::Handshake | Stage::Head | Stage::Draining);
        unasked.then_some(self.since)
    }

    /// Since when it has been slow to give or take what it holds in memory.
    pub fn slow_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Body(_) | Stage::Answering).then_some(self.since)
    }

    /// Whether a whole request of it has no complete answer yet.
    pub fn is_owed(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Answering)
    }

    /// Whether its stage has taken too long.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Goes on as far as it can.
    pub fn pump(&mut self, turn: &mut Turn) -> Step {
        loop {
            let step = match self.stage {
                Stage::Handshake => self.shake_hands(turn),
                Stage::Head => self.read_head(turn),
                Stage::Body(_) => self.read_body(turn),
                Stage::Waiting { .. } => Some(Step::Wait(None)),
                Stage::Answering => self.write_answer(turn),
                Stage::Draining => Some(self.drain(turn)),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Takes the answer to its request.
    pub fn give(&mut self, answered: Answered, turn: &Turn) {
        let keep = self.keep_alive && !turn.stopping;
        self.start_answer(answered.bytes, answered.status, keep, turn);
    }

    /// Answers with a refusal, after which the connection closes.
    pub fn refuse(&mut self, refusal: Refusal, turn: &Turn) {
        turn.metrics.refuse(refusal.reason());
        let (bytes, status) = refusal.render(&self.address, self.is_head);
        self.start_answer(bytes, status, false, turn);
    }

    /// Ends a stage that has taken too long.
    pub fn expire(&mut self, turn: &mut Turn) -> Step {
        match self.stage {
            Stage::Head if !self.begun => turn.metrics.close(Closed::Idle),
            Stage::Head | Stage::Body(_) => {
                self.refuse(Refusal::Slow, turn);
                return self.pump(turn);
            }
            Stage::Handshake => turn.metrics.close(Closed::Handshake),
            Stage::Answering => turn.metrics.close(Closed::SlowReader),
            Stage::Waiting { .. } | Stage::Draining => {}
        }
        Step::Over
    }

    fn enter(&mut self, stage: Stage, now: Instant, within: Option<Duration>) {
        self.stage = stage;
        self.since = now;
        self.deadline = within.map(|within| now + within);
    }

    fn shake_hands(&mut self, turn: &Turn) -> Option<Step> {
        match self.wire.shake_hands() {
            Did::Moved(_) => {
                // The time runs on: handshake and first byte have one limit.
                self.stage = Stage::Head;
                None
            }
            Did::Wait(want) => Some(Step::Wait(Some(want))),
            Did::Ended => {
                log::debug!("the TLS handshake of {} failed", self.address);
                turn.metrics.close(Closed::Handshake);
                Some(Step::Over)
            }
        }
    }

    fn read_head(&mut self, turn: &mut Turn) -> Option<Step> {
        match self.scanner.scan(&self.input) {
            Ok(None) => self.read_more(turn),
            // Old clients send an empty line after a body; RFC 9112, section 2.2 has it ignored.
            Ok(Some(end @ 2)) => {
                self.input.drain(..end);
                self.scanner = Scanner::default();
                None
            }
            Ok(Some(end)) => {
                let outcome = head::parse(&self.input[..end]);
                self.input.drain(..end);
                self.scanner = Scanner::default();
                match outcome {
                    Ok(head) => self.take_head(head),
                    Err(refusal) => self.refuse(refusal, turn),
                }
                None
            }
            Err(refusal) => {
                self.refuse(refusal, turn);
                None
            }
        }
    }

    fn take_head(&mut self, head: Head) {
        self.keep_alive = head.keep_alive;
        self.is_http_1_0 = head.is_http_1_0;
        self.is_head = head.is_head();
        if head.expects_continue && self.input.is_empty() {
            self.output = CONTINUE.to_vec();
            self.sent = 0;
        }
        let body = Body::new(head.framing);
        // The request's deadline stands: it bounds head and body together.
        self.stage = Stage::Body(Box::new((head, body)));
    }

    fn read_body(&mut self, turn: &mut Turn) -> Option<Step> {
        let Stage::Body(parts) = &mut self.stage else { return None };
        match parts.1.take(&mut self.input) {
            Ok(true) => Some(self.ask(turn)),
            Ok(false) => match self.flush() {
                Did::Moved(_) => self.read_more(turn),
                Did::Wait(want) => Some(Step::Wait(Some(want))),
                Did::Ended => Some(Step::Over),
            },
            Err(refusal) => {
                self.refuse(refusal, turn);
                None
            }
        }
    }

    fn ask(&mut self, turn: &Turn) -> Step {
        let (head, body) = match std::mem::replace(&mut self.stage, Stage::Head) {
            Stage::Body(parts) => *parts,
            stage => {
                self.stage = stage;
                return Step::Over;
            }
        };
        // Between requests a connection holds no memory.
        self.input.shrink_to_fit();
        let whole = Whole { head, body: body.data, client: self.address.clone() };
        self.enter(Stage::Waiting { bytes: whole.body.capacity() }, turn.now, None);
        Step::Ask(Box::new(whole))
    }

    fn read_more(&mut self, turn: &mut Turn) -> Option<Step> {
        match self.wire.read(&mut turn.scratch) {
            Did::Moved(bytes) => {
                self.input.extend_from_slice(&turn.scratch[..bytes]);
                self.begin(turn.now);
                None
            }
            Did::Wait(want) => Some(Step::Wait(Some(want))),
            Did::Ended => Some(Step::Over),
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

    fn start_answer(&mut self, mut bytes: Vec<u8>, status: u16, keep: bool, turn: &Turn) {
        turn.metrics.answered(status);
        let connection: &[u8] = match (keep, self.is_http_1_0) {
            (false, _) => b"Connection: close\r\n",
            (true, true) => b"Connection: keep-alive\r\n",
            (true, false) => b"",
        };
        // The status line comes first, and headers have no order among themselves.
        if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
            bytes.splice(end + 2..end + 2, connection.iter().copied());
        }
        // What is left of a `100 Continue` goes before it.
        let mut output = self.output.split_off(self.sent.min(self.output.len()));
        if output.is_empty() {
            output = bytes;
        } else {
            output.append(&mut bytes);
        }
        self.output = output;
        self.sent = 0;
        self.keep_alive = keep;
        self.enter(Stage::Answering, turn.now, Some(ANSWER_WITHIN));
    }

    /// Writes what waits to be written: [`Did::Moved`] when that is all.
    fn flush(&mut self) -> Did {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.wire.write(rest) {
                Did::Moved(bytes) => self.sent += bytes,
                other => return other,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        Did::Moved(0)
    }

    fn write_answer(&mut self, turn: &Turn) -> Option<Step> {
        match self.flush() {
            Did::Moved(_) if turn.stopping => {
                self.wire.end();
                Some(Step::Over)
            }
            Did::Moved(_) if !self.keep_alive => {
                self.wire.end();
                self.input = Vec::new();
                self.enter(Stage::Draining, turn.now, Some(DRAIN_FOR));
                None
            }
            Did::Moved(_) => {
                self.begun = false;
                self.is_head = false;
                self.is_http_1_0 = false;
                self.enter(Stage::Head, turn.now, Some(IDLE_FOR));
                // The next request may have come along with this one.
                self.begin(turn.now);
                None
            }
            Did::Wait(want) => Some(Step::Wait(Some(want))),
            Did::Ended => Some(Step::Over),
        }
    }

    fn drain(&mut self, turn: &mut Turn) -> Step {
        match self.wire.discard(&mut turn.scratch) {
            // Once a turn, so that one that floods the gate does not hold it.
            Did::Moved(_) => Step::Wait(Some(Want::Read)),
            Did::Wait(want) => Step::Wait(Some(want)),
            Did::Ended => Step::Over,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
