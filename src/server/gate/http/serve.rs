//! The gate's thread: waits for ready sockets, and moves each connection as far as it can go.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Setup;
use super::backend::{Backend, Request};
use super::conn::{Conn, Context, Step};
use super::metrics::{Closed, Metrics};
use super::refusal::Refusal;
use crate::base::limits::HTTP_MEMORY_BYTES_MAX;
use crate::server::gate::listener::{self, Accepted, Room};
use crate::server::gate::poll::{Event, Poller};
use crate::server::gate::stream::Interest;
use crate::server::gate::tls::Acceptor;

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(250);
/// How long pending answers may take once the gate stops.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);
/// Connections accepted from one listener before other events are handled.
const ACCEPTS_A_TURN: usize = 64;
/// Connections above the limit that still get a 503.
const OVERFLOW_MAX: usize = 128;
const SCRATCH_BYTES: usize = 64 * 1024;

/// Tokens of events: a number each, and a range where there are several of a kind.
const WAKE: u64 = 0;
const LISTENERS: u64 = 1 << 16;
const BACKENDS: u64 = 2 << 16;
const CLIENTS: u64 = 1 << 32;

/// A connection and what the loop knows of it.
struct Entry {
    conn: Conn,
    interest: Option<Interest>,
    /// Bytes that it had in memory when they were last counted.
    held: usize,
    /// When its request was complete, while it waits for the answer.
    asked: Option<Instant>,
}

/// The thread's state.
pub(super) struct Serve {
    poller: Poller,
    listeners: Vec<TcpListener>,
    listening: bool,
    tls: Option<Arc<Acceptor>>,
    backends: Vec<Backend>,
    conns: HashMap<u64, Entry>,
    next_id: u64,
    conns_max: usize,
    queue: VecDeque<(u64, Box<Request>)>,
    queue_max: usize,
    /// Bytes that all connections have in memory.
    held: usize,
    cx: Context,
    wake: UnixStream,
}

impl Serve {
    /// Registers every socket that there is at the start.
    ///
    /// # Errors
    ///
    /// When the system has no poller or no descriptor for it.
    pub(super) fn new(setup: Setup, wake: UnixStream, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.add(&wake, WAKE, Some(Interest::Read))?;
        for (listener, token) in setup.listeners.iter().zip(LISTENERS..) {
            listener::open(listener)?;
            poller.add(listener, token, Some(Interest::Read))?;
        }
        let backends: io::Result<Vec<Backend>> =
            setup.backends.into_iter().map(Backend::new).collect();
        let backends = backends?;
        for (backend, token) in backends.iter().zip(BACKENDS..) {
            poller.add(backend.stream(), token, Some(Interest::Read))?;
        }
        let cx = Context {
            now: Instant::now(),
            scratch: vec![0; SCRATCH_BYTES],
            metrics,
            render: setup.render,
            stopping: false,
        };
        Ok(Self {
            poller,
            listeners: setup.listeners,
            listening: true,
            tls: setup.tls,
            backends,
            conns: HashMap::new(),
            next_id: CLIENTS,
            conns_max: Room::of_process().http,
            queue: VecDeque::new(),
            queue_max: setup.queue,
            held: 0,
            cx,
            wake,
        })
    }

    /// Serves until the other end of `wake` closes, then writes the answers that are pending.
    ///
    /// # Errors
    ///
    /// When the HTTP library behind the gate fails.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut checked = Instant::now();
        let mut stop_by: Option<Instant> = None;
        loop {
            if stop_by.is_some_and(|by| self.cx.now >= by || self.conns.is_empty()) {
                return Ok(());
            }
            for (token, is_gone) in self.wait()? {
                match token {
                    WAKE if stop_by.is_none() => {
                        stop_by = Some(self.cx.now + STOP_WITHIN);
                        self.stop_accepting()?;
                    }
                    WAKE => {}
                    LISTENERS..BACKENDS => self.accept((token - LISTENERS) as usize)?,
                    BACKENDS..CLIENTS => self.on_backend((token - BACKENDS) as usize)?,
                    id => self.on_ready(id, is_gone)?,
                }
            }
            if self.cx.now.duration_since(checked) >= TICK {
                checked = self.cx.now;
                self.expire()?;
            }
            self.cx.metrics.open.set(self.conns.len() as i64);
            self.cx.metrics.queue_depth.set(self.queue.len() as i64);
        }
    }

    fn wait(&mut self) -> io::Result<Vec<Event>> {
        // Without connections there are no deadlines.
        let limit = (!self.conns.is_empty() || !self.listening).then_some(TICK);
        let events = self.poller.wait(limit)?;
        self.cx.now = Instant::now();
        Ok(events)
    }

    /// Accepts the connections that wait at a listener.
    fn accept(&mut self, index: usize) -> io::Result<()> {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = self.listeners.get(index) else { return Ok(()) };
            match listener::accept(listener) {
                Accepted::Nothing => return Ok(()),
                Accepted::NoDescriptor => {
                    self.evict()?;
                    // The listener stays ready, and would wake the thread at once.
                    return self.listen(false);
                }
                Accepted::Connection(socket, peer) => {
                    let is_full = self.conns.len() >= self.conns_max && !self.evict()?;
                    let tls = self.tls.as_ref().map(|tls| tls.current());
                    let conn = Conn::new(socket, peer, tls.as_ref(), self.cx.now);
                    let Ok(conn) = conn else { continue };
                    self.admit(conn, is_full)?;
                }
            }
        }
        Ok(())
    }

    /// Serves a new connection, or refuses it where there is no room.
    fn admit(&mut self, mut conn: Conn, is_full: bool) -> io::Result<()> {
        if is_full {
            // A 503 under TLS would cost a handshake, and only so many wait for a plain one.
            if self.tls.is_some() || self.conns.len() >= self.conns_max + OVERFLOW_MAX {
                self.cx.metrics.close(Closed::Crowded);
                return Ok(());
            }
            conn.refuse(Refusal::Crowded, &self.cx);
        }
        let id = self.next_id;
        self.next_id += 1;
        let interest = Some(Interest::Read);
        self.poller.add(conn.socket(), id, interest)?;
        self.conns.insert(id, Entry { conn, interest, held: 0, asked: None });
        self.drive(id)
    }

    /// Makes room: closes the connection that has been idle for the longest, or else the one that
    /// has been slow for the longest. False when every connection waits for a worker.
    fn evict(&mut self) -> io::Result<bool> {
        while let Some(id) = self.longest(Conn::idle_since) {
            // Its request may have arrived and not been read yet.
            self.drive(id)?;
            let still = self.conns.get(&id).map(|entry| entry.conn.idle_since().is_some());
            match still {
                Some(true) => {
                    self.cx.metrics.close(Closed::Crowded);
                    self.close(id);
                    return Ok(true);
                }
                Some(false) => {}
                None => return Ok(true),
            }
        }
        let Some(id) = self.longest(Conn::slow_since) else { return Ok(false) };
        self.cx.metrics.close(Closed::Crowded);
        self.close(id);
        Ok(true)
    }

    /// The connection with the earliest `since`.
    fn longest(&self, since: impl Fn(&Conn) -> Option<Instant>) -> Option<u64> {
        let all = self.conns.iter().filter_map(|(id, entry)| Some((since(&entry.conn)?, *id)));
        all.min().map(|(_, id)| id)
    }

    fn listen(&mut self, listening: bool) -> io::Result<()> {
        self.listening = listening;
        let interest = listening.then_some(Interest::Read);
        for (listener, token) in self.listeners.iter().zip(LISTENERS..) {
            self.poller.change(listener, token, interest)?;
        }
        Ok(())
    }

    fn on_ready(&mut self, id: u64, is_gone: bool) -> io::Result<()> {
        let Some(entry) = self.conns.get(&id) else { return Ok(()) };
        // While a worker has its request, only the connection's end is waited for.
        if entry.interest.is_none() && is_gone {
            self.close(id);
            return Ok(());
        }
        self.drive(id)
    }

    /// Moves a connection until it must wait, and waits for what it needs.
    fn drive(&mut self, id: u64) -> io::Result<()> {
        loop {
            let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
            match entry.conn.advance(&mut self.cx) {
                Step::Wait(interest) => {
                    self.watch(id, interest)?;
                    self.account(id);
                    return Ok(());
                }
                Step::Request(request) => self.dispatch(id, request)?,
                Step::Close => {
                    self.close(id);
                    return Ok(());
                }
            }
        }
    }

    fn watch(&mut self, id: u64, interest: Option<Interest>) -> io::Result<()> {
        let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
        if entry.interest != interest {
            entry.interest = interest;
            self.poller.change(entry.conn.socket(), id, interest)?;
        }
        Ok(())
    }

    /// Counts the memory of a connection. Above the limit of all together, the connection that has
    /// been slow for the longest is closed.
    fn account(&mut self, id: u64) {
        if let Some(entry) = self.conns.get_mut(&id) {
            let held = entry.conn.held();
            self.held = self.held - entry.held + held;
            entry.held = held;
        }
        while self.held > HTTP_MEMORY_BYTES_MAX {
            let Some(slowest) = self.longest(Conn::slow_since) else { return };
            // A single answer above the limit may go to the only client.
            if self.conns.get(&slowest).is_none_or(|entry| entry.held == self.held) {
                return;
            }
            self.cx.metrics.close(Closed::Memory);
            self.close(slowest);
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(entry) = self.conns.remove(&id) {
            self.held -= entry.held;
            // A socket that the system has dropped already is not waited for either.
            let _ = self.poller.remove(entry.conn.socket(), id);
        }
    }

    /// Gives a request to a free backend, or queues it.
    fn dispatch(&mut self, id: u64, request: Box<Request>) -> io::Result<()> {
        if let Some(entry) = self.conns.get_mut(&id) {
            entry.asked = Some(self.cx.now);
        }
        if let Some(index) = self.backends.iter().position(Backend::is_free) {
            return self.send(index, id, &request);
        }
        if self.queue.len() < self.queue_max {
            self.queue.push_back((id, request));
        } else if let Some(entry) = self.conns.get_mut(&id) {
            entry.conn.refuse(Refusal::QueueFull, &self.cx);
        }
        Ok(())
    }

    fn send(&mut self, index: usize, id: u64, request: &Request) -> io::Result<()> {
        let Some(backend) = self.backends.get_mut(index) else { return Ok(()) };
        backend.send(id, request).map_err(backend_failed)?;
        self.watch_backend(index)
    }

    fn watch_backend(&mut self, index: usize) -> io::Result<()> {
        let Some(backend) = self.backends.get(index) else { return Ok(()) };
        let token = BACKENDS + index as u64;
        self.poller.change(backend.stream(), token, Some(backend.interest()))
    }

    /// Moves what a backend can move, and passes its answer on.
    fn on_backend(&mut self, index: usize) -> io::Result<()> {
        let Some(backend) = self.backends.get_mut(index) else { return Ok(()) };
        let response = backend.advance(&mut self.cx.scratch).map_err(backend_failed)?;
        self.watch_backend(index)?;
        let Some(response) = response else { return Ok(()) };
        let id = response.client;
        if let Some(entry) = self.conns.get_mut(&id) {
            if let Some(asked) = entry.asked.take() {
                self.cx.metrics.seconds.observe((self.cx.now - asked).as_secs_f64());
            }
            entry.conn.answer(response, &self.cx);
        }
        // The backend first: the client may have sent its next request already.
        while let Some((next, request)) = self.queue.pop_front() {
            if self.conns.contains_key(&next) {
                self.send(index, next, &request)?;
                break;
            }
        }
        self.drive(id)
    }

    /// Ends what has exceeded its deadline, and accepts again.
    fn expire(&mut self) -> io::Result<()> {
        let now = self.cx.now;
        let late = self.conns.iter().filter(|(_, entry)| entry.conn.is_late(now));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(entry) = self.conns.get_mut(&id) else { continue };
            match entry.conn.expire(&mut self.cx) {
                Step::Wait(interest) => self.watch(id, interest)?,
                Step::Request(_) | Step::Close => self.close(id),
            }
            self.account(id);
        }
        if self.listening { Ok(()) } else { self.listen(true) }
    }

    /// Accepts no more connections, and keeps those with an answer to come.
    fn stop_accepting(&mut self) -> io::Result<()> {
        self.poller.remove(&self.wake, WAKE)?;
        for (listener, token) in self.listeners.drain(..).zip(LISTENERS..) {
            self.poller.remove(&listener, token)?;
        }
        // Requests that have arrived are served.
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.drive(id)?;
        }
        self.cx.stopping = true;
        let done = self.conns.iter().filter(|(_, entry)| !entry.conn.is_owed());
        for id in done.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id);
        }
        Ok(())
    }
}

/// An error of a backend, which no request can cause.
fn backend_failed(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the HTTP library behind the gate: {error}"))
}
