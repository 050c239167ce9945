//! A connection to the HTTP library: one of a fixed number, each with one request at a time.
//!
//! ```text
//! gate ── GET /v1/health HTTP/1.1 ──────────► tiny_http ─► worker
//!         X-Oxmon-Client: 192.0.2.7
//!         authorization: …                  ◄─ HTTP/1.1 200 OK …
//! ```

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;

use super::parse::Head;
use crate::server::gate::stream::Interest;

/// The header with the client's address, which the gate adds.
pub(crate) const CLIENT: &str = "X-Oxmon-Client";

/// The header that says by which backend and of which connection a request came.
pub(crate) const TICKET: &str = "X-Oxmon-Ticket";

/// A complete request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its head.
    pub(crate) head: Head,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// The client's address, without its port.
    pub(crate) client: String,
    /// By which its requests are counted: of IPv6 the /64.
    pub(crate) address: IpAddr,
}

impl Request {
    /// The bytes that the HTTP library gets: written from what was parsed, not copied.
    fn encode(&self, ticket: &str) -> Vec<u8> {
        let Head { method, target, headers, host, .. } = &self.head;
        let mut text = format!("{method} {target} HTTP/1.1\r\n{CLIENT}: {}\r\n", self.client);
        if let Some(host) = host {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        text.push_str(&format!("{TICKET}: {ticket}\r\n"));
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Response {
    /// The connection whose request it answers.
    pub(crate) client: u64,
    /// Its status.
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) bytes: Vec<u8>,
}

/// A connection to the HTTP library.
pub(crate) struct Backend {
    stream: UnixStream,
    /// Its place among the backends.
    index: usize,
    /// The connection whose request is under way.
    client: Option<u64>,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    /// Bytes and status of the answer, once its head has arrived.
    expected: Option<(usize, u16)>,
    /// Whether the answer has no body whatever its head says.
    head_only: bool,
}

impl Backend {
    /// A backend over a connection.
    pub(crate) fn new(index: usize, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            index,
            client: None,
            request: Vec::new(),
            sent: 0,
            answer: Vec::new(),
            expected: None,
            head_only: false,
        })
    }

    /// The connection.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The connection whose request is under way.
    pub(crate) fn client(&self) -> Option<u64> {
        self.client
    }

    /// Whether it can take a request.
    pub(crate) fn is_free(&self) -> bool {
        self.client.is_none()
    }

    /// Takes a request, and writes as much of it as there is room for.
    ///
    /// # Errors
    ///
    /// When the library has closed the connection.
    pub(crate) fn send(&mut self, client: u64, request: &Request) -> io::Result<()> {
        self.client = Some(client);
        self.head_only = request.head.is_head();
        self.request = request.encode(&format!("{}.{client}", self.index));
        self.sent = 0;
        self.push()
    }

    /// What to wait for. A free backend waits too: its end means that a worker died.
    pub(crate) fn interest(&self) -> Interest {
        if self.sent < self.request.len() { Interest::Write } else { Interest::Read }
    }

    /// Writes and reads what it can; the answer when it is complete.
    ///
    /// # Errors
    ///
    /// When the library has closed the connection or its answer can't be parsed, which no checked
    /// request causes.
    pub(crate) fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Option<Response>> {
        self.push()?;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.answer.extend_from_slice(&scratch[..bytes]);
                    if let Some(answered) = self.take()? {
                        return Ok(Some(answered));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn push(&mut self) -> io::Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Option<Response>> {
        if self.expected.is_none() {
            self.expected = measure(&self.answer, self.head_only)?;
        }
        let Some((length, status)) = self.expected else { return Ok(None) };
        if self.answer.len() < length {
            return Ok(None);
        }
        let client = self.client.take().filter(|_| self.answer.len() == length);
        let client = client.ok_or(ErrorKind::InvalidData)?;
        self.expected = None;
        self.request = Vec::new();
        self.sent = 0;
        Ok(Some(Response { client, status, bytes: std::mem::take(&mut self.answer) }))
    }
}

/// Bytes and status of an answer, once its head is complete.
fn measure(answer: &[u8], head_only: bool) -> io::Result<Option<(usize, u16)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| ErrorKind::InvalidData)?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.ok_or(ErrorKind::InvalidData)?;
    let bodiless = head_only || matches!(status, 100..=199 | 204 | 304);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let length: usize = if bodiless { 0 } else { length.ok_or(ErrorKind::InvalidData)? };
    Ok(Some((end + 4 + length, status)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::server::gate::http::parse;

    fn whole(text: &[u8], body: &[u8]) -> Request {
        let head = parse::parse(text).unwrap();
        let address = IpAddr::from([192, 0, 2, 7]);
        Request { head, body: body.to_vec(), client: address.to_string(), address }
    }

    #[test]
    fn a_request_is_written_from_what_was_parsed() {
        let forged = b"POST /v1/x?y HTTP/1.1\r\nHost: h\r\nX-Oxmon-Client: 203.0.113.1\r\n\
            Connection: close\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n";
        let text = String::from_utf8(whole(forged, b"{}").encode("3.9")).unwrap();
        let expected = "POST /v1/x?y HTTP/1.1\r\nX-Oxmon-Client: 192.0.2.7\r\nHost: h\r\n\
            X-Oxmon-Ticket: 3.9\r\nauthorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for came in 0..text.len() - 5 {
            assert_eq!(measure(&text[..came], false).unwrap(), None);
        }
        assert_eq!(measure(text, false).unwrap(), Some((text.len(), 200)));
        assert_eq!(measure(text, true).unwrap(), Some((text.len() - 5, 200)));
        let same = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(measure(same, false).unwrap(), Some((same.len(), 304)));
        assert!(measure(b"HTTP/1.1 200 OK\r\n\r\n", false).is_err());
        assert!(measure(b"HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\n", false).is_err());
    }

    #[test]
    fn a_backend_carries_one_request_and_notices_its_end() {
        let (gate, mut library) = UnixStream::pair().unwrap();
        let mut backend = Backend::new(0, gate).unwrap();
        let mut scratch = [0; 64];
        backend.send(7, &whole(b"GET / HTTP/1.0\r\n\r\n", b"")).unwrap();
        assert!(backend.advance(&mut scratch).unwrap().is_none() && !backend.is_free());
        let read = library.read(&mut scratch).unwrap();
        assert!(scratch[..read].starts_with(b"GET / HTTP/1.1\r\n"));
        library.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        let answered = backend.advance(&mut scratch).unwrap().unwrap();
        assert_eq!((answered.client, answered.status, backend.is_free()), (7, 200, true));
        assert!(answered.bytes.ends_with(b"\r\n\r\nok"));
        drop(library);
        assert!(backend.advance(&mut scratch).is_err());
    }
}
