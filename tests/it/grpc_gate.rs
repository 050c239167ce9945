//! Clients of the gRPC port that mean no good. Every server here has the address space of its
//! unit's memory and no more; each case asserts its own, smaller bound too.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use grpcio::{CallOption, ChannelBuilder, EnvBuilder, Marshaller, MetadataBuilder, Method};
use grpcio::{MethodType, RpcStatusCode};
use serde_json::json;
use std::io::Write as _;

use crate::support::grpc::{Client, batch, now_ms};
use crate::support::h2::{self, Connection};
use crate::support::server::{Server, budget, program};
use crate::support::wait_for;

const REPORT: &str = "/oxmon.MetricService/ReportMetrics";
const PACKED: &str = "/oxmon.MetricService/ReportPacked";
const MIB: u64 = 1024 * 1024;

/// An agent that reports all the while: what it sends must be stored.
struct Agent {
    stop: Arc<AtomicBool>,
    stored: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(server: &Server, token: &str) -> Self {
        let (stop, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (port, bearer) = (server.grpc_port, format!("Bearer {token}"));
        let (until, counted) = (Arc::clone(&stop), Arc::clone(&stored));
        let thread = std::thread::spawn(move || {
            let client = Client::to(port);
            let metadata = [("agent-id", "web-01"), ("authorization", bearer.as_str())];
            while !until.load(Ordering::SeqCst) {
                let batch = batch("web-01", now_ms(), &[("cpu.usage", 1.0)]);
                let asked = Instant::now();
                let reply = client.report_with(&batch, &metadata).expect("a report is answered");
                assert!(reply.success, "{}", reply.message);
                assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let agent = Self { stop, stored, thread: Some(thread) };
        agent.goes_on();
        agent
    }

    /// Waits until further reports are stored.
    fn goes_on(&self) {
        let before = self.stored.load(Ordering::SeqCst);
        wait_for("reports to be stored", Duration::from_secs(20), || {
            let is_dead = self.thread.as_ref().is_none_or(|thread| thread.is_finished());
            assert!(!is_dead, "the agent's report failed");
            (self.stored.load(Ordering::SeqCst) > before + 3).then_some(())
        });
    }

    fn end(mut self) {
        self.goes_on();
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A server that wants tokens, one of them, and an agent that reports with it.
fn server() -> (Server, String, Agent) {
    let mut server = Server::start_in_budget("require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let token = made["token"].as_str().unwrap().to_owned();
    let agent = Agent::start(&server, &token);
    (server, token, agent)
}

/// The counter of connections that were closed for a reason.
fn closed(server: &mut Server, reason: &str) -> u64 {
    let text = server.call("GET", "/metrics", None).body.as_str().unwrap().to_owned();
    let name = format!("oxmon_grpc_connections_closed_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[allow(clippy::ptr_arg, reason = "the library's type of it")]
fn write_bytes(bytes: &Vec<u8>, to: &mut grpcio::GrpcSlice) -> grpcio::Result<()> {
    *to = bytes.clone().into();
    Ok(())
}

fn read_nothing(_: grpcio::MessageReader) -> grpcio::Result<()> {
    Ok(())
}

/// Sends bytes as the message of a call, and gives its status.
fn send(server: &Server, path: &'static str, bytes: Vec<u8>, token: Option<&str>) -> RpcStatusCode {
    let method = Method {
        ty: MethodType::Unary,
        name: path,
        req_mar: Marshaller { ser: write_bytes, de: |_| Err(grpcio::Error::RemoteStopped) },
        resp_mar: Marshaller { ser: |_: &(), _| Ok(()), de: read_nothing },
    };
    let channel = ChannelBuilder::new(Arc::new(EnvBuilder::new().cq_count(1).build()))
        .max_send_message_len(-1)
        .connect(&format!("127.0.0.1:{}", server.grpc_port));
    let mut metadata = MetadataBuilder::new();
    metadata.add_str("agent-id", "web-01").unwrap();
    if let Some(token) = token {
        metadata.add_str("authorization", &format!("Bearer {token}")).unwrap();
    }
    let options = CallOption::default()
        .wait_for_ready(true)
        .timeout(Duration::from_secs(30))
        .headers(metadata.build());
    match grpcio::Client::new(channel).unary_call(&method, &bytes, options) {
        Ok(()) => RpcStatusCode::OK,
        Err(grpcio::Error::RpcFailure(status)) => status.code(),
        Err(error) => panic!("the call broke: {error}"),
    }
}

#[test]
fn messages_that_unpack_to_much_cost_no_more_than_they_are() {
    let (server, token, agent) = server();
    let before = server.peak();
    let bearer = format!("Bearer {token}");
    let metadata = |with_token| {
        let all =
            [("grpc-encoding", "gzip"), ("agent-id", "web-01"), ("authorization", bearer.as_str())];
        if with_token { all.to_vec() } else { all[..1].to_vec() }
    };
    // Series without a name, and zeros: 16 KB and 60 KB of gzip.
    let bombs = [gzip(&[26, 0].repeat(8 << 20)), gzip(&vec![0; 60 << 20])];
    for (bomb, with_token) in bombs.iter().flat_map(|bomb| [(bomb, false), (bomb, true)]) {
        assert!(bomb.len() < 64_000, "it fits in the first window: {}", bomb.len());
        for path in [REPORT, PACKED] {
            let mut connection = Connection::open(server.grpc_port);
            connection.send(&h2::call(1, path, &metadata(with_token)));
            connection.send(&h2::message(1, bomb, true));
            assert!(!connection.answer(1).is_empty(), "{path}, token: {with_token}");
        }
    }
    let grown = server.peak() - before;
    assert!(grown < 24 * MIB, "it grew by {} MiB", grown / MIB);
    agent.end();
}

#[test]
fn sixteen_megabytes_of_empty_elements_cost_a_batch() {
    let (server, token, agent) = server();
    // Points and ticks without anything in them.
    let cases = [(REPORT, [26, 0].repeat(8_000_000)), (PACKED, [34, 0].repeat(8_000_000))];
    let before = server.peak();
    for (path, bytes) in &cases {
        let status = send(&server, path, bytes.clone(), None);
        assert_eq!(status, RpcStatusCode::UNAUTHENTICATED, "{path}");
    }
    let grown = server.peak() - before;
    assert!(grown < 8 * MIB, "without a token it grew by {} MiB", grown / MIB);
    for (path, bytes) in &cases {
        let status = send(&server, path, bytes.clone(), Some(&token));
        assert!(
            matches!(status, RpcStatusCode::OK | RpcStatusCode::INVALID_ARGUMENT),
            "{status:?}"
        );
    }
    // The message as it is, in the library's pieces and in one.
    let grown = server.peak() - before;
    assert!(grown < 64 * MIB, "with a token it grew by {} MiB", grown / MIB);
    agent.end();
}

#[test]
fn references_to_a_large_field_count_as_what_they_become() {
    let (mut server, _, agent) = server();
    let before = server.peak();
    // An entry of 4,033 bytes, and calls that each refer to it three times. SETTINGS are never
    // acknowledged.
    let mut entry = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    entry.extend([b'v'; 4_000]);
    for _ in 0..20 {
        let mut connection = Connection::open(server.grpc_port);
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &entry));
        for stream in 1..200 {
            let refers = [0x83, 0x86, 0x84, 0xbe, 0xbe, 0xbe];
            let call = h2::frame(h2::HEADERS, h2::END_HEADERS, 2 * stream + 1, &refers);
            if !connection.send(&call) {
                break;
            }
        }
        let mut connection = Connection::open(server.grpc_port);
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &entry));
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 3, &[0xbe; 800]));
        assert_eq!(connection.goodbye(), Some(h2::ENHANCE_YOUR_CALM));
    }
    let grown = server.peak() - before;
    assert!(grown < 24 * MIB, "it grew by {} MiB", grown / MIB);
    assert!(closed(&mut server, "header_bytes") >= 20);
    agent.end();
}

#[test]
fn a_flood_of_resets_ends_its_connection() {
    let (mut server, _, agent) = server();
    let before = server.peak();
    let mut connections = 0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let mut connection = Connection::open(server.grpc_port);
        connections += 1;
        for stream in 0..400 {
            let id = 2 * stream + 1;
            let mut both = h2::call(id, PACKED, &[]);
            both.extend(h2::frame(h2::RST_STREAM, 0, id, &[0, 0, 0, 8]));
            if !connection.send(&both) {
                break;
            }
        }
        if let Some(code) = connection.goodbye() {
            assert_eq!(code, h2::ENHANCE_YOUR_CALM);
        }
    }
    let grown = server.peak() - before;
    assert!(grown < 32 * MIB, "{connections} connections: it grew by {} MiB", grown / MIB);
    let ended = closed(&mut server, "resets") + closed(&mut server, "rate");
    assert!(ended >= connections / 2, "{connections} connections, {ended} were ended");
    agent.end();
}

/// Each connection stays below its own limits, and leaves the core with calls to work on.
#[test]
fn many_short_connections_cost_no_more_than_one_with_many_calls() {
    let (mut server, _, agent) = server();
    let before = server.peak();
    for calls in [1, 8, 90] {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let mut connection = Connection::open(server.grpc_port);
            let call = |n: u32| {
                let mut frames = h2::call(2 * n + 1, PACKED, &[]);
                frames.extend(h2::frame(h2::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
                frames
            };
            connection.send(&(0..calls).flat_map(call).collect::<Vec<_>>());
        }
    }
    let grown = server.peak() - before;
    assert!(grown < 48 * MIB, "it grew by {} MiB", grown / MIB);
    assert!(closed(&mut server, "rate") > 0);
    // Whoever asks for its health gets through.
    asked_for_its_health(&server);
    agent.end();
}

#[test]
fn a_block_without_an_end_never_gets_to_the_library() {
    let (mut server, _, agent) = server();
    let before = server.peak();
    for _ in 0..10 {
        let mut connection = Connection::open(server.grpc_port);
        // A string of two megabytes, in frames that say that more will come.
        connection.send(&h2::frame(h2::HEADERS, 0, 1, &[0x00, 0x01, b'x', 0x7f, 0xff, 0xff, 0x7f]));
        let more = h2::frame(h2::CONTINUATION, 0, 1, &[b'y'; 4_000]);
        for _ in 0..100 {
            if !connection.send(&more) {
                break;
            }
        }
        if let Some(code) = connection.goodbye() {
            assert_eq!(code, h2::ENHANCE_YOUR_CALM);
        }
        // Frames without anything in them.
        let mut connection = Connection::open(server.grpc_port);
        connection.send(&h2::frame(h2::HEADERS, 0, 1, &[0x83]));
        connection.send(&h2::frame(h2::CONTINUATION, 0, 1, &[]).repeat(1_000));
        assert_ne!(connection.goodbye(), Some(0));
    }
    let grown = server.peak() - before;
    assert!(grown < 16 * MIB, "it grew by {} MiB", grown / MIB);
    assert!(closed(&mut server, "header_bytes") >= 10);
    agent.end();
}

#[test]
fn a_call_without_reports_has_a_small_message() {
    let (mut server, _, agent) = server();
    let mut connection = Connection::open(server.grpc_port);
    connection.send(&h2::call(1, "/oxmon.MetricService/Enroll", &[]));
    connection.send(&h2::message(1, &[0; 40_000], false));
    assert_eq!(connection.goodbye(), Some(h2::ENHANCE_YOUR_CALM));
    assert_eq!(closed(&mut server, "message_bytes"), 1);
    // Who opens enrolments and says nothing keeps nobody from enrolling.
    let code = server.post("/v1/agents/enroll-codes", json!({"agent_id": "web-02"}));
    let code = code["code"].as_str().unwrap().to_owned();
    let mut silent: Vec<Connection> = (0..3).map(|_| Connection::open(server.grpc_port)).collect();
    for connection in &mut silent {
        for stream in 0..100 {
            connection.send(&h2::call(2 * stream + 1, "/oxmon.MetricService/Enroll", &[]));
        }
    }
    let mut request = oxmon::wire::pb::metrics::EnrollRequest::new();
    request.code = code;
    request.agent_id = "web-02".to_owned();
    // As an agent does: it tries again where the last of those calls still came after its own.
    let client = Client::to(server.grpc_port);
    let reply = wait_for("an answer to the enrolment", Duration::from_secs(10), || {
        let options = CallOption::default().wait_for_ready(true).timeout(Duration::from_secs(10));
        client.0.enroll_opt(&request, options).ok()
    });
    assert!(reply.success, "{}", reply.message);
    agent.end();
}

/// `--health` succeeds.
fn asked_for_its_health(server: &Server) {
    let config = server.dir.path().join("server.toml");
    let asked = std::process::Command::new(program()).arg("--health").arg(config).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
}

#[test]
fn idle_connections_at_the_descriptor_limit_stop_nobody() {
    let words = budget(&["--nofile=600:600"]);
    let mut server = Server::start_under(&words, "require_agent_auth = true\n");
    let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
    let token = made["token"].as_str().unwrap().to_owned();
    let before = server.peak();
    let greeted: Vec<Connection> = (0..350).map(|_| Connection::open(server.grpc_port)).collect();
    let connect = || TcpStream::connect(("127.0.0.1", server.grpc_port)).expect("it accepts");
    let silent: Vec<TcpStream> = (0..350).map(|_| connect()).collect();
    let agent = Agent::start(&server, &token);
    let health = server.get("/v1/health");
    assert_eq!(health["grpc_status"], "ok", "{health}");
    asked_for_its_health(&server);
    assert!(closed(&mut server, "connections") >= 600);
    let grown = server.peak() - before;
    assert!(grown < 24 * MIB, "it grew by {} MiB", grown / MIB);
    drop((greeted, silent));
    agent.end();
}
