//! A query ends when its client goes away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::receive::get_text;
use super::{data, server, start_ms, write_all};
use crate::support::wait_for;

/// Sorts seven thousand values seven thousand times, for each of twenty series.
const HEAVY: &str = "sum_over_time(quantile_over_time(0.5,lat_bucket[2h:1s])[2h:1s])";

fn running(url: &str, token: &str) -> String {
    let metrics = get_text(url, token, "/metrics");
    let line = metrics.lines().find(|line| line.starts_with("oxmon_promql_queries_active "));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or("none").to_owned()
}

fn ask(server: &str, token: &str) -> TcpStream {
    let address = server.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET /api/v1/query?query={HEAVY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("it is sent");
    socket
}

#[test]
fn a_query_ends_when_its_client_goes_away() {
    let (server, token) = server("[prometheus]\nagent_label = \"instance\"");
    let url = server.url();
    write_all(&url, &token, &data::all(start_ms()));
    let soon = Duration::from_secs(20);
    for half in [false, true] {
        let mut socket = ask(&url, &token);
        wait_for("a query", soon, || (running(&url, &token) == "1").then_some(()));
        let began = Instant::now();
        if half {
            // Who only ends its own side still gets an answer: that the query was given up.
            socket.shutdown(std::net::Shutdown::Write).expect("it ends");
        } else {
            socket.shutdown(std::net::Shutdown::Both).expect("it ends");
        }
        wait_for("its end", soon, || (running(&url, &token) == "0").then_some(()));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(15), "it went on for {took:?}");
        if half {
            let mut answer = String::new();
            socket.read_to_string(&mut answer).expect("an answer");
            assert!(answer.contains("503") && answer.contains("canceled"), "{answer}");
        }
    }
}
