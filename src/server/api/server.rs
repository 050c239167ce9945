//! The HTTP server: the gate takes requests in, `tiny_http` reads and writes them, workers answer.

use std::convert::Infallible;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use tiny_http::Request;

use crate::base::exit::{Exit, Fatal};
use crate::rt::thread;
use crate::server::api::answer::takes_gzip;
use crate::server::api::app::App;
use crate::server::api::auth::cookie::PAGE_HEADER;
use crate::server::api::dispatch;
use crate::server::api::refusal;
use crate::server::api::request::Incoming;
use crate::server::gate::http::backend::{CLIENT, TICKET};
use crate::server::gate::http::forwarded::Proxies;
use crate::server::gate::http::{self, Behind, Gone, Ticket};
use crate::server::gate::listener;
use crate::server::gate::private::PrivateFolder;
use crate::server::gate::running::Gate;
use crate::server::gate::tls::{Acceptor, Port};
use crate::server::peers;

/// How long the HTTP library may take to answer on a new connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long workers may take to end once the gate has closed.
const END_WITHIN: Duration = Duration::from_millis(400);

/// The running HTTP server. Stopping or dropping it answers what has come in and closes.
pub(crate) struct HttpServer {
    gate: Option<Gate>,
    inner: Arc<tiny_http::Server>,
    workers: usize,
    /// Ends when the last worker has.
    ended: Receiver<Infallible>,
    addresses: Vec<SocketAddr>,
}

impl HttpServer {
    /// Listens on every address of `bind` at `http_port` and starts the workers.
    ///
    /// # Errors
    ///
    /// When a port is taken, or the certificate of `[tls]` can't be used.
    pub(crate) fn start(app: Arc<App>) -> Result<Self, Fatal> {
        let listeners = listener::bind(&app.config.bind, app.config.http_port, "HTTP")?;
        let tls = app.config.tls.as_ref().map(|tls| Acceptor::open(tls, Port::Http)).transpose();
        let tls = tls.map_err(|error| Fatal::new(Exit::Config, error))?.map(Arc::new);
        // One more, so that health never waits: the gate keeps a connection for it.
        let peers = peers::lines(&app.config);
        let workers = app.config.pools.http_workers + 1 + peers;
        let gone = Arc::new(Gone::new(workers));
        let (inner, backends) = inside(&app.config.data_dir, workers).map_err(|error| {
            Fatal::new(Exit::Failed, format!("cannot start the HTTP workers: {error}"))
        })?;
        let (running, ended) = bounded(0);
        for index in 0..workers {
            let (app, inner, running) = (Arc::clone(&app), Arc::clone(&inner), running.clone());
            let gone = Arc::clone(&gone);
            thread::spawn(&format!("http-{index}"), move || {
                for request in inner.incoming_requests() {
                    answer(&app, &gone, request);
                }
                drop(running);
                Ok(())
            });
        }
        let queue = app.config.pools.http_queue;
        let proxies = Proxies::new(&app.config.http);
        let behind = Behind { backends, peers, gone, queue, render: refusal::render, proxies };
        let gate = Gate::start::<http::Serve>(listeners, tls, behind, &app.registry)?;
        let addresses = gate.addresses().to_vec();
        Ok(Self { gate: Some(gate), inner, workers, ended, addresses })
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has new connections use the certificate as it is on the disk now.
    ///
    /// # Errors
    ///
    /// When it can't be used; the one before stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        self.gate.as_ref().map_or(Ok(()), Gate::reload)
    }

    /// Takes no more requests, answers what has come in, and ends the workers.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        drop(gate);
        for _ in 0..self.workers {
            self.inner.unblock();
        }
        // Nothing is ever sent: the channel ends with the last worker.
        if self.ended.recv_timeout(END_WITHIN) == Err(RecvTimeoutError::Timeout) {
            log::warn!("a request was not answered in time; its answer is given up");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.end();
    }
}

type Inside = (Arc<tiny_http::Server>, Vec<UnixStream>);

/// The HTTP library with `count` connections to it. The socket is bound in a private folder, which
/// is gone when this returns: nobody can make another connection.
fn inside(data_dir: &Path, count: usize) -> Result<Inside, Box<dyn Error + Send + Sync>> {
    let folder = PrivateFolder::create(&[std::env::temp_dir(), data_dir.to_path_buf()])?;
    let name = folder.path().join("http");
    let listener = UnixListener::bind(&name)?;
    let inner = tiny_http::Server::from_listener(listener, None)?;
    let backend = |_| connect(&inner, &name);
    let backends: Result<Vec<_>, _> = (0..count).map(backend).collect();
    Ok((Arc::new(inner), backends?))
}

/// A connection that a thread of the library reads. Until it does, no other one may be made: the
/// library counts a thread as idle until it wakes, and a connection that it queues for such a
/// thread stays unread when the thread takes another one, since connections to the gate never end.
fn connect(
    inner: &tiny_http::Server,
    name: &Path,
) -> Result<UnixStream, Box<dyn Error + Send + Sync>> {
    let mut backend = UnixStream::connect(name)?;
    backend.set_read_timeout(Some(CONNECT_WITHIN))?;
    backend.write_all(b"HEAD / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")?;
    let request = inner.recv_timeout(CONNECT_WITHIN)?.ok_or("no thread reads the connection")?;
    request.respond(tiny_http::Response::empty(204))?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        backend.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    backend.set_read_timeout(None)?;
    Ok(backend)
}

fn answer(app: &App, gone: &Arc<Gone>, mut request: Request) {
    let mut body = Vec::new();
    // The gate has held the body to its limit.
    let read = request.as_reader().read_to_end(&mut body);
    if read.is_err() {
        return;
    }
    // Only headers of `gate::http::parse::PASSED` get here, and the one that the gate itself adds.
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned())
    };
    let incoming = Incoming {
        method: request.method().to_string(),
        target: request.url().to_owned(),
        authorization: header("Authorization"),
        content_type: header("Content-Type"),
        gzip: header("Accept-Encoding").is_some_and(|value| takes_gzip(&value)),
        if_none_match: header("If-None-Match"),
        origin: header("Origin"),
        host: header("Host"),
        cookie: header("Cookie"),
        page: header(PAGE_HEADER),
        fetch_site: header("Sec-Fetch-Site"),
        client: header(CLIENT).unwrap_or_default(),
        ticket: Ticket::parse(gone, &header(TICKET).unwrap_or_default()),
        body,
    };
    let answer = dispatch::serve(app, &incoming);
    // The gate takes every answer, also one that its client does not wait for any more.
    let _ = request.respond(answer.into_response());
}
