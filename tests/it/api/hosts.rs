//! The names that the server answers to, and HSTS.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::support::pki::Pki;
use crate::support::server::Server;

/// Sends a head as it is; gives status and answer.
fn ask(server: &Server, head: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", server.http_port)).unwrap();
    socket.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

fn get(server: &Server, host: &str) -> u16 {
    ask(server, &format!("GET /v1/health HTTP/1.1\r\nHost: {host}")).0
}

#[test]
fn a_host_that_is_not_configured_gets_nothing_once_one_is() {
    let open = Server::start("");
    assert_eq!(get(&open, "anything.example"), 200);
    let server = Server::start("[http]\nallowed_hosts = [\"oxmon.example.com\"]\n");
    for host in
        ["oxmon.example.com", "OXMON.example.com.:8080", "localhost", "127.0.0.1:1", "[::1]"]
    {
        assert_eq!(get(&server, host), 200, "{host}");
    }
    for host in
        ["rebound.example", "oxmon.example.com.evil.example", "192.0.2.1", "a@localhost", ""]
    {
        assert_eq!(get(&server, host), 421, "{host}");
    }
    for path in ["/", "/v1/health", "/v1/openapi.json", "/api/v1/query?query=1", "/nothing"] {
        let (status, text) = ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: evil.example"));
        assert_eq!(status, 421, "{path}: {text}");
        assert!(text.contains("`evil.example` is not a name of this server"), "{text}");
        assert!(text.contains("http.allowed_hosts"), "{text}");
    }
    // The host of a whole URL goes before the header.
    let whole =
        |url: &str, host: &str| ask(&server, &format!("GET {url} HTTP/1.1\r\nHost: {host}")).0;
    assert_eq!(whole("http://evil.example/v1/health", "localhost"), 421);
    assert_eq!(whole("http://localhost/v1/health", "evil.example"), 200);
    // HTTP/1.0 names none, which no browser does.
    assert_eq!(ask(&server, "GET /v1/health HTTP/1.0").0, 200);
    let login = "POST /v1/auth/login HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0";
    assert_eq!(ask(&server, login).0, 421);
}

#[test]
fn hsts_is_sent_over_tls_alone_and_can_be_turned_off() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("server", "DNS:localhost,IP:127.0.0.1", 10);
    let head = |server: &Server| {
        let url = format!("{}/v1/health", server.url());
        let out = Command::new("curl").args(["-sSik", &url]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).to_ascii_lowercase()
    };
    let tls = format!("[tls]\ncert_file = {pem:?}\nkey_file = {key:?}\n");
    let said = head(&Server::start_tls(&tls));
    assert!(said.contains("strict-transport-security: max-age=31536000\r\n"), "{said}");
    let said = head(&Server::start_tls(&format!("{tls}hsts_secs = 0\n")));
    assert!(said.starts_with("http/1.1 200") && !said.contains("strict-transport"), "{said}");
    let said = head(&Server::start(""));
    assert!(said.starts_with("http/1.1 200") && !said.contains("strict-transport"), "{said}");
}
