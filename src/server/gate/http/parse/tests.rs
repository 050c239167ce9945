use super::*;

/// What the gate makes of `text`, as it comes in pieces of `step` bytes.
fn read(text: &[u8], step: usize) -> Result<Option<Head>, Refusal> {
    let (mut scanner, mut input) = (Scanner::default(), Vec::new());
    for piece in text.chunks(step) {
        input.extend_from_slice(piece);
        if let Some(end) = scanner.scan(&input)? {
            return parse(&input[..end]).map(Some);
        }
    }
    Ok(None)
}

fn head(backends: &str) -> Result<Head, Refusal> {
    let text = format!("{}\r\n\r\n", backends.replace('\n', "\r\n"));
    read(text.as_bytes(), 7).map(|head| head.expect("the head has its end"))
}

fn malformed(outcome: Result<impl std::fmt::Debug, Refusal>, what: &str) {
    assert!(matches!(outcome, Err(Refusal::Malformed(_))), "{what:?}: {outcome:?}");
}

#[test]
fn a_head_is_the_same_however_it_arrives() {
    let text = b"POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\
        accept-encoding:  br \r\nContent-Type: application/json\r\nContent-Length: 12\r\n\
        Expect: 100-continue\r\nX-Name: caf\xe9\r\nX-Oxmon-Client: 203.0.113.1\r\n\r\nbody";
    let expected = Head {
        method: "POST".to_owned(),
        target: "/v1/x?a=b".to_owned(),
        headers: vec![
            ("accept-encoding", "gzip, br".to_owned()),
            ("content-type", "application/json".to_owned()),
        ],
        host: Some("h".to_owned()),
        hops: Hops::default(),
        framing: Framing::Length(12),
        body_max: 1024 * 1024,
        is_http_1_0: false,
        keep_alive: true,
        expects_continue: true,
    };
    for step in 1..text.len() {
        assert_eq!(read(text, step), Ok(Some(expected.clone())), "in pieces of {step}");
    }
    assert_eq!(read(&text[..text.len() - 5], 9), Ok(None));
}

#[test]
fn every_part_has_its_limit_on_the_way_in() {
    let url = "a".repeat(HTTP_URL_BYTES_MAX);
    assert_eq!(read(format!("GET /{url}").as_bytes(), 64), Err(Refusal::LongUrl));
    let fits = "a".repeat(HTTP_URL_BYTES_MAX - "GET / HTTP/1.1\r\n".len());
    assert!(head(&format!("GET /{fits} HTTP/1.1\nHost: h")).is_ok());
    let headers = "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(400);
    let large = format!("GET / HTTP/1.1\r\n{headers}");
    assert_eq!(read(large.as_bytes(), 64), Err(Refusal::LargeHeaders));
    for length in ["1048577", "99999999999999999999999999"] {
        let text = format!("PUT / HTTP/1.1\nHost: h\nContent-Length: {length}");
        assert_eq!(head(&text).unwrap_err(), Refusal::LargeBody(1024 * 1024));
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let cases = [
        "GET / HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Length: 6",
        "GET / HTTP/1.1\nHost: h\nContent-Length: 5\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "GET / HTTP/1.0\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\nHost: h\nContent-Length: +5",
        "GET / HTTP/1.1\nHost: h\nContent-Length: 5, 5",
        "GET / HTTP/1.1\nHost: h\nContent-Length: 0x5",
        "GET / HTTP/1.1\nHost: h\nContent-Length:",
        "GET / HTTP/1.1\nHost: h\nContent-Length : 5",
        "GET / HTTP/1.1\nHost: h\nX: a\n  folded",
        "GET / HTTP/1.1\n Host: h",
        "GET / HTTP/1.1\nHost: h\nno colon",
        "GET / HTTP/1.1\nHost: h\n: no name",
        "GET / HTTP/1.1\nHost: h\nna me: x",
        "GET / HTTP/1.1\nHost: h\nHost: g",
        "GET / HTTP/1.1\nHost: h\nAuthorization: a\nAuthorization: b",
        "GET / HTTP/1.1\nHost: h\nAuthorization: caf\u{e9}",
        "GET / HTTP/1.1",
    ];
    for case in cases {
        malformed(head(case), case);
    }
    let coding = "PUT / HTTP/1.1\nHost: h\nTransfer-Encoding: ";
    assert_eq!(head(&format!("{coding}gzip, chunked")).unwrap_err(), Refusal::Coding);
    assert_eq!(head(&format!("{coding}chunked, identity")).unwrap_err(), Refusal::Coding);
    let raw: [&[u8]; 6] = [
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \x7f\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for text in raw {
        malformed(read(text, 3), &String::from_utf8_lossy(text));
    }
}

#[test]
fn the_first_line_is_a_method_a_target_and_a_version() {
    let lines = [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET / HTTQ/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "G@T / HTTP/1.1",
        " / HTTP/1.1",
        "GET x HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT h:80 HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
    ];
    for line in lines {
        malformed(head(&format!("{line}\nHost: h")), line);
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2"] {
        let text = format!("GET / {version}\nHost: h");
        assert_eq!(head(&text).unwrap_err(), Refusal::Version, "{version}");
    }
    let targets = [
        ("/", "/"),
        ("//x", "//x"),
        ("http://h", "/"),
        ("HTTP://h:8080/a?b", "/a?b"),
        ("https://h?b", "/?b"),
    ];
    for (sent, read) in targets {
        let target = head(&format!("GET {sent} HTTP/1.1\nHost: h")).unwrap().target;
        assert_eq!(target, read, "{sent}");
    }
    assert_eq!(head("OPTIONS * HTTP/1.1\nHost: h").unwrap().target, "*");
}

#[test]
fn a_connection_goes_on_as_its_version_and_its_header_say() {
    let keeps = |lines: &str| head(lines).unwrap().keep_alive;
    assert!(keeps("GET / HTTP/1.1\nHost: h"));
    assert!(!keeps("GET / HTTP/1.1\nHost: h\nConnection: x, Close"));
    assert!(!keeps("GET / HTTP/1.0"));
    assert!(keeps("GET / HTTP/1.0\nConnection: Keep-Alive"));
    assert!(!keeps("GET / HTTP/1.0\nConnection: keep-alive\nConnection: close"));
}

#[test]
fn a_body_needs_a_length_and_no_body_needs_none() {
    let framing = |lines: &str| head(lines).map(|head| head.framing);
    let typed = "POST / HTTP/1.1\nHost: h\nContent-Type: application/json";
    assert_eq!(framing(typed), Err(Refusal::NoLength));
    assert_eq!(framing("POST / HTTP/1.1\nHost: h"), Ok(Framing::Empty));
    assert_eq!(framing(&format!("{typed}\nContent-Length: 0")), Ok(Framing::Empty));
    let chunked = format!("{typed}\nTransfer-Encoding: Chunked");
    assert_eq!(framing(&chunked), Ok(Framing::Chunked));
    let expects = |value| head(&format!("{typed}\nContent-Length: 1\nExpect: {value}"));
    assert!(expects("100-Continue").unwrap().expects_continue);
    assert_eq!(expects("200-ok").unwrap_err(), Refusal::Expectation);
}
