//! Clients that mean no good, or are broken: others must not notice. Every server has
//! the address space of its unit's memory and no more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::server::Server;
use crate::support::wait_for;

/// A health call on a connection of its own must answer within a second.
fn healthy(server: &Server) {
    let asked = Instant::now();
    let answer = server.try_call("GET", "/v1/health", None).expect("the server answers");
    assert_eq!(answer.status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "health took {:?}", asked.elapsed());
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.http_port)).expect("the port takes connections")
}

/// What the server says on a raw connection until it closes it, or for a while.
fn ask(server: &Server, request: &[u8]) -> String {
    let mut socket = connect(server);
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may answer and close before it has read everything.
    let _ = socket.write_all(request);
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read) = socket.read(&mut piece) {
        said.extend_from_slice(&piece[..read]);
        if read == 0 || said.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn two_thousand_silent_connections_stop_nobody() {
    let server = Server::start_in_budget("");
    let silent: Vec<TcpStream> = (0..2_000).map(|_| connect(&server)).collect();
    healthy(&server);
    for mut socket in &silent[..200] {
        socket.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n").unwrap();
    }
    healthy(&server);
    drop(silent);
    healthy(&server);
}

#[test]
fn connections_over_the_limit_take_the_place_of_the_longest_silent() {
    let server = Server::start_in_budget("");
    // A process may have to ask for as many descriptors as it is allowed to have.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut silent: Vec<TcpStream> = (0..4_300).map(|_| connect(&server)).collect();
    // On a connection of its own: those that were kept are the longest silent ones.
    let said = ask(&server, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let ended = |socket: &mut TcpStream| {
        socket.set_nonblocking(true).unwrap();
        matches!(socket.read(&mut [0; 16]), Ok(0))
    };
    let count =
        silent.iter_mut().take(200).filter_map(|socket| ended(socket).then_some(())).count();
    assert_eq!(count, 200, "the first ones went");
    let last = silent.last_mut().unwrap();
    assert!(!ended(last), "the last one stays");
}

#[test]
fn clients_that_trickle_are_cut_off_and_stop_nobody() {
    let server = Server::start_in_budget("");
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(&server)).collect();
    for socket in &mut slow {
        socket
            .write_all(b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
            .unwrap();
        socket.set_nonblocking(true).unwrap();
    }
    // A byte a fifth of a second keeps each busy for longer than a request may take.
    wait_for("the first to be cut off", Duration::from_secs(45), || {
        healthy(&server);
        let tick = Instant::now() + Duration::from_millis(200);
        wait_for("a moment", Duration::from_secs(1), || (Instant::now() >= tick).then_some(()));
        let mut cut = 0;
        for socket in &mut slow {
            let closed = socket.write_all(b" ").is_err();
            let ended = !matches!(socket.read(&mut [0; 256]), Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock);
            cut += usize::from(closed || ended);
        }
        (cut == slow.len()).then_some(())
    });
    healthy(&server);
}

#[test]
fn what_is_too_large_is_refused_with_its_status() {
    let server = Server::start_in_budget("");
    let long = "a".repeat(10_000);
    let said =
        ask(&server, format!("GET /v1/health?x={long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 414"), "{said}");
    let headers: String = (0..40).map(|n| format!("X-{n}: {}\r\n", "b".repeat(1_000))).collect();
    let said =
        ask(&server, format!("GET /v1/health HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    let said = ask(
        &server,
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n",
    );
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let said = ask(
        &server,
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n",
    );
    assert!(said.starts_with("HTTP/1.1 411"), "{said}");
    healthy(&server);
}

#[test]
fn what_could_be_smuggled_is_refused_and_nothing_of_it_served() {
    let server = Server::start_in_budget("log_level = \"debug\"\n");
    let hidden = "GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let cases = [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 45", "", 400),
        ("Content-Length: 0\r\nContent-Length: 0", "", 400),
        ("Transfer-Encoding: chunked, identity", "0\r\n\r\n", 501),
        ("Transfer-Encoding: xchunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding : chunked", "0\r\n\r\n", 400),
        ("X: a\r\n Content-Length: 0", "", 400),
        ("X: a\nContent-Length: 0", "", 400),
        ("Transfer-Encoding: chunked", "1\nx\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", "-1\r\n\r\n", 400),
        ("Host: y", "", 400),
        ("Expect: a-miracle", "", 417),
    ];
    for (headers, body, status) in cases {
        let request = format!("POST /v1/health HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
        let said = ask(&server, format!("{request}{body}{hidden}").as_bytes());
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?}: {said}");
        assert!(said.contains("\r\nConnection: close\r\n"), "{headers:?}: {said}");
        assert!(said.contains("\r\nX-Trace-Id: "), "{headers:?}: {said}");
    }
    healthy(&server);
    wait_for("the last request in the log", Duration::from_secs(5), || {
        server.log().contains("GET /v1/health 200").then_some(())
    });
    assert!(!server.log().contains("smuggled"), "{}", server.log());
}

#[test]
fn nobody_gives_themselves_another_address() {
    let server = Server::start_in_budget("log_level = \"debug\"\n");
    let forged = "GET /v1/nothing HTTP/1.1\r\nHost: x\r\nX-Oxmon-Client: 203.0.113.9\r\n\
        x-oxmon-client: 203.0.113.9\r\nConnection: X-Oxmon-Client\r\n\r\n";
    let said = ask(&server, forged.as_bytes());
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    wait_for("the request in the log", Duration::from_secs(5), || {
        server.log().contains("GET /v1/nothing 404 127.0.0.1").then_some(())
    });
    assert!(!server.log().contains("203.0.113.9"), "{}", server.log());
}

#[test]
fn clients_that_read_nothing_stop_nobody() {
    let server = Server::start_in_budget("");
    let asked = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500);
    let mut deaf: Vec<TcpStream> = (0..5).map(|_| connect(&server)).collect();
    for socket in &mut deaf {
        set_socket_recv_buffer_size(&*socket, 4_096).unwrap();
        socket.write_all(asked.as_bytes()).unwrap();
    }
    // They are served until their sockets are full, and the others all the while.
    for _ in 0..50 {
        healthy(&server);
    }
}

#[test]
fn requests_over_the_queue_are_told_to_come_again() {
    let mut server = Server::start_in_budget("[pools]\nhttp_workers = 1\nhttp_queue = 1\n");
    let body = r#"{"username":"admin","password":"wrong"}"#;
    let request = format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Each takes the one worker as long as a password's hash takes.
    let mut sockets: Vec<TcpStream> = (0..20).map(|_| connect(&server)).collect();
    for socket in &mut sockets {
        socket.write_all(request.as_bytes()).unwrap();
    }
    let (mut served, mut refused) = (0, 0);
    for socket in &mut sockets {
        let mut said = String::new();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.read_to_string(&mut said).unwrap();
        match said.get(9..12) {
            Some("401" | "429") => served += 1,
            Some("503") => {
                assert!(said.contains("\r\nRetry-After: 1\r\n"), "{said}");
                assert!(said.contains("\"err_code\":1012"), "{said}");
                refused += 1;
            }
            _ => panic!("{said}"),
        }
    }
    assert!(served >= 2 && refused >= 1 && served + refused == 20, "{served} and {refused}");
    healthy(&server);
    server.get("/v1/health");
    let figures = server.call("GET", "/metrics", None).body.as_str().unwrap_or("").to_owned();
    let lines = [
        format!("oxmon_http_refused_total{{reason=\"queue_full\"}} {refused}\n"),
        format!("oxmon_http_answers_total{{status=\"5xx\"}} {refused}\n"),
        "oxmon_http_queue_depth 0\n".to_owned(),
        "oxmon_http_connections_closed_total{reason=\"slow_reader\"} 0\n".to_owned(),
    ];
    for line in lines {
        assert!(figures.contains(&line), "no {line} in\n{figures}");
    }
}

#[test]
fn answers_say_what_is_wrong_in_the_envelope() {
    let mut server = Server::start_in_budget("");
    server.get("/v1/agents");
    let cases = [
        ("GET", "/v1/nothing", None, 404, 1004),
        ("DELETE", "/v1/health", None, 405, 1008),
        ("GET", "/v1/agents?limit=", None, 400, 1001),
        ("GET", "/v1/agents?limit=1e3", None, 400, 1001),
        ("POST", "/v1/auth/login", Some(json!({"username": "", "password": "x"})), 400, 1001),
        ("POST", "/v1/auth/login", Some(json!({"username": "x", "password": ""})), 400, 1001),
        ("GET", "/v1/metrics?timestamp__gte=yesterday", None, 400, 1001),
        ("GET", "/v1/metrics?agent=web-01", None, 400, 1001),
        ("GET", "/v1/agents/nobody/latest", None, 404, 1004),
        ("POST", "/v1/agents/whitelist", Some(json!({"agent": "x"})), 400, 1001),
        ("POST", "/v1/certs/domains", Some(json!({"domain": "not a host"})), 400, 1102),
        ("POST", "/v1/certs/domains", Some(json!({"domain": "a.example", "port": 0})), 400, 1103),
        ("POST", "/v1/certs/domains/batch", Some(json!({"domains": []})), 400, 1104),
    ];
    for (method, path, body, status, code) in cases {
        let answer = server.call(method, path, body);
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{method} {path}: {}",
            answer.body
        );
        assert!(answer.body["trace_id"].as_str().is_some_and(|id| !id.is_empty()));
        assert!(answer.body["err_msg"].as_str().is_some_and(|text| text.len() > 5));
    }
}

#[test]
fn guesses_at_a_password_are_slowed_down() {
    let server = Server::start_in_budget("");
    let guess = json!({"username": "admin", "password": "wrong"});
    let slowed = wait_for("429", Duration::from_secs(30), || {
        let answer = server.try_call("POST", "/v1/auth/login", Some(guess.clone())).unwrap();
        match answer.status {
            401 => None,
            other => Some(other),
        }
    });
    assert_eq!(slowed, 429);
}
