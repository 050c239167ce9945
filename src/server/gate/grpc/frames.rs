//! Follows the HTTP/2 frames of a client (RFC 9113) before the C core gets them. Bytes are passed
//! on as they came; a header block is held back until it is complete and its decoded size is
//! known. Of the message of a report whose caller may not report, the first bytes become an empty
//! message that ends the call: the core skips the rest, and counts it for the client's window.
//!
//! ```text
//! preface ─► head ─► payload ─► head ─► …          passed on at once
//!              └───► block (HEADERS, CONTINUATION) passed on when complete and small enough
//! ```

use std::time::{Duration, Instant};

use super::admission::Admission;
use super::hpack::{CallKind, Decoded, Decoder, HpackError};
use crate::base::limits::{
    GRPC_CALL_BYTES_MAX, GRPC_CONTROL_FRAMES_PER_SEC_MAX, GRPC_EMPTY_FRAMES_PER_SEC_MAX,
    GRPC_FIRST_MESSAGE_SECS_MAX, GRPC_HANDSHAKE_SECS_MAX, GRPC_HEADER_BYTES_MAX,
    GRPC_HEADERS_OPEN_BYTES_MAX, GRPC_NEW_STREAMS_PER_SEC_MAX, GRPC_PINGS_PER_SEC_MAX,
    GRPC_RESETS_PER_SEC_MAX, GRPC_SETTINGS_PER_SEC_MAX, GRPC_SMALL_FRAMES_PER_SEC_MAX,
    GRPC_STREAMS_MAX,
};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// The protocol's least maximum of a frame, which the C core does not raise.
const FRAME_BYTES_MAX: usize = 16_384;
/// Bytes of a SETTINGS frame: 32 settings of six bytes, of which the protocol knows a dozen.
const SETTINGS_BYTES_MAX: usize = 192;
/// A DATA frame with less than this and without an end is a small one.
const SMALL_FRAME_BYTES: usize = 64;
/// CONTINUATION frames of one block.
const CONTINUATIONS_MAX: u8 = 8;

/// Kinds of frames (RFC 9113, section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// It breaks HTTP/2.
    Protocol,
    /// A header block, or those of all open streams, is too large.
    HeaderBytes,
    /// Too many streams at once, or new ones a second.
    Streams,
    /// Too many streams were reset.
    Resets,
    /// Too many PING frames.
    Pings,
    /// Too many SETTINGS frames, or the server's are not acknowledged.
    Settings,
    /// Too many frames that carry nothing.
    EmptyFrames,
    /// Too many frames that carry almost nothing.
    SmallFrames,
    /// Too many other frames.
    ControlFrames,
    /// A call that carries no report has a large message.
    MessageBytes,
    /// A stream without a message, or a block without an end, for too long.
    Slow,
}

/// Bytes of a message of no bytes: its flag and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// A frame's head.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// Collects heads from a run of bytes, and skips payloads.
#[derive(Debug, Default)]
struct Heads {
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Bytes of the current payload that are still to come.
    left: usize,
}

impl Heads {
    /// Takes bytes of a head from the front of `input`; the head once it is complete.
    fn take(&mut self, input: &mut &[u8]) -> Option<Head> {
        let taken = input.len().min(HEAD_BYTES - self.filled);
        self.head[self.filled..self.filled + taken].copy_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.filled += taken;
        if self.filled < HEAD_BYTES {
            return None;
        }
        self.filled = 0;
        let head = Head::parse(self.head);
        self.left = head.length;
        Some(head)
    }

    /// Takes bytes of the current payload from the front of `input`.
    fn payload<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let (taken, rest) = input.split_at(input.len().min(self.left));
        *input = rest;
        self.left -= taken.len();
        taken
    }
}

/// Follows what the core sends, for the ends of streams.
#[derive(Debug, Default)]
pub(crate) struct Answers(Heads);

impl Answers {
    /// Calls `ended` for each stream that ends in `input`.
    pub(crate) fn follow(&mut self, mut input: &[u8], mut ended: impl FnMut(u32)) {
        while !input.is_empty() {
            if self.0.left > 0 {
                self.0.payload(&mut input);
            } else if let Some(head) = self.0.take(&mut input) {
                let is_end =
                    matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(flag::END_STREAM);
                if is_end || head.kind == kind::RST_STREAM {
                    ended(head.stream);
                }
            }
        }
    }

    /// Whether what came so far ends with a whole frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.0.left == 0 && self.0.filled == 0
    }
}

/// A header block that is being collected.
#[derive(Debug)]
struct Block {
    stream: u32,
    since: Instant,
    /// Its frames as they came.
    raw: Vec<u8>,
    /// Where the current frame's payload starts in `raw`.
    payload: usize,
    fragment: Vec<u8>,
    continuations: u8,
}

/// A stream that the core has not ended.
#[derive(Debug)]
struct Stream {
    id: u32,
    since: Instant,
    header_bytes: usize,
    data_bytes: usize,
    kind: CallKind,
    /// Bytes of [`EMPTY_MESSAGE`] that the core is still to get in place of the caller's.
    empty_left: usize,
}

/// What is counted a second.
#[derive(Debug, Clone, Copy)]
enum Count {
    Streams,
    Resets,
    Pings,
    Settings,
    Empty,
    Small,
    Control,
}

const COUNTS: usize = 7;

impl Count {
    fn limit(self) -> (u16, Violation) {
        match self {
            Self::Streams => (GRPC_NEW_STREAMS_PER_SEC_MAX, Violation::Streams),
            Self::Resets => (GRPC_RESETS_PER_SEC_MAX, Violation::Resets),
            Self::Pings => (GRPC_PINGS_PER_SEC_MAX, Violation::Pings),
            Self::Settings => (GRPC_SETTINGS_PER_SEC_MAX, Violation::Settings),
            Self::Empty => (GRPC_EMPTY_FRAMES_PER_SEC_MAX, Violation::EmptyFrames),
            Self::Small => (GRPC_SMALL_FRAMES_PER_SEC_MAX, Violation::SmallFrames),
            Self::Control => (GRPC_CONTROL_FRAMES_PER_SEC_MAX, Violation::ControlFrames),
        }
    }
}

/// Follows what one client sends.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Bytes of the preface that have come.
    preface: usize,
    heads: Heads,
    /// Bytes of the current payload that are dropped, since others took their place.
    dropped: usize,
    block: Option<Box<Block>>,
    decoder: Decoder,
    admission: Admission,
    streams: Vec<Stream>,
    highest: u32,
    /// When the first SETTINGS came.
    settings: Option<Instant>,
    is_acknowledged: bool,
    has_data: bool,
    /// Calls that the client reset, since they were last asked for.
    unanswered: usize,
    counts: [u16; COUNTS],
    counted_since: Instant,
}

impl Requests {
    /// Follows a connection that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            preface: 0,
            heads: Heads::default(),
            dropped: 0,
            block: None,
            decoder: Decoder::new(),
            admission: Admission::default(),
            streams: Vec::new(),
            highest: 0,
            settings: None,
            is_acknowledged: false,
            has_data: false,
            unanswered: 0,
            counts: [0; COUNTS],
            counted_since: now,
        }
    }

    /// The same for a port that asks who may report.
    pub(super) fn with_admission(self, admission: Admission) -> Self {
        Self { admission, ..self }
    }

    /// Whether preface and SETTINGS have come: it is an HTTP/2 client.
    pub(crate) fn is_greeted(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether a message has come.
    pub(super) fn has_data(&self) -> bool {
        self.has_data
    }

    /// Streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.streams.len()
    }

    /// Calls that the client ended before the core did, since this was last asked.
    pub(super) fn take_unanswered(&mut self) -> usize {
        std::mem::take(&mut self.unanswered)
    }

    /// Bytes of a header block that it holds back.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.raw.capacity() + block.fragment.capacity())
    }

    /// Notes that the core has ended a stream.
    pub(super) fn ended(&mut self, id: u32) {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            self.streams.swap_remove(at);
        }
    }

    /// Whether something that must come soon has not come.
    ///
    /// # Errors
    ///
    /// What it is.
    pub(crate) fn check_time(&self, now: Instant) -> Result<(), Violation> {
        let is_late = |since: Instant, secs| now.duration_since(since) > Duration::from_secs(secs);
        if self.block.as_ref().is_some_and(|it| is_late(it.since, GRPC_HANDSHAKE_SECS_MAX)) {
            return Err(Violation::Slow);
        }
        if !self.is_acknowledged
            && self.settings.is_some_and(|since| is_late(since, GRPC_HANDSHAKE_SECS_MAX))
        {
            return Err(Violation::Settings);
        }
        let silent = |stream: &Stream| {
            stream.data_bytes == 0 && is_late(stream.since, GRPC_FIRST_MESSAGE_SECS_MAX)
        };
        if self.streams.iter().any(silent) { Err(Violation::Slow) } else { Ok(()) }
    }

    /// Follows `input`, and appends to `out` what the core may have of it.
    ///
    /// # Errors
    ///
    /// Why the connection must end. What was appended before is allowed.
    pub(crate) fn follow(
        &mut self,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if now.duration_since(self.counted_since) >= Duration::from_secs(1) {
            self.counted_since = now;
            self.counts = [0; COUNTS];
        }
        let preface = &PREFACE[self.preface..];
        let taken = preface.len().min(input.len());
        if input[..taken] != preface[..taken] {
            return Err(Violation::Protocol);
        }
        out.extend_from_slice(&input[..taken]);
        self.preface += taken;
        input = &input[taken..];
        while !input.is_empty() {
            if self.heads.left == 0 {
                let Some(head) = self.heads.take(&mut input) else { return Ok(()) };
                self.begin(head, now)?;
                match &mut self.block {
                    None => self.pass_head(head, out),
                    Some(block) => {
                        block.raw.extend_from_slice(&self.heads.head);
                        block.payload = block.raw.len();
                    }
                }
            }
            let payload = self.heads.payload(&mut input);
            match &mut self.block {
                None => {
                    let (dropped, rest) = payload.split_at(payload.len().min(self.dropped));
                    self.dropped -= dropped.len();
                    out.extend_from_slice(rest);
                }
                Some(block) => {
                    block.raw.extend_from_slice(payload);
                    if self.heads.left == 0 {
                        self.end_block_frame(now, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Passes the head of a frame on: as it is, or after bytes of an empty message in a frame of
    /// their own. The frames have as many bytes as the client's, for which its windows count them.
    fn pass_head(&mut self, head: Head, out: &mut Vec<u8>) {
        let refused = |stream: &&mut Stream| stream.id == head.stream && stream.empty_left > 0;
        let stream = match head.kind {
            kind::DATA => self.streams.iter_mut().find(refused),
            _ => None,
        };
        let Some(stream) = stream else { return out.extend_from_slice(&self.heads.head) };
        let length = head.length.min(stream.empty_left);
        stream.empty_left -= length;
        self.dropped = length;
        let end = if stream.empty_left == 0 { flag::END_STREAM } else { 0 };
        let flags = head.flags & flag::END_STREAM;
        out.extend_from_slice(&Head { length, flags: flags | end, ..head }.bytes());
        out.extend_from_slice(&EMPTY_MESSAGE[..length]);
        if head.length > length {
            let length = head.length - length;
            out.extend_from_slice(&Head { length, flags, ..head }.bytes());
        }
    }

    fn count(&mut self, count: Count) -> Result<(), Violation> {
        let (limit, violation) = count.limit();
        let counted = &mut self.counts[count as usize];
        *counted = counted.saturating_add(1);
        if *counted > limit { Err(violation) } else { Ok(()) }
    }

    /// Checks a frame by its head.
    fn begin(&mut self, head: Head, now: Instant) -> Result<(), Violation> {
        if head.length > FRAME_BYTES_MAX {
            return Err(Violation::Protocol);
        }
        let is_first = self.settings.is_none();
        if is_first && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Violation::Protocol);
        }
        if let Some(block) = &mut self.block {
            if head.kind != kind::CONTINUATION || head.stream != block.stream {
                return Err(Violation::Protocol);
            }
            block.continuations += 1;
            if block.continuations > CONTINUATIONS_MAX
                || block.raw.len() + head.length + HEAD_BYTES > GRPC_HEADER_BYTES_MAX
            {
                return Err(Violation::HeaderBytes);
            }
            return if head.length == 0 { self.count(Count::Empty) } else { Ok(()) };
        }
        let length_is =
            |length| if head.length == length { Ok(()) } else { Err(Violation::Protocol) };
        match head.kind {
            kind::DATA => self.data(head),
            kind::HEADERS => self.headers(head, now),
            kind::RST_STREAM => {
                length_is(4)?;
                let open = self.open();
                self.ended(head.stream);
                self.unanswered += open - self.open();
                self.count(Count::Resets)
            }
            kind::SETTINGS => {
                let is_ack = head.has(flag::ACK);
                if !head.length.is_multiple_of(6) || (is_ack && head.length > 0) || head.stream != 0
                {
                    return Err(Violation::Protocol);
                }
                if head.length > SETTINGS_BYTES_MAX {
                    return Err(Violation::Settings);
                }
                self.is_acknowledged |= is_ack;
                self.settings.get_or_insert(now);
                self.count(Count::Settings)
            }
            kind::PING => {
                length_is(8)?;
                self.count(Count::Pings)
            }
            kind::WINDOW_UPDATE => {
                length_is(4)?;
                self.count(Count::Control)
            }
            kind::PUSH_PROMISE | kind::CONTINUATION => Err(Violation::Protocol),
            kind::GOAWAY if head.length < 8 => Err(Violation::Protocol),
            // PRIORITY, GOAWAY, and kinds that are not known, which are ignored.
            _ => self.count(Count::Control),
        }
    }

    fn data(&mut self, head: Head) -> Result<(), Violation> {
        self.has_data |= head.length > 0;
        // A stream that the core has ended may get what was under way.
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == head.stream) {
            stream.data_bytes = stream.data_bytes.saturating_add(head.length);
            if stream.kind == CallKind::Other && stream.data_bytes > GRPC_CALL_BYTES_MAX {
                return Err(Violation::MessageBytes);
            }
        } else if head.stream == 0 || head.stream > self.highest {
            return Err(Violation::Protocol);
        }
        match head.length {
            _ if head.has(flag::END_STREAM) => Ok(()),
            0 => self.count(Count::Empty),
            length if length < SMALL_FRAME_BYTES => self.count(Count::Small),
            _ => Ok(()),
        }
    }

    fn headers(&mut self, head: Head, now: Instant) -> Result<(), Violation> {
        if head.stream.is_multiple_of(2) {
            return Err(Violation::Protocol);
        }
        if head.length + HEAD_BYTES > GRPC_HEADER_BYTES_MAX {
            return Err(Violation::HeaderBytes);
        }
        if head.stream > self.highest {
            self.count(Count::Streams)?;
            if self.streams.len() >= GRPC_STREAMS_MAX as usize {
                return Err(Violation::Streams);
            }
        }
        if head.length == 0 {
            self.count(Count::Empty)?;
        }
        self.block = Some(Box::new(Block {
            stream: head.stream,
            since: now,
            raw: Vec::new(),
            payload: 0,
            fragment: Vec::new(),
            continuations: 0,
        }));
        Ok(())
    }

    /// Takes the fragment of a frame of the block; passes the block on when it was the last one.
    fn end_block_frame(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        let head = Head::parse(self.heads.head);
        let payload = block.raw.get(block.payload..).unwrap_or_default();
        block.fragment.extend_from_slice(fragment(head, payload).ok_or(Violation::Protocol)?);
        if !head.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let decoded = self.decoder.decode(&block.fragment, GRPC_HEADER_BYTES_MAX);
        let decoded = decoded.map_err(|error| match error {
            HpackError::Malformed => Violation::Protocol,
            HpackError::TooLarge => Violation::HeaderBytes,
        })?;
        self.open_stream(block.stream, &decoded, now)?;
        out.extend_from_slice(&block.raw);
        Ok(())
    }

    /// Notes the headers or the trailers of a stream.
    fn open_stream(&mut self, id: u32, decoded: &Decoded, now: Instant) -> Result<(), Violation> {
        let (header_bytes, kind) = (decoded.bytes, decoded.kind);
        if id > self.highest {
            self.highest = id;
            let (agent, token) = (decoded.agent_id.as_deref(), decoded.authorization.as_deref());
            let is_taken = kind != CallKind::Report || self.admission.admits(agent, token);
            let empty_left = if is_taken { 0 } else { EMPTY_MESSAGE.len() };
            let stream = Stream { id, since: now, header_bytes, data_bytes: 0, kind, empty_left };
            self.streams.push(stream);
        } else if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            // Trailers.
            stream.header_bytes += header_bytes;
        } else {
            // A stream that has ended: trailers that were under way, or a flood of them.
            self.count(Count::Resets)?;
        }
        let open: usize = self.streams.iter().map(|stream| stream.header_bytes).sum();
        if open > GRPC_HEADERS_OPEN_BYTES_MAX { Err(Violation::HeaderBytes) } else { Ok(()) }
    }
}

/// The fragment in a payload, without padding and priority; `None` when they do not fit.
fn fragment(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    if head.kind != kind::HEADERS {
        return Some(rest);
    }
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (first, after) = rest.split_first()?;
        padding = usize::from(*first);
        rest = after;
    }
    if head.has(flag::PRIORITY) {
        rest = rest.get(5..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

/// SETTINGS without a setting, and GOAWAY for the code of a violation.
pub(super) fn goodbye(violation: Violation, with_settings: bool) -> Vec<u8> {
    // RFC 9113, section 7: PROTOCOL_ERROR or ENHANCE_YOUR_CALM.
    let code = if violation == Violation::Protocol { 0x1 } else { 0xb };
    let mut bytes = Vec::new();
    if with_settings {
        bytes.extend_from_slice(&[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]);
    }
    bytes.extend_from_slice(&[0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0]);
    // What was sent may have been handled: the highest stream that there can be.
    bytes.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, code]);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
