//! A small client of HTTP/1.1 (RFC 9112) for exporters on the host's own addresses: one GET, with a
//! deadline and a limit on everything that comes back.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use crate::base::cli::VERSION;
use crate::base::limits::SCRAPE_BYTES_MAX;

/// Bytes of a response's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one read.
const PIECE_BYTES: usize = 16 * 1024;

/// An `http://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port as they go into the `Host` header.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

impl Url {
    /// Parses `http://host[:port][/path]`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://");
        let rest = rest.ok_or("must begin with http://: exporters are read on the host itself")?;
        if rest.bytes().any(|byte| !byte.is_ascii_graphic()) || rest.contains('#') {
            return Err("must be visible ASCII without `#`".to_owned());
        }
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("must not hold a user or a password".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("invalid port {port:?}"))?)
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || port == 0 {
            return Err("must be http://host:port/path".to_owned());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { authority: authority.to_owned(), host, port, path })
    }

    /// The host's own addresses that the name stands for.
    fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let all = (self.host.as_str(), self.port).to_socket_addrs();
        let all = all.map_err(|error| format!("cannot resolve {}: {error}", self.host))?;
        let own: Vec<SocketAddr> = all.filter(is_own).collect();
        if own.is_empty() {
            return Err(format!("{} is not an address of this host", self.host));
        }
        Ok(own)
    }
}

/// Whether an address is one of this host: only to those can a socket be bound.
fn is_own(address: &SocketAddr) -> bool {
    let ip = address.ip();
    ip.is_loopback() || (!ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
}

/// The body of a GET, answered with 200 within `timeout`.
///
/// # Errors
///
/// Why there is none: no connection, no answer in time, another status, too many bytes.
pub(super) fn get(url: &Url, timeout: Duration) -> Result<String, String> {
    let deadline = Instant::now() + timeout;
    let mut last = String::new();
    for address in url.addresses()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return exchange(stream, url, deadline),
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err("no answer in time".to_owned()) } else { Ok(left) }
}

fn exchange(stream: TcpStream, url: &Url, deadline: Instant) -> Result<String, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: oxmon-agent/{VERSION}\r\n\
         Accept: text/plain;version=0.0.4\r\nConnection: close\r\n\r\n",
        url.path, url.authority
    );
    let said = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    stream.set_write_timeout(Some(left(deadline)?)).map_err(said)?;
    (&stream).write_all(request.as_bytes()).map_err(said)?;
    let mut reader = Reader { stream, deadline, buffer: Vec::new(), at: 0 };
    let head = reader.head()?;
    let body = match Length::of(&head)? {
        Length::Bytes(bytes) => reader.exactly(bytes)?,
        Length::Chunks => reader.chunks()?,
        Length::UntilTheEnd => reader.until_closed()?,
    };
    String::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())
}

/// How a body ends (RFC 9112, section 6.3).
#[derive(Debug, PartialEq)]
enum Length {
    Bytes(usize),
    Chunks,
    UntilTheEnd,
}

impl Length {
    /// From a response's head.
    fn of(head: &str) -> Result<Self, String> {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let mut words = status.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        if !version.starts_with("HTTP/1.") {
            return Err("the answer is not HTTP/1.1".to_owned());
        }
        match words.next() {
            Some("200") => {}
            other => return Err(format!("answered with status {}", other.unwrap_or("none"))),
        }
        let mut length = Self::UntilTheEnd;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(format!("unknown transfer encoding {value:?}"));
                }
                return Ok(Self::Chunks);
            }
            if name.eq_ignore_ascii_case("content-length") {
                let bytes = value.parse().map_err(|_| "invalid Content-Length".to_owned())?;
                if bytes > SCRAPE_BYTES_MAX {
                    return Err(too_large());
                }
                length = Self::Bytes(bytes);
            }
        }
        Ok(length)
    }
}

fn too_large() -> String {
    format!("the answer has more than {SCRAPE_BYTES_MAX} bytes")
}

/// A connection that is read up to a deadline.
struct Reader {
    stream: TcpStream,
    deadline: Instant,
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Reads some more; false at the end.
    fn more(&mut self) -> Result<bool, String> {
        if self.at > PIECE_BYTES {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => error.to_string(),
        };
        self.stream.set_read_timeout(Some(left(self.deadline)?)).map_err(failed)?;
        let before = self.buffer.len();
        self.buffer.resize(before + PIECE_BYTES, 0);
        let read = self.stream.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(failed(error)),
        }
    }

    /// The text before `end`, which is read past; `most` bytes at the most.
    fn until(&mut self, end: &[u8], most: usize) -> Result<String, String> {
        let mut from = self.at;
        loop {
            let found = self.buffer[from..].windows(end.len()).position(|window| window == end);
            if let Some(found) = found {
                let text = String::from_utf8_lossy(&self.buffer[self.at..from + found]);
                let text = text.into_owned();
                self.at = from + found + end.len();
                return Ok(text);
            }
            if self.buffer.len() - self.at > most {
                return Err("the head of the answer is too large".to_owned());
            }
            let seen = self.buffer.len() - self.at;
            if !self.more()? {
                return Err("the answer ends early".to_owned());
            }
            // The end may have begun in what was there before.
            from = self.at + seen.saturating_sub(end.len() - 1);
        }
    }

    fn head(&mut self) -> Result<String, String> {
        self.until(b"\r\n\r\n", HEAD_BYTES_MAX)
    }

    fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() - self.at < bytes {
            if !self.more()? {
                return Err("the answer ends early".to_owned());
            }
        }
        let body = self.buffer[self.at..self.at + bytes].to_vec();
        self.at += bytes;
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n", HEAD_BYTES_MAX)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16);
            let size = size.map_err(|_| "invalid size of a chunk".to_owned())?;
            if size == 0 {
                return Ok(body);
            }
            if size > SCRAPE_BYTES_MAX || body.len() + size > SCRAPE_BYTES_MAX {
                return Err(too_large());
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err("a chunk without its end".to_owned());
            }
        }
    }

    fn until_closed(&mut self) -> Result<Vec<u8>, String> {
        while self.more()? {
            if self.buffer.len() - self.at > SCRAPE_BYTES_MAX {
                return Err(too_large());
            }
        }
        Ok(self.buffer[self.at..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    /// What a client gets from a server that answers with `answer`, in two pieces.
    fn answered(answer: &str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).unwrap();
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            let _ = stream.write_all(second.as_bytes());
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let url = Url::parse(&format!("http://127.0.0.1:{port}/metrics?a=b")).unwrap();
        let result = get(&url, Duration::from_secs(5));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        result
    }

    #[test]
    fn bodies_end_by_their_length_their_last_chunk_or_the_connections_end() {
        let ok = "HTTP/1.1 200 OK\r\n";
        let counted = format!("{ok}content-length: 5\r\n\r\nup 1\nrest");
        assert_eq!(answered(&counted).unwrap(), "up 1\n");
        let chunks =
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nup \r\n2\r\n1\n\r\n0\r\n\r\n");
        assert_eq!(answered(&chunks).unwrap(), "up 1\n");
        assert_eq!(answered(&format!("{ok}\r\nup 1\n")).unwrap(), "up 1\n");
    }

    #[test]
    fn other_answers_are_refused_with_a_reason() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (answer, why) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "status 404"),
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "not HTTP/1.1"),
            (format!("{ok}Content-Length: 10\r\n\r\nup 1"), "ends early"),
            (format!("{ok}Content-Length: 99999999999\r\n\r\n"), "more than"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n"), "more than"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "size of a chunk"),
            (format!("{ok}X: {}", "y".repeat(40_000)), "too large"),
        ] {
            let error = answered(&answer).unwrap_err();
            assert!(error.contains(why), "{answer:.60}: {error}");
        }
    }

    #[test]
    fn a_server_that_hangs_is_given_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://localhost:{port}")).unwrap();
        let started = Instant::now();
        let error = get(&url, Duration::from_millis(200)).unwrap_err();
        assert!(error.contains("in time") && started.elapsed() < Duration::from_secs(5), "{error}");
    }

    #[test]
    fn only_the_hosts_own_addresses_are_asked() {
        for (text, good) in [
            ("http://127.0.0.1:9100/metrics", true),
            ("http://[::1]:9100", true),
            ("http://localhost", true),
            ("https://localhost", false),
            ("http://u:p@localhost/", false),
            ("http://:1/", false),
            ("http://a b/", false),
            ("http://a:0/", false),
            ("http://a:x/", false),
        ] {
            assert_eq!(Url::parse(text).is_ok(), good, "{text}");
        }
        let url = Url::parse("http://192.0.2.1:80/").unwrap();
        let error = get(&url, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error, "192.0.2.1 is not an address of this host");
    }
}
