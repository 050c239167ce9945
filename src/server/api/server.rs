//! The HTTP server: tiny_http's parser and writer behind a pool of workers.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tiny_http::{Header, Request, Response, StatusCode};

use crate::base::exit::{Exit, Fatal};
use crate::base::limits::HTTP_BODY_BYTES_MAX;
use crate::rt::thread;
use crate::server::api::answer::{Answer, takes_gzip};
use crate::server::api::dispatch::{self, Incoming};
use crate::server::app::App;

/// The running HTTP server. Stopping or dropping it answers what has come in and closes.
pub struct HttpServer {
    servers: Vec<Arc<tiny_http::Server>>,
    workers: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl HttpServer {
    /// Listens on every address of `bind` at `http_port` and starts the workers.
    ///
    /// # Errors
    ///
    /// When a port is taken.
    pub fn start(app: Arc<App>) -> Result<Self, Fatal> {
        let port = app.config.http_port;
        let mut started = Self { servers: Vec::new(), workers: Vec::new(), addresses: Vec::new() };
        for address in &app.config.bind {
            let address: IpAddr = address.parse().map_err(|_| {
                Fatal::new(Exit::Config, format!("bind: `{address}` is no IP address"))
            })?;
            started.listen(SocketAddr::new(address, port))?;
        }
        for index in 0..app.config.pools.http_workers {
            for server in &started.servers {
                let (app, server) = (Arc::clone(&app), Arc::clone(server));
                started.workers.push(thread::spawn(&format!("http-{index}"), move || {
                    for request in server.incoming_requests() {
                        answer(&app, request);
                    }
                    Ok(())
                }));
            }
        }
        Ok(started)
    }

    fn listen(&mut self, address: SocketAddr) -> Result<(), Fatal> {
        let taken = |error: &dyn std::fmt::Display| {
            let message = format!("cannot listen on {address} for HTTP: {error}");
            Fatal::new(Exit::PortTaken, message)
        };
        let listener = TcpListener::bind(address).map_err(|error| taken(&error))?;
        self.addresses.push(listener.local_addr().map_err(|error| taken(&error))?);
        let server =
            tiny_http::Server::from_listener(listener, None).map_err(|error| taken(&error))?;
        self.servers.push(Arc::new(server));
        Ok(())
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more requests, answers what has come in, and ends the workers.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for server in &self.servers {
            for _ in 0..self.workers.len() {
                server.unblock();
            }
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has ended the process already.
            let _ = worker.join();
        }
        self.servers.clear();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn answer(app: &App, mut request: Request) {
    let mut body = Vec::new();
    let read = request.as_reader().take(HTTP_BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body);
    if read.is_err() {
        return;
    }
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
        client: request.remote_addr().map_or_else(String::new, |at| at.ip().to_string()),
        body,
    };
    let answer = dispatch::serve(app, &incoming);
    // The client may be gone; then nobody misses the answer.
    let _ = request.respond(response(answer));
}

fn response(answer: Answer) -> Response<std::io::Cursor<Vec<u8>>> {
    let mut response = Response::from_data(answer.body)
        .with_chunked_threshold(usize::MAX)
        .with_status_code(StatusCode(answer.status));
    for (name, value) in answer.headers {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    response
}
