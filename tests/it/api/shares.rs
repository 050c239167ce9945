//! What one client leaves for the others: workers, health, backtests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oxmon::wire::pb::metrics::MetricDataPointProto;
use serde_json::json;

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

/// A GET on a connection that stays open; its status.
fn get(socket: &mut BufReader<TcpStream>, path: &str, token: &str) -> u16 {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    socket.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).expect("the server answers in time");
        if line.starts_with("HTTP/1.1 ") {
            status = line[9..12].parse().unwrap();
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" || line.is_empty() {
            break;
        }
    }
    socket.read_exact(&mut vec![0; length]).unwrap();
    status
}

#[test]
fn many_workers_answer_many_clients_that_stay() {
    // Some times: whether a connection to a worker stayed unread was a matter of luck.
    for _ in 0..3 {
        let mut server = Server::start("[pools]\nhttp_workers = 16\nhttp_queue = 256\n");
        server.get("/v1/agents");
        let (port, token) = (server.http_port, server.token().unwrap().to_owned());
        let client = |_| {
            let token = token.clone();
            std::thread::spawn(move || {
                let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut socket = BufReader::new(socket);
                (0..20).filter(|_| get(&mut socket, "/v1/agents", &token) == 200).count()
            })
        };
        let clients: Vec<_> = (0..32).map(client).collect();
        for client in clients {
            assert_eq!(client.join().expect("every request is answered"), 20);
        }
    }
}

/// Has a webhook tested that answers when its receiver lets it; the receiver.
fn slow_webhook(server: &mut Server) -> (String, TcpListener) {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let made = server.post(
        "/v1/notifications/channels/config",
        json!({"name": "slow", "channel_type": "webhook", "config_json": {"url": url}}),
    );
    (format!("/v1/notifications/channels/{}/test", made["id"].as_str().unwrap()), receiver)
}

/// Reads a whole request and answers it.
fn respond(socket: &mut TcpStream) {
    let mut request = BufReader::new(&mut *socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        request.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    request.read_exact(&mut vec![0; length]).unwrap();
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
}

/// The status and seconds of a GET from another address.
fn curl_from(address: &str, server: &Server, path: &str) -> (String, Duration) {
    let asked = Instant::now();
    let out = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "8"])
        .args(["--interface", address, "-H"])
        .arg(format!("Authorization: Bearer {}", server.token().unwrap()))
        .arg(format!("{}{path}", server.url()))
        .output()
        .expect("curl runs");
    (String::from_utf8_lossy(&out.stdout).into_owned(), asked.elapsed())
}

#[test]
fn an_address_leaves_workers_to_others_and_health_has_its_own() {
    let mut server = Server::start("[pools]\nhttp_workers = 2\nhttp_queue = 4\n");
    let (path, receiver) = slow_webhook(&mut server);
    let token = server.token().unwrap().to_owned();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // One of two workers is this address' share; the second request waits.
        for _ in 0..2 {
            scope.spawn(|| {
                let answer = server.call_as(Some(&token), "POST", &path, None);
                assert_eq!(answer.status, 200, "{answer:?}");
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (mut first, _) = receiver.accept().unwrap();
        wait_for("the other request to wait", Duration::from_secs(10), || {
            let (status, took) = curl_from("127.0.0.3", &server, "/metrics");
            assert!(status == "200" && took < Duration::from_secs(2), "{status} after {took:?}");
            let text = server.try_call("GET", "/v1/health", None);
            assert_eq!(text.expect("health answers").status, 200);
            let asked = Command::new("curl")
                .args(["-s", "--interface", "127.0.0.3", "-H"])
                .arg(format!("Authorization: Bearer {token}"))
                .arg(format!("{}/metrics", server.url()))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&asked.stdout).into_owned();
            text.lines().any(|line| line == "oxmon_http_queue_depth 1").then_some(())
        });
        // Three of four places in the queue; what is more is refused.
        for _ in 0..2 {
            scope.spawn(|| {
                let answer = server.call_as(Some(&token), "GET", "/v1/agents", None);
                assert_eq!(answer.status, 200, "{answer:?}");
            });
        }
        wait_for("a request over the share", Duration::from_secs(10), || {
            let (status, _) = curl_from("127.0.0.1", &server, "/v1/health");
            assert_eq!(status, "200", "health is not of the share");
            let text = server.try_call("GET", "/v1/nothing", None)?;
            (text.status == 503).then_some(())
        });
        assert_eq!(done.load(Ordering::SeqCst), 0, "the slow ones are under way");
        respond(&mut first);
        respond(&mut receiver.accept().unwrap().0);
    });
    let text = server.call("GET", "/metrics", None).body.as_str().unwrap().to_owned();
    assert!(text.contains("oxmon_http_refused_total{reason=\"address_share\"}"), "{text}");
}

#[test]
fn backtests_in_a_loop_delay_nobody() {
    let mut server = Server::start("[cert_check]\nenabled = false\n");
    let client = Client::to(server.grpc_port);
    let start_ms = now_ms() - 3_600_000;
    for tick in 0..60 {
        let at_ms = start_ms + tick * 1_000;
        let points = (0..10)
            .flat_map(|host| (0..300).map(move |step| (format!("h{host}"), at_ms + step * 3)));
        let points = points.map(|(agent, at_ms)| {
            let mut point = MetricDataPointProto::new();
            (point.agent_id, point.timestamp_ms) = (agent, at_ms);
            (point.metric_name, point.value) = ("busy".to_owned(), 50.0);
            point
        });
        let mut report = batch("relay", at_ms, &[]);
        report.data_points = points.collect();
        assert!(client.report(&report).unwrap().success);
    }
    server.get("/v1/agents");
    let token = server.token().unwrap().to_owned();
    let body = json!({
        "rule_type": "no_data", "metric": "busy", "config_json": {"duration_secs": 60},
    });
    let (stop, answered, refused) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let path = "/v1/alerts/rules/test";
                    let answer = server.call_as(Some(&token), "POST", path, Some(body.clone()));
                    match answer.status {
                        200 => answered.fetch_add(1, Ordering::SeqCst),
                        429 => refused.fetch_add(1, Ordering::SeqCst),
                        status => panic!("{status}: {answer:?}"),
                    };
                }
            });
        }
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        wait_for("backtests to meet", Duration::from_secs(30), || {
            let asked = Instant::now();
            assert_eq!(server.try_call("GET", "/v1/health", None).unwrap().status, 200);
            slowest = slowest.max(asked.elapsed());
            let met = answered.load(Ordering::SeqCst) > 5 && refused.load(Ordering::SeqCst) > 5;
            (met && begun.elapsed() > Duration::from_secs(2)).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
        assert!(slowest < Duration::from_secs(1), "health took {slowest:?}");
    });
}

#[test]
fn newest_values_come_in_pages() {
    let mut server = Server::start("[cert_check]\nenabled = false\n");
    let names: Vec<String> = (0..1_200).map(|number| format!("m{number:04}")).collect();
    let points: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    let client = Client::to(server.grpc_port);
    assert!(client.report(&batch("wide", now_ms(), &points)).unwrap().success);
    let path = "/v1/agents/wide/latest";
    for (query, first, count) in [
        ("", "m0000", 1_000),
        ("?limit=5000", "m0000", 1_000),
        ("?limit=2&offset=1100", "m1100", 2),
    ] {
        let page = server.call("GET", &format!("{path}{query}"), None);
        let rows = page.data().as_array().unwrap();
        assert_eq!((rows.len(), page.total), (count, Some(1_200)), "{query}");
        assert_eq!(rows[0]["metric_name"], first, "{query}");
    }
    assert_eq!(server.get(&format!("{path}?offset=1199")).as_array().unwrap().len(), 1);
}
