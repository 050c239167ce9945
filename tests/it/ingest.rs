//! The rules of the wire, broken one by one, on a running server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use grpcio::RpcStatusCode;
use oxmon::base::clock::{DAY_MS, HOUR_MS};
use serde_json::json;

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;

#[test]
fn a_bad_batch_is_refused_whole_and_a_bad_point_alone() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    let now = now_ms();

    let reply = client.report(&batch("", now, &[("a", 1.0)])).unwrap();
    assert!(!reply.success && reply.message.contains("agent_id"), "{}", reply.message);
    let reply = client.report(&batch("a", now, &[])).unwrap();
    assert!(!reply.success && !reply.message.is_empty());
    let reply = client.report(&batch(&"a".repeat(200), now, &[("a", 1.0)])).unwrap();
    assert!(!reply.success, "{}", reply.message);
    let many: Vec<(String, f64)> = (0..10_001).map(|n| (format!("m.{n}"), 1.0)).collect();
    let many: Vec<(&str, f64)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let reply = client.report(&batch("a", now, &many)).unwrap();
    assert!(!reply.success && reply.message.contains("10001"), "{}", reply.message);

    let mut mixed = batch(
        "mixed",
        now,
        &[
            ("good", 1.0),
            ("nan", f64::NAN),
            ("inf", f64::INFINITY),
            ("", 2.0),
            ("past", 3.0),
            ("far", 4.0),
        ],
    );
    mixed.data_points[4].timestamp_ms = 0;
    mixed.data_points[5].timestamp_ms = 4_102_444_800_000;
    let reply = client.report(&mixed).unwrap();
    assert!(reply.success, "{}", reply.message);
    assert!(reply.message.contains('5'), "five points were rejected: {}", reply.message);
    let rows = server.get("/v1/agents/mixed/latest");
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["metric_name"], "good");
    let days: Vec<String> = std::fs::read_dir(server.data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!days.iter().any(|name| name.starts_with("2100") || name.starts_with("1970")));
}

#[test]
fn the_same_batch_twice_is_stored_once() {
    let mut server = Server::start("");
    let client = Client::to(server.grpc_port);
    let at = now_ms() - HOUR_MS;
    let sent = batch("twice", at, &[("a", 1.0), ("b", 2.0)]);
    for _ in 0..3 {
        assert!(client.report(&sent).unwrap().success);
    }
    let answer = server.call("GET", "/v1/metrics?agent_id__eq=twice", None);
    assert_eq!(answer.total, Some(2), "{}", answer.body);
}

#[test]
fn an_agent_of_two_days_ago_lands_in_its_own_day() {
    let mut server = Server::start("");
    let at = now_ms() - 2 * DAY_MS;
    assert!(
        Client::to(server.grpc_port).report(&batch("late", at, &[("a", 7.0)])).unwrap().success
    );
    let day = oxmon::base::clock::utc_day(at);
    assert!(server.data().join(format!("{day}.db")).is_file());
    let rows = server.get("/v1/metrics?agent_id__eq=late");
    assert_eq!(rows[0]["value"], 7.0);
}

#[test]
fn tokens_decide_who_may_report() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let token = format!("Bearer {}", made["token"].as_str().unwrap());
    let client = Client::to(server.grpc_port);
    let sent = batch("web-01", now_ms(), &[("a", 1.0)]);
    let code = |metadata: &[(&str, &str)]| {
        client.report_with(&sent, metadata).map(|reply| reply.success).map_err(|s| s.code())
    };
    assert_eq!(code(&[]), Err(RpcStatusCode::UNAUTHENTICATED));
    let wrong = [("authorization", "Bearer wrong"), ("agent-id", "web-01")];
    assert_eq!(code(&wrong), Err(RpcStatusCode::UNAUTHENTICATED));
    let right = [("authorization", token.as_str()), ("agent-id", "web-01")];
    assert_eq!(code(&right), Ok(true));

    let foreign = batch("web-02", now_ms(), &[("a", 1.0)]);
    let status = client.report_with(&foreign, &right).unwrap_err();
    assert_eq!(status.code(), RpcStatusCode::PERMISSION_DENIED);
    let mut foreign = batch("web-01", now_ms(), &[("a", 1.0)]);
    foreign.data_points[0].agent_id = "web-02".into();
    let status = client.report_with(&foreign, &right).unwrap_err();
    assert_eq!(status.code(), RpcStatusCode::PERMISSION_DENIED);

    let id = made["id"].as_str().unwrap();
    let new = server.post(&format!("/v1/agents/whitelist/{id}/token"), json!({}));
    assert_eq!(code(&right), Err(RpcStatusCode::UNAUTHENTICATED), "the old token is cut off");
    let token = format!("Bearer {}", new["token"].as_str().unwrap());
    assert_eq!(code(&[("authorization", token.as_str()), ("agent-id", "web-01")]), Ok(true));
    assert!(!server.log().contains(new["token"].as_str().unwrap()), "a token is in the log");
}

#[test]
fn garbage_on_either_port_stops_nobody() {
    let mut server = Server::start("");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for port in [server.grpc_port, server.http_port] {
        for round in 0..20 {
            let bytes: Vec<u8> = (0..(round * 97))
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state & 0xff) as u8
                })
                .collect();
            let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // The server may close while it is written to.
            let _ = socket.write_all(&bytes);
            let _ = socket.read(&mut [0; 512]);
        }
    }
    let client = Client::to(server.grpc_port);
    assert!(client.report(&batch("after", now_ms(), &[("a", 1.0)])).unwrap().success);
    assert_eq!(server.get("/v1/agents/after/latest")[0]["value"], 1.0);
}
