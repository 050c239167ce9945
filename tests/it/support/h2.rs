//! HTTP/2 by hand, for what no client of a library would send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// The code of GOAWAY for whoever exceeds a limit.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame of RFC 9113.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A literal field that is not indexed.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127);
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// HEADERS that open a call.
pub fn call(stream: u32, path: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let fixed = [
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fixed.iter().chain(metadata) {
        block.extend(field(name, value));
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A gRPC message in DATA frames, which end the stream.
pub fn message(stream: u32, bytes: &[u8], is_compressed: bool) -> Vec<u8> {
    let mut whole = vec![u8::from(is_compressed)];
    whole.extend((bytes.len() as u32).to_be_bytes());
    whole.extend(bytes);
    let mut frames = Vec::new();
    let mut pieces = whole.chunks(16_384).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
        frames.extend(frame(DATA, flags, stream, piece));
    }
    frames
}

/// A connection that was greeted.
pub struct Connection(pub TcpStream);

impl Connection {
    /// Connects and sends preface and SETTINGS.
    pub fn open(port: u16) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let _ = socket.write_all(&frame(SETTINGS, 0, 0, &[]));
        Self(socket)
    }

    /// Sends bytes; false once the server has closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame: kind, flags, stream and payload. `None` at the end.
    pub fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload))
    }

    /// The code with which the server says goodbye; `None` when it just closes.
    pub fn goodbye(&mut self) -> Option<u32> {
        loop {
            let (kind, _, _, payload) = self.frame()?;
            if kind == GOAWAY {
                return Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?));
            }
        }
    }

    /// Reads until a stream of the server ends; its HEADERS, DATA and trailers together.
    pub fn answer(&mut self, wanted: u32) -> Vec<u8> {
        let mut answer = Vec::new();
        while let Some((kind, flags, stream, payload)) = self.frame() {
            if kind == SETTINGS && flags == 0 {
                self.send(&frame(SETTINGS, 1, 0, &[]));
            }
            if stream == wanted {
                answer.extend(payload);
                if kind == RST_STREAM || flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        answer
    }
}
