//! A health call to the gRPC port over a new connection: whether an agent would get through the
//! gate to the C core and back.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use parking_lot::Mutex;

use crate::base::exit::{Exit, Fatal};
use crate::rt::stop::Stop;
use crate::server::config::{ServerConfig, Tls};

/// Preface, SETTINGS, HEADERS of `Health/Check`, and a message without a service's name.
const CALL: [&[u8]; 3] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    &[0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0],
];
/// Fields of the call: indexed ones of the static table, and literals with an indexed or a new
/// name.
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const SCHEME_HTTPS: u8 = 0x87;
const AUTHORITY: u8 = 0x01;
const PATH: u8 = 0x04;
/// Bytes of an answer that are read before the port is taken for something else.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long an answer is good for; that nothing serves is asked again sooner.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// How long an answer may take where somebody waits for it.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// How long after a connection without an answer another one is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The status SERVING in a message of `grpc.health.v1`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];

/// Whether the gRPC port of a configuration answers.
pub(crate) struct GrpcHealth {
    address: SocketAddr,
    tls: Option<Tls>,
    /// When it was last asked, and what came of it.
    last: Mutex<Option<(Instant, bool)>>,
    /// Held by the one that asks.
    asking: Mutex<()>,
}

impl GrpcHealth {
    /// The port that a configuration names; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When `bind` names no address.
    pub(crate) fn of(config: &ServerConfig) -> Result<Self, Fatal> {
        let ip = config.bind.first().and_then(|address| address.parse::<IpAddr>().ok());
        let ip = ip.ok_or_else(|| Fatal::new(Exit::Config, "bind: no valid IP address"))?;
        Ok(Self {
            address: reachable(SocketAddr::new(ip, config.grpc_port)),
            tls: config.tls.clone(),
            last: Mutex::new(None),
            asking: Mutex::new(()),
        })
    }

    /// Asks over a new connection.
    ///
    /// # Errors
    ///
    /// What did not work within `limit`, or that it does not serve.
    pub(crate) fn check(&self, limit: Duration) -> Result<(), String> {
        check(self.address, self.tls.as_ref(), limit)
    }

    /// Whether it serves, asked once a second at the most and by one caller at a time.
    pub(crate) fn is_serving(&self) -> bool {
        let known = *self.last.lock();
        if let Some((at, is_serving)) = known
            && at.elapsed() < if is_serving { KNOWN_FOR } else { AGAIN_AFTER }
        {
            return is_serving;
        }
        let Some(_asking) = self.asking.try_lock() else {
            return known.is_none_or(|(_, is_serving)| is_serving);
        };
        let outcome = self.check(ASKED_WITHIN);
        if let Err(why) = &outcome {
            log::warn!("{why}");
        }
        *self.last.lock() = Some((Instant::now(), outcome.is_ok()));
        outcome.is_ok()
    }
}

/// An address to reach a port by that listens on all addresses.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Asks the port at `address` whether it serves, within `limit`.
///
/// # Errors
///
/// What did not work, or that it says that it does not serve.
fn check(address: SocketAddr, tls: Option<&Tls>, limit: Duration) -> Result<(), String> {
    let failed = |what: &str| format!("gRPC port {address}: {what}");
    let deadline = Instant::now() + limit;
    loop {
        let socket = TcpStream::connect_timeout(&address, limit)
            .map_err(|error| failed(&format!("cannot connect: {error}")))?;
        match call(socket, tls, deadline) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(failed("the server says NOT_SERVING")),
            // Under a flood from the same address the gate closes new connections.
            Err(_) if Instant::now() + AGAIN_AFTER < deadline => {
                Stop::never().wait(AGAIN_AFTER);
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// Whether the server behind a connection says that it serves.
fn call(socket: TcpStream, tls: Option<&Tls>, deadline: Instant) -> Result<bool, String> {
    let limit = deadline.saturating_duration_since(Instant::now()).max(AGAIN_AFTER);
    let _ = socket.set_nodelay(true);
    // Each read and write ends in time; so does their number, at the deadline.
    socket
        .set_read_timeout(Some(limit))
        .and_then(|()| socket.set_write_timeout(Some(limit)))
        .map_err(|error| error.to_string())?;
    match tls {
        None => ask(socket, false, deadline),
        Some(tls) => secure(socket, tls).and_then(|stream| ask(stream, true, deadline)),
    }
}

/// TLS as whom the server is: it is its own certificate, under an address that it need not name.
fn secure(socket: TcpStream, tls: &Tls) -> Result<impl Read + Write + use<>, String> {
    let build = || {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_alpn_protos(b"\x02h2")?;
        if tls.client_ca_file.is_some() {
            builder.set_certificate_file(&tls.cert_file, SslFiletype::PEM)?;
            builder.set_private_key_file(&tls.key_file, SslFiletype::PEM)?;
        }
        let mut config = builder.build().configure()?;
        config.set_use_server_name_indication(false);
        config.set_verify_hostname(false);
        Ok(config)
    };
    let config = build().map_err(|error: openssl::error::ErrorStack| error.to_string())?;
    config.connect("localhost", socket).map_err(|error| format!("TLS handshake failed: {error}"))
}

fn ask(mut stream: impl Read + Write, is_tls: bool, deadline: Instant) -> Result<bool, String> {
    let [preface, settings, message] = CALL;
    let mut call = [preface, settings].concat();
    call.extend_from_slice(&headers(is_tls));
    call.extend_from_slice(message);
    stream.write_all(&call).map_err(|error| format!("cannot send: {error}"))?;
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    while answer.len() < ANSWER_BYTES_MAX && Instant::now() < deadline {
        match stream.read(&mut piece) {
            Ok(0) => return Err("the connection was closed without an answer".to_owned()),
            Ok(bytes) => answer.extend_from_slice(&piece[..bytes]),
            Err(error) => return Err(format!("no answer: {error}")),
        }
        if let Some(is_serving) = status(&answer) {
            return Ok(is_serving);
        }
    }
    Err("no answer in time".to_owned())
}

/// The HEADERS frame of the call.
fn headers(is_tls: bool) -> Vec<u8> {
    let mut block = vec![METHOD_POST, if is_tls { SCHEME_HTTPS } else { SCHEME_HTTP }];
    let string = |text: &str| {
        let mut bytes = vec![text.len() as u8];
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let mut fields = vec![PATH];
    fields.extend(string("/grpc.health.v1.Health/Check"));
    fields.push(AUTHORITY);
    fields.extend(string("localhost"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        fields.push(0);
        fields.extend(string(name));
        fields.extend(string(value));
    }
    block.append(&mut fields);
    // END_HEADERS on stream 1.
    let mut frame = vec![0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1];
    frame.append(&mut block);
    frame
}

/// What the first DATA frame says; `None` before it has come.
fn status(mut answer: &[u8]) -> Option<bool> {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = answer {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = rest.get(..length)?;
        if *kind == 0 && length > 0 {
            return Some(payload == SERVING);
        }
        answer = &rest[length..];
    }
    None
}
