//! HTTP/1.1 as clients speak it: one connection for many requests, bodies in chunks, and the rest
//! of what a browser, curl or a proxy counts on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::server::Server;
use crate::support::{signal, wait_exit};

const LOGIN: &str = r#"{"username":"admin","password":"changeme"}"#;

/// A connection that is read answer by answer.
struct Raw(BufReader<TcpStream>);

impl Raw {
    fn open(server: &Server) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", server.http_port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(socket))
    }

    fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Status, head and body of the next answer.
    fn read(&mut self, has_body: bool) -> (u16, String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head).expect("the server answers");
            assert!(read > 0, "the connection ended after {head:?}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if has_body { length } else { 0 }];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap())
    }

    fn is_over(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

fn curl(arguments: &[&str]) -> String {
    let out = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output();
    let out = out.expect("curl runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "curl {arguments:?}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn requests_in_one_piece_are_answered_in_their_order() {
    let server = Server::start("");
    let mut raw = Raw::open(&server);
    let login = format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{LOGIN}",
        LOGIN.len()
    );
    let head = "HEAD /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    raw.write(&format!("GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n{login}{head}{last}{last}"));
    let (status, _, body) = raw.read(true);
    assert!(status == 404 && body.contains("/v1/nothing"), "{body}");
    let (status, _, body) = raw.read(true);
    assert!(status == 200 && body.contains("\"token\""), "{body}");
    let (status, head, _) = raw.read(false);
    assert!(status == 200 && !head.contains("Content-Length: 0\r\n"), "{head}");
    let (status, head, body) = raw.read(true);
    assert!(status == 200 && head.contains("Connection: close\r\n"), "{head}");
    assert!(body.contains("agent_count"), "{body}");
    assert!(raw.is_over(), "what comes after `close` is not served");
}

#[test]
fn bodies_in_chunks_and_old_versions_are_understood() {
    let server = Server::start("");
    let mut raw = Raw::open(&server);
    let (front, back) = LOGIN.split_at(10);
    raw.write(&format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\na;x=y\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\nT: x\r\n\r\n",
        back.len()
    ));
    let (status, _, body) = raw.read(true);
    assert_eq!(status, 200, "{body}");
    raw.write("GET http://elsewhere.example/v1/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (status, head, _) = raw.read(true);
    assert!(status == 200 && head.contains("Connection: keep-alive\r\n"), "{head}");
    raw.write("GET /v1/health HTTP/1.0\r\n\r\n");
    let (status, head, _) = raw.read(true);
    assert!(status == 200 && head.contains("Connection: close\r\n"), "{head}");
    assert!(raw.is_over());
    let mut raw = Raw::open(&server);
    raw.write("GET /v1/health HTTP/2.0\r\nHost: x\r\n\r\n");
    assert_eq!(raw.read(true).0, 505);
}

#[test]
fn curl_keeps_its_connection() {
    let server = Server::start("");
    let health = format!("{}/v1/health", server.url());
    let format = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"];
    let urls = [health.as_str(), "-o", "/dev/null", &health, "-o", "/dev/null", &health];
    let said = curl(&[&format[..], &urls[..]].concat());
    assert_eq!(said, "200 1\n200 0\n200 0\n");
    let said = curl(&["-I", &health]);
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    // A POST without a body needs no length, since curl sends none.
    let said = curl(&["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}", &health]);
    assert_eq!(said, "405");
}

#[test]
fn curl_sends_large_bodies_when_it_is_told_to_go_on() {
    let server = Server::start("");
    let file = server.dir.path().join("body.json");
    let send = |bytes: usize, header: &str| {
        std::fs::write(&file, format!("{{\"username\": \"{}\"}}", "x".repeat(bytes))).unwrap();
        let body = format!("@{}", file.display());
        let url = format!("{}/v1/auth/login", server.url());
        let typed = ["-H", "Content-Type: application/json", "-H", header];
        let rest = ["-v", "--stderr", "-", "--data-binary", &body, "--expect100-timeout", "15"];
        let asked = Instant::now();
        let said = curl(&[&typed[..], &rest[..], &[&url]].concat());
        assert!(asked.elapsed() < Duration::from_secs(10), "curl waited for nothing:\n{said}");
        said
    };
    let said = send(1_000_000, "Expect: 100-continue");
    assert!(said.contains("< HTTP/1.1 100 Continue") && said.contains("< HTTP/1.1 400"), "{said}");
    // One over the limit is refused before it was sent.
    let said = send(3_000_000, "Expect: 100-continue");
    assert!(said.contains("< HTTP/1.1 413") && !said.contains("100 Continue"), "{said}");
    // The same without asking first: the answer still gets through.
    let said = send(1_000_000, "Transfer-Encoding: chunked");
    assert!(said.contains("< HTTP/1.1 400"), "{said}");
    let said = send(3_000_000, "Expect:");
    assert!(said.contains("< HTTP/1.1 413"), "{said}");
}

#[test]
fn stopping_answers_what_has_come_in_and_waits_for_nobody_else() {
    const LOGINS: usize = 40;
    let mut server = Server::start("");
    let idle: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(("127.0.0.1", server.http_port)).unwrap()).collect();
    let mut kept = Raw::open(&server);
    kept.write("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read(true).0, 200);
    let half = Raw::open(&server).0.get_mut().write_all(b"GET /v1/hea");
    // Logins take a while each, so that one of these is under way whenever the server stops.
    let login = format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{LOGIN}",
        LOGIN.len()
    );
    kept.write(&login.repeat(LOGINS));
    signal(&server.child, "TERM");
    let asked = Instant::now();
    let told = (0..LOGINS).any(|_| {
        let (status, head, _) = kept.read(true);
        assert_eq!(status, 200, "{head}");
        head.contains("Connection: close\r\n")
    });
    assert!(told, "every login was answered by a server that should have stopped");
    assert!(kept.is_over());
    let ended = wait_exit(&mut server.child, Duration::from_secs(10));
    assert!(ended.success() && asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    drop((idle, half));
}

#[test]
fn inner_sockets_have_no_name_or_a_private_one() {
    let server = Server::start("");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let own: Vec<String> = fds
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
        .collect();
    // The kernel goes on to show the name that a socket once had.
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let named = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let named = named.filter(|parts| parts.len() > 7 && own.iter().any(|own| own == parts[6]));
    // An end that is connected to the core is named after its client, and nobody can connect to it.
    let named = named.filter(|parts| !(parts[5] == "03" && parts[7].starts_with("@oxmon-")));
    let paths: Vec<String> = named.map(|parts| parts[7].to_owned()).collect();
    assert!(paths.iter().any(|path| path.ends_with("/http")), "{paths:?}");
    for path in &paths {
        let folder = Path::new(path).parent().unwrap();
        if path.ends_with("/http") {
            assert!(!folder.exists(), "{} is still there", folder.display());
        } else {
            // The C core's: each client's connection has one of its own to it.
            let mode = std::fs::metadata(folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{path}");
        }
    }
}

#[test]
fn a_call_without_a_body_needs_no_length() {
    let mut server = Server::start("");
    server.get("/v1/agents");
    let token = server.token().unwrap().to_owned();
    for path in ["/v1/system/storage/cleanup", "/v1/certs/check"] {
        let mut line = Raw::open(&server);
        line.write(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        let (status, _, body) = line.read(true);
        assert_eq!(status, 200, "{path}: {body}");
    }
}
