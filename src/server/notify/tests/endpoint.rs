//! An endpoint, for the tests here and in `tests/it`: it speaks HTTP over a plain or a TLS socket
//! and does what the test says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Request line and headers.
    pub head: String,
    pub body: String,
}

impl Request {
    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// A header's value; the empty text when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answer with this status and body.
    Answer(u16, String),
    /// Answer with this status and this header.
    Header(u16, &'static str),
    /// Answer 302 to this address.
    Redirect(String),
    /// Answer 200, promise more than is sent, and close.
    HalfWay,
    /// Close without an answer.
    Close,
    /// Hold the connection open and say nothing.
    Hang,
}

impl Act {
    pub(crate) fn ok() -> Self {
        Self::Answer(200, "thanks".to_owned())
    }
}

/// A listening endpoint. Its threads end with the test's process.
pub(crate) struct Endpoint {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    /// `act` is called with each request and its number from 0.
    pub(crate) fn start(act: impl Fn(&Request, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), None, act)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        tls: Option<native_tls::TlsAcceptor>,
        act: impl Fn(&Request, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, act, tls) = (Arc::clone(&requests), Arc::new(act), tls.map(Arc::new));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, act, tls) = (Arc::clone(&seen), Arc::clone(&act), tls.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    match tls {
                        None => serve(stream, &seen, &*act),
                        Some(tls) => {
                            // A client that does not trust the certificate ends here.
                            let Ok(stream) = tls.accept(stream) else { return };
                            serve(stream, &seen, &*act);
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits for so many requests.
    pub(crate) fn wait(&self, count: usize) -> Vec<Request> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < deadline, "{} of {count} requests came", requests.len());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve<S: Read + Write>(
    mut stream: S,
    seen: &Mutex<Vec<Request>>,
    act: &dyn Fn(&Request, usize) -> Act,
) {
    let Some(request) = read_request(&mut stream) else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let answer = match act(&request, number) {
        Act::Answer(status, body) => format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        Act::Header(status, header) => {
            format!("HTTP/1.1 {status} Said\r\n{header}\r\nContent-Length: 0\r\n\r\n")
        }
        Act::Redirect(to) => {
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
        }
        Act::HalfWay => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
        Act::Close => return,
        Act::Hang => {
            // Ends when the other side gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

fn read_request<S: Read>(stream: &mut S) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let request = Request { head, body: String::new() };
            let length: usize = request.header("content-length").parse().unwrap_or(0);
            while bytes.len() < end + 4 + length {
                let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(&buffer[..count]);
            }
            let body = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
            return Some(Request { body, ..request });
        }
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}
