use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use prometheus::Registry;

use super::*;

/// A client's two ends: the test's, which blocks, and the gate's, which does not.
struct Pair {
    far: TcpStream,
    client: Conn,
    cx: Context,
}

impl Pair {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (near, peer) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let cx = Context {
            now,
            scratch: vec![0; 1_024],
            metrics,
            render: crate::server::api::refusal::render,
            proxies: Proxies::default(),
            stopping: false,
        };
        Self { far, client: Conn::new(near, peer, None, now).unwrap(), cx }
    }

    /// Has the client go on until `done` takes what it needs.
    fn until<T>(&mut self, mut done: impl FnMut(Step) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(value) = done(self.client.advance(&mut self.cx)) {
                return value;
            }
            assert!(Instant::now() < limit, "the client does not get on");
            std::thread::yield_now();
        }
    }

    fn request(&mut self) -> Box<Request> {
        self.until(|step| match step {
            Step::Request(request) => Some(request),
            Step::Wait(Some(Interest::Read)) => None,
            other => panic!("no request but {other:?}"),
        })
    }

    fn answer(&mut self, body: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let bytes = format!("{head}{body}").into_bytes();
        self.client.answer(Response { client: 0, status: 200, bytes }, &self.cx);
    }

    /// What the peer reads until it is `end`, or until the connection's end.
    fn read(&mut self, end: &str) -> String {
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(end.as_bytes()) || end.is_empty() {
            match self.far.read(&mut byte) {
                Ok(1) => said.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8(said).unwrap()
    }

    fn pass(&mut self, secs: u64) {
        self.cx.now += Duration::from_secs(secs);
    }
}

#[test]
fn requests_that_come_together_are_asked_one_after_the_other() {
    let mut pair = Pair::new();
    let two = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\r\nPUT /b HTTP/1.1\r\nHost: h\r\n\
        Content-Length: 3\r\n\r\nxyz";
    pair.far.write_all(two).unwrap();
    assert_eq!(pair.request().head.target, "/a");
    // The second waits for the answer to the first.
    assert!(matches!(pair.client.advance(&mut pair.cx), Step::Wait(None)));
    pair.answer("one");
    let second = pair.request();
    assert_eq!((second.head.target.as_str(), second.body.as_slice()), ("/b", &b"xyz"[..]));
    pair.answer("two");
    assert!(matches!(pair.client.advance(&mut pair.cx), Step::Wait(Some(Interest::Read))));
    assert!(pair.read("one").starts_with("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"));
    assert!(pair.read("two").starts_with("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"));
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let mut pair = Pair::new();
    let head = b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    pair.far.write_all(head).unwrap();
    let mut far = pair.far.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut told = [0; CONTINUE.len()];
        far.read_exact(&mut told).unwrap();
        far.write_all(b"{}").unwrap();
        told
    });
    assert_eq!(pair.request().body, b"{}");
    assert_eq!(sender.join().unwrap(), CONTINUE);
}

#[test]
fn the_connection_header_fits_the_version() {
    let cases = [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", None, true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", Some("close"), false),
        ("GET / HTTP/1.0\r\n\r\n", Some("close"), false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive"), true),
    ];
    for (request, option, stays) in cases {
        let mut pair = Pair::new();
        pair.far.write_all(request.as_bytes()).unwrap();
        pair.request();
        pair.answer("body");
        pair.client.advance(&mut pair.cx);
        let said = pair.read("body");
        let header = option.map(|option| format!("\r\nConnection: {option}\r\n"));
        assert_eq!(said.contains("Connection"), header.is_some(), "{said}");
        assert!(header.is_none_or(|header| said.contains(&header)), "{said}");
        if !stays {
            assert_eq!(pair.read(""), "", "the connection ends");
        }
    }
}

#[test]
fn a_slow_request_gets_408_and_a_silent_one_nothing() {
    let mut silent = Pair::new();
    assert!(matches!(silent.client.advance(&mut silent.cx), Step::Wait(Some(Interest::Read))));
    silent.pass(HTTP_REQUEST_SECS_MAX - 1);
    assert!(!silent.client.is_late(silent.cx.now));
    silent.pass(1);
    assert!(silent.client.is_late(silent.cx.now));
    assert!(matches!(silent.client.expire(&mut silent.cx), Step::Close));

    let mut slow = Pair::new();
    slow.far.write_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx").unwrap();
    slow.pass(10);
    while slow.client.slow_since().is_none() {
        slow.client.advance(&mut slow.cx);
    }
    // A further byte gives no further time.
    slow.pass(10);
    slow.far.write_all(b"y").unwrap();
    slow.client.advance(&mut slow.cx);
    slow.pass(5);
    assert!(slow.client.is_late(slow.cx.now));
    slow.client.expire(&mut slow.cx);
    let said = slow.read("");
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("\r\nConnection: close\r\n"));
    assert!(said.contains("\"err_code\":1001") && said.contains("X-Trace-Id: "), "{said}");
}

#[test]
fn an_idle_connection_may_stay_longer_than_a_new_one() {
    let mut pair = Pair::new();
    pair.far.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    pair.request();
    assert!(pair.client.idle_since().is_none() && pair.client.is_owed());
    pair.pass(1_000);
    assert!(!pair.client.is_late(pair.cx.now), "a worker has no limit here");
    pair.answer("ok");
    pair.client.advance(&mut pair.cx);
    assert!(pair.client.idle_since() == Some(pair.cx.now) && !pair.client.is_owed());
    pair.pass(HTTP_IDLE_SECS_MAX - 1);
    assert!(!pair.client.is_late(pair.cx.now));
    pair.pass(1);
    assert!(pair.client.is_late(pair.cx.now));
    assert_eq!(pair.client.held(), 0, "an idle connection holds no memory");
}

#[test]
fn an_answer_that_nobody_takes_has_an_end() {
    let mut pair = Pair::new();
    pair.far.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    pair.request();
    pair.answer(&"x".repeat(32 * 1024 * 1024));
    assert!(matches!(pair.client.advance(&mut pair.cx), Step::Wait(Some(Interest::Write))));
    assert!(pair.client.held() >= 32 * 1024 * 1024 && pair.client.slow_since().is_some());
    pair.pass(HTTP_ANSWER_SECS_MAX);
    assert!(pair.client.is_late(pair.cx.now));
    assert!(matches!(pair.client.expire(&mut pair.cx), Step::Close));
}

#[test]
fn one_that_is_refused_is_heard_out_so_that_it_reads_why() {
    let mut pair = Pair::new();
    pair.far.write_all(b"GARBAGE\r\n\r\n").unwrap();
    pair.until(|step| matches!(step, Step::Wait(_)).then_some(()));
    pair.far.write_all(&[b'x'; 10_000]).unwrap();
    let said = pair.read("");
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    drop(pair.far.shutdown(std::net::Shutdown::Both));
    let limit = Instant::now() + Duration::from_secs(10);
    while !matches!(pair.client.advance(&mut pair.cx), Step::Close) {
        assert!(Instant::now() < limit);
    }
}
