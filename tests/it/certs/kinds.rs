//! Everything that can be wrong with a TLS server, each on an address of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Tls, check, server_with, text};
use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::{free_port, wait_for};

/// A server that does `act` with each connection, until the test ends.
fn endpoint(act: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(act));
    port
}

/// The kind, and that a sentence goes with it.
fn kind(seen: &Value) -> &str {
    assert_eq!(seen["is_valid"], false, "{seen}");
    assert!(seen["error"].as_str().is_some_and(|said| said.len() > 20), "{seen}");
    seen["error_kind"].as_str().unwrap()
}

#[test]
fn a_good_certificate_is_shown_with_all_that_it_says() {
    let pki = Pki::new();
    let names = "DNS:localhost,DNS:*.localhost,IP:127.0.0.2";
    let (pem, key) = pki.issue_below("between", "good", names);
    let chain = pki.path("between.pem");
    let tls = Tls::start_at("127.0.0.2", &pem, &key, &["-cert_chain", text(&chain)]);
    let mut server = server_with(&pki, "");
    let seen = check(&mut server, "127.0.0.2", tls.port);
    assert_eq!((&seen["is_valid"], &seen["chain_valid"]), (&json!(true), &json!(true)), "{seen}");
    assert_eq!((&seen["error"], &seen["error_kind"]), (&Value::Null, &Value::Null));
    assert_eq!(seen["issuer"], "CN=between");
    assert_eq!(seen["subject"], "CN=good");
    assert_eq!(seen["san_list"], json!(["localhost", "*.localhost", "127.0.0.2"]));
    assert_eq!(seen["resolved_ips"], json!(["127.0.0.2"]));
    assert_eq!(seen["addresses"][0]["is_valid"], true);
    assert!((19..=20).contains(&seen["days_until_expiry"].as_i64().unwrap()));

    let shown = server.get("/v1/certificates/127.0.0.2");
    assert_eq!(shown["fingerprint_sha256"], seen["addresses"][0]["fingerprint_sha256"]);
    assert_eq!(shown["ip_addresses"], json!(["127.0.0.2"]));
    assert_eq!((&shown["issuer_cn"], &shown["subject_cn"]), (&json!("between"), &json!("good")));
    assert_eq!((&shown["chain_depth"], &shown["version"]), (&json!(2), &json!(3)));
    assert_eq!(shown["tls_version"], "TLSv1.3");
    assert!(shown["cipher_suite"].as_str().unwrap().starts_with("TLS_"));
    assert_eq!(shown["signature_algorithm"], "ecdsa-with-SHA256");
    assert_eq!(
        (&shown["public_key_algorithm"], &shown["public_key_bits"]),
        (&json!("EC"), &json!(256))
    );
    assert_eq!((&shown["is_wildcard"], &shown["is_ca"]), (&json!(true), &json!(false)));
    assert_eq!(shown["sct_count"], 0);
    let chain = server.get(&format!("/v1/certificates/{}/chain", shown["id"].as_str().unwrap()));
    assert_eq!((&chain["chain_valid"], &chain["chain_error"]), (&json!(true), &Value::Null));
    assert_eq!(chain["domain"], "127.0.0.2");
}

#[test]
fn each_fault_of_a_certificate_has_its_kind() {
    let pki = Pki::new();
    let mut server = server_with(&pki, "");
    let mut look = |address: &str, pair: &(std::path::PathBuf, std::path::PathBuf)| {
        let tls = Tls::start_at(address, &pair.0, &pair.1, &[]);
        check(&mut server, address, tls.port)
    };
    let seen = look("127.0.0.3", &pki.issue("old", "IP:127.0.0.3", -2));
    assert_eq!((kind(&seen), &seen["chain_valid"]), ("expired", &json!(true)), "{seen}");
    assert!(seen["days_until_expiry"].as_i64().unwrap() < 0);

    let seen = look("127.0.0.4", &pki.issue_between("early", "IP:127.0.0.4", (2, 9)));
    assert_eq!((kind(&seen), &seen["chain_valid"]), ("not_yet_valid", &json!(true)), "{seen}");

    let seen = look("127.0.0.5", &pki.self_signed("own", "IP:127.0.0.5"));
    assert_eq!((kind(&seen), &seen["chain_valid"]), ("self_signed", &json!(false)), "{seen}");

    let seen = look("127.0.0.6", &pki.issue("other", "DNS:elsewhere.example,IP:127.0.0.60", 9));
    assert_eq!((kind(&seen), &seen["chain_valid"]), ("wrong_name", &json!(true)), "{seen}");
    assert!(seen["error"].as_str().unwrap().contains("elsewhere.example, 127.0.0.60"), "{seen}");

    let seen = look("127.0.0.7", &pki.issue_below("missing", "below", "IP:127.0.0.7"));
    assert_eq!((kind(&seen), &seen["chain_valid"]), ("unknown_issuer", &json!(false)), "{seen}");
    assert!(seen["error"].as_str().unwrap().contains("`CN=missing` is unknown"), "{seen}");

    let seen = look("127.0.0.8", &pki.issue("both", "DNS:elsewhere.example", -2));
    let said = seen["error"].as_str().unwrap();
    assert_eq!(kind(&seen), "expired");
    assert!(said.contains("expired") && said.contains("other names"), "all is said: {said}");

    let summary = server.get("/v1/certs/summary");
    let counts = json!({"total_domains": 6, "valid": 0, "invalid": 6, "expiring_soon": 0});
    assert_eq!(summary, counts);
    let chain = server.get("/v1/certificates/127.0.0.7/chain");
    assert!(chain["chain_error"].as_str().unwrap().contains("is unknown"), "{chain}");
    let chain = server.get("/v1/certificates/127.0.0.3/chain");
    assert_eq!((&chain["chain_valid"], &chain["chain_error"]), (&json!(true), &Value::Null));
}

#[test]
fn what_serves_no_certificate_is_told_apart() {
    let pki = Pki::new();
    let mut server = server_with(&pki, "");
    let mut look = |port: u16| {
        let domain = format!("127.0.0.1:{port}");
        let id = server.post("/v1/certs/domains", json!({"domain": domain}))["id"].clone();
        let id = id.as_str().unwrap();
        let seen = server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
        server.call("DELETE", "/v1/certs/domains/127.0.0.1", None);
        assert_eq!((&seen["not_after"], &seen["chain_valid"]), (&Value::Null, &json!(false)));
        seen
    };
    let plain = endpoint(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        // Ends when the other side has read it.
        let _ = stream.read(&mut [0; 4_096]);
    });
    let seen = look(plain);
    assert_eq!(kind(&seen), "not_tls", "{seen}");
    assert!(seen["error"].as_str().unwrap().contains("plain HTTP"), "{seen}");

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Instant::now();
    let seen = look(mute.local_addr().unwrap().port());
    assert_eq!(kind(&seen), "timeout", "{seen}");
    assert!(started.elapsed() < Duration::from_secs(8), "3 s were given: {:?}", started.elapsed());

    let seen = look(endpoint(drop));
    assert_eq!(kind(&seen), "closed", "{seen}");

    let seen = look(free_port());
    assert_eq!(kind(&seen), "connection_refused", "{seen}");

    let refusing = endpoint(|mut stream| {
        let _ = stream.read(&mut [0; 4_096]);
        // A fatal alert: handshake_failure.
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]);
        let _ = stream.read(&mut [0; 4_096]);
    });
    let seen = look(refusing);
    assert_eq!(kind(&seen), "handshake_refused", "{seen}");

    let seen = check(&mut server, "no-such-host.invalid", 443);
    assert_eq!(kind(&seen), "no_such_name", "{seen}");
    assert_eq!(seen["resolved_ips"], Value::Null);
    let answer = server.call("GET", "/v1/certificates/no-such-host.invalid", None);
    assert_eq!((answer.status, answer.code()), (404, 1105), "{}", answer.body);
}

#[test]
fn the_name_is_sent_so_that_the_right_certificate_is_served() {
    let pki = Pki::new();
    let (first, first_key) = pki.issue("default", "IP:127.0.0.1", 9);
    let (second, second_key) = pki.issue("named", "DNS:localhost", 9);
    let by_name = ["-servername", "localhost", "-cert2", text(&second), "-key2", text(&second_key)];
    let tls = Tls::start_at("127.0.0.1", &first, &first_key, &by_name);
    let mut server = server_with(&pki, "");
    let seen = check(&mut server, "localhost", tls.port);
    assert_eq!((&seen["is_valid"], &seen["subject"]), (&json!(true), &json!("CN=named")), "{seen}");
    let seen = check(&mut server, "127.0.0.1", tls.port);
    assert_eq!(
        (&seen["is_valid"], &seen["subject"]),
        (&json!(true), &json!("CN=default")),
        "{seen}"
    );
}

#[test]
fn a_endpoint_that_wants_a_certificate_of_its_clients_is_judged_by_its_own() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("strict", "IP:127.0.0.14,IP:127.0.0.15", 9);
    let mut server = server_with(&pki, "");
    for (address, version, extra) in
        [("127.0.0.14", "TLSv1.2", "-tls1_2"), ("127.0.0.15", "TLSv1.3", "-tls1_3")]
    {
        let tls = Tls::start_at(address, &pem, &key, &["-Verify", "1", extra]);
        let seen = check(&mut server, address, tls.port);
        assert_eq!(seen["is_valid"], true, "{seen}");
        assert_eq!(server.get(&format!("/v1/certificates/{address}"))["tls_version"], version);
    }
}

#[test]
fn calls_that_wait_for_checks_leave_workers_for_others() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::start(
        "[pools]\nhttp_workers = 3\n[cert_check]\nenabled = false\nconnect_timeout_secs = 4\n",
    );
    let domains = json!([
        {"domain": "localhost", "port": mute.local_addr().unwrap().port()},
        {"domain": "127.0.0.1", "port": free_port()},
    ]);
    server.post("/v1/certs/domains/batch", json!({"domains": domains}));
    std::thread::scope(|scope| {
        let server = &server;
        let waiting = scope.spawn(|| {
            server.try_call("POST", "/v1/certs/domains/localhost/check", Some(json!({}))).unwrap()
        });
        let _connection = mute.accept().unwrap();
        let other = server.try_call("POST", "/v1/certs/domains/127.0.0.1/check", Some(json!({})));
        let other = other.unwrap();
        assert_eq!((other.status, other.code()), (503, 1012), "{}", other.body);
        assert_eq!(server.try_call("GET", "/v1/health", None).unwrap().status, 200);
        assert!(!waiting.is_finished(), "all of this took less than the check");
        assert_eq!(waiting.join().unwrap().data()["error_kind"], "timeout");
    });
    let seen = server.post("/v1/certs/domains/127.0.0.1/check", json!({}));
    assert_eq!(seen["error_kind"], "connection_refused");
}

#[test]
fn endpoints_that_hang_hold_their_place_and_no_more_and_no_stop() {
    let pki = Pki::new();
    let (pem, key) = pki.issue("good", "DNS:localhost", 9);
    let tls = Tls::start(&pem, &key);
    let mute = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let mut server = Server::start(&format!(
        "[cert_check]\ntick_secs = 1\nconnect_timeout_secs = 60\nmax_concurrent = 3\n\
         ca_file = {:?}\n",
        pki.ca().display().to_string()
    ));
    let hanging: Vec<Value> =
        (1..=2).map(|n| json!({"domain": format!("127.0.1.{n}"), "port": port})).collect();
    server.post("/v1/certs/domains/batch", json!({"domains": hanging}));
    let _connections: Vec<_> = (0..2).map(|_| mute.accept().unwrap()).collect();
    let started = Instant::now();
    let seen = check(&mut server, "localhost", tls.port);
    assert_eq!(seen["is_valid"], true, "{seen}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(server.stop().success());
    server.restart();
    let left =
        wait_for("the checks that were cut short", Duration::from_secs(20), || mute.accept().ok());
    drop(left);
    let answer = server.call("GET", "/v1/certs/status/127.0.1.1", None);
    assert_eq!((answer.status, answer.code()), (404, 1105), "nothing was made up of it");
}

#[test]
fn a_common_name_alone_stands_for_no_host() {
    let pki = Pki::new();
    let (pem, key) = pki.issue_without_names("localhost");
    let tls = Tls::start(&pem, &key);
    let mut server = server_with(&pki, "");
    let seen = check(&mut server, "localhost", tls.port);
    assert_eq!(kind(&seen), "wrong_name", "{seen}");
    let said = seen["error"].as_str().unwrap();
    assert!(said.contains("no subject alternative name: clients ignore its common name"), "{said}");
    assert_eq!((&seen["subject"], &seen["chain_valid"]), (&json!("CN=localhost"), &json!(true)));
}
