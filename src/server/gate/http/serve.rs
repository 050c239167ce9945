//! The gate's thread: waits for ready sockets, and moves each connection as far as it can go.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;

use super::backend::Request;
use super::conn::{Conn, Context, Step};
use super::lanes::{Dispatched, Lanes};
use super::metrics::{Closed, Metrics};
use super::refusal::Refusal;
use super::{Behind, Gone};
use crate::base::limits::{HTTP_MEMORY_BYTES_MAX, TLS_HANDSHAKES_MAX};
use crate::server::gate::listener::{Accepted, Room};
use crate::server::gate::port::{LISTENERS, OWN, Port, WAKE};
use crate::server::gate::running;
use crate::server::gate::stream::Interest;

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
const BACKENDS: u64 = OWN;
const CLIENTS: u64 = 1 << 32;

/// A connection and what the loop knows of it.
struct Entry {
    conn: Conn,
    interest: Option<Interest>,
    /// Bytes that it had in memory when they were last counted.
    held: usize,
    /// Whether the client has ended its side: nothing more is waited for while a worker has its
    /// request.
    ended: bool,
    /// When its request was complete, while it waits for the answer.
    asked: Option<Instant>,
}

/// The thread's state.
pub(crate) struct Serve {
    port: Port,
    lanes: Lanes,
    gone: Arc<Gone>,
    conns: HashMap<u64, Entry>,
    next_id: u64,
    conns_max: usize,
    /// Bytes that all connections have in memory.
    held: usize,
    cx: Context,
}

impl running::Serve for Serve {
    type Behind = Behind;
    const PROTOCOL: &'static str = "HTTP";
    const THREAD: &'static str = "http-gate";

    fn new(mut port: Port, behind: Behind, registry: &Registry) -> Result<Self, Box<dyn Error>> {
        let lanes = Lanes::new(behind.backends, behind.peers, behind.queue)?;
        for (stream, token) in lanes.streams().zip(BACKENDS..) {
            port.poller.add(stream, token, Some(Interest::Read))?;
        }
        let cx = Context {
            now: Instant::now(),
            scratch: vec![0; SCRATCH_BYTES],
            metrics: Arc::new(Metrics::register(registry)?),
            render: behind.render,
            proxies: behind.proxies,
            stopping: false,
        };
        Ok(Self {
            port,
            lanes,
            gone: behind.gone,
            conns: HashMap::new(),
            next_id: CLIENTS,
            conns_max: Room::of_process().http,
            held: 0,
            cx,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut checked = Instant::now();
        let mut stop_by: Option<Instant> = None;
        loop {
            if stop_by.is_some_and(|by| self.cx.now >= by || self.conns.is_empty()) {
                return Ok(());
            }
            // Without connections there are no deadlines.
            let events = self.port.wait(!self.conns.is_empty(), TICK)?;
            self.cx.now = Instant::now();
            for (token, is_gone) in events {
                match token {
                    // Whether it is to stop or to end: what is pending is answered.
                    WAKE => {
                        self.port.woken()?;
                        if stop_by.is_none() {
                            stop_by = Some(self.cx.now + STOP_WITHIN);
                            self.stop_accepting()?;
                        }
                    }
                    LISTENERS..BACKENDS => self.accept(token)?,
                    BACKENDS..CLIENTS => self.on_backend((token - BACKENDS) as usize)?,
                    id => self.on_ready(id, is_gone)?,
                }
            }
            if self.cx.now.duration_since(checked) >= TICK {
                checked = self.cx.now;
                self.expire()?;
            }
            self.cx.metrics.open.set(self.conns.len() as i64);
            self.cx.metrics.queue_depth.set(self.lanes.waiting() as i64);
        }
    }
}

impl Serve {
    /// Accepts the connections that wait at a listener.
    fn accept(&mut self, token: u64) -> io::Result<()> {
        for _ in 0..ACCEPTS_A_TURN {
            match self.port.accept(token) {
                Accepted::Nothing => return Ok(()),
                Accepted::NoDescriptor => {
                    self.evict()?;
                    return self.port.pause();
                }
                Accepted::Connection(socket, peer) => {
                    let is_full = self.conns.len() >= self.conns_max && !self.evict()?;
                    let tls = self.port.tls();
                    let is_tls = tls.is_some();
                    if is_tls {
                        self.bound_handshakes();
                    }
                    let conn = Conn::new(socket, peer, tls.as_ref(), self.cx.now);
                    let Ok(conn) = conn else { continue };
                    self.admit(conn, is_tls, is_full)?;
                }
            }
        }
        Ok(())
    }

    /// Makes room for one more handshake: a client that stops in its first message costs what the
    /// library has allocated for it.
    fn bound_handshakes(&mut self) {
        let under_way = self.conns.values().filter(|it| it.conn.handshake_since().is_some());
        if under_way.count() < TLS_HANDSHAKES_MAX {
            return;
        }
        if let Some(oldest) = self.longest(Conn::handshake_since) {
            self.cx.metrics.close(Closed::Handshake);
            self.close(oldest);
        }
    }

    /// Serves a new connection, or refuses it where there is no room.
    fn admit(&mut self, mut conn: Conn, is_tls: bool, is_full: bool) -> io::Result<()> {
        if is_full {
            // A 503 under TLS would cost a handshake, and only so many wait for a plain one.
            if is_tls || self.conns.len() >= self.conns_max + OVERFLOW_MAX {
                self.cx.metrics.close(Closed::Crowded);
                return Ok(());
            }
            conn.refuse(Refusal::Crowded, &self.cx);
        }
        let id = self.next_id;
        self.next_id += 1;
        let interest = Some(Interest::Read);
        self.port.poller.add(conn.socket(), id, interest)?;
        self.conns.insert(id, Entry { conn, interest, held: 0, ended: false, asked: None });
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

    fn on_ready(&mut self, id: u64, is_gone: bool) -> io::Result<()> {
        let Some(entry) = self.conns.get(&id) else { return Ok(()) };
        // While a worker has its request, only the connection's end is waited for.
        match entry.interest {
            None | Some(Interest::End) if is_gone => {
                self.close(id);
                Ok(())
            }
            Some(Interest::End) => self.end(id),
            _ => self.drive(id),
        }
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

    /// The client has ended its side while a worker has its request: the answer is written all the
    /// same, but a query for it ends.
    fn end(&mut self, id: u64) -> io::Result<()> {
        if let Some(entry) = self.conns.get_mut(&id) {
            entry.ended = true;
        }
        self.give_up(id);
        self.watch(id, None)
    }

    /// Notes that nobody waits for the answer to a connection's request.
    fn give_up(&self, id: u64) {
        if let Some(backend) = self.lanes.serving(id) {
            self.gone.note(backend, id);
        }
    }

    fn watch(&mut self, id: u64, interest: Option<Interest>) -> io::Result<()> {
        let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
        let interest = interest.or((!entry.ended).then_some(Interest::End));
        if entry.interest != interest {
            entry.interest = interest;
            self.port.poller.change(entry.conn.socket(), id, interest)?;
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
            self.give_up(id);
            self.held -= entry.held;
            // A socket that the system has dropped already is not waited for either.
            let _ = self.port.poller.remove(entry.conn.socket(), id);
        }
    }

    /// Gives a request to a worker, queues it, or refuses it.
    fn dispatch(&mut self, id: u64, request: Box<Request>) -> io::Result<()> {
        let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
        entry.asked = Some(self.cx.now);
        match self.lanes.dispatch(id, request).map_err(backend_failed)? {
            Dispatched::Sent(index) => self.watch_backend(index),
            Dispatched::Queued => Ok(()),
            Dispatched::Refused(refusal) => {
                entry.conn.refuse(refusal, &self.cx);
                Ok(())
            }
        }
    }

    fn watch_backend(&mut self, index: usize) -> io::Result<()> {
        let Some((stream, interest)) = self.lanes.waits(index) else { return Ok(()) };
        self.port.poller.change(stream, BACKENDS + index as u64, Some(interest))
    }

    /// Moves what a backend can move, and passes its answer on.
    fn on_backend(&mut self, index: usize) -> io::Result<()> {
        let response = self.lanes.advance(index, &mut self.cx.scratch).map_err(backend_failed)?;
        let Some(response) = response else { return self.watch_backend(index) };
        let id = response.client;
        if let Some(entry) = self.conns.get_mut(&id) {
            if let Some(asked) = entry.asked.take() {
                self.cx.metrics.seconds.observe((self.cx.now - asked).as_secs_f64());
            }
            entry.conn.answer(response, &self.cx);
        }
        // The backend first: the client may have sent its next request already.
        let conns = &self.conns;
        self.lanes.refill(index, |client| conns.contains_key(&client)).map_err(backend_failed)?;
        self.watch_backend(index)?;
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
        self.port.resume()
    }

    /// Accepts no more connections, and keeps those with an answer to come.
    fn stop_accepting(&mut self) -> io::Result<()> {
        self.port.close()?;
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
