//! The thread of the gRPC side: waits for ready sockets, and relays what each connection may send.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use prometheus::Registry;

use super::conn::{Behind, Conn, Context, End};
use super::frames::Violation;
use super::metrics::{Closed, Metrics};
use super::shares::Shares;
use crate::base::limits::{GRPC_CONNECTIONS_PER_ADDRESS_MAX, TLS_HANDSHAKES_MAX};
use crate::server::gate::listener::{Accepted, Room, address_key};
use crate::server::gate::port::{LISTENERS, OWN, Port, WAKE, Woken};
use crate::server::gate::running;
use crate::server::gate::stream::Interest;

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(500);
/// How long answers that are unsent may take once the gate ends.
const END_WITHIN: Duration = Duration::from_millis(500);
/// Connections accepted from one listener before other events are handled.
const ACCEPTS_A_TURN: usize = 64;
const SCRATCH_BYTES: usize = 64 * 1024;

/// Tokens of events: those of connections are twice their number, and one more for the core's side.
const CONNECTIONS: u64 = OWN;

/// A connection and what the loop knows of it.
struct Entry {
    conn: Conn,
    client: Option<Interest>,
    /// `None` while the core's side is not registered.
    core: Option<Option<Interest>>,
    /// Open calls when they were last counted.
    calls: usize,
}

impl Entry {
    /// Counts the calls for the share of the client's address; the connection ends when that is
    /// exceeded.
    fn count_calls(
        &mut self,
        shares: &mut Shares,
        outcome: Result<(), End>,
        now: Instant,
    ) -> Result<(), End> {
        let calls = self.conn.calls();
        let unanswered = self.conn.take_unanswered();
        let is_within = shares.calls(self.conn.peer(), (self.calls, calls), unanswered, now);
        self.calls = calls;
        if is_within || outcome.is_err() || self.conn.is_closing() {
            return outcome;
        }
        let violation = if unanswered > 0 { Violation::Resets } else { Violation::Streams };
        self.conn.violate(violation, now)
    }
}

/// The thread's state.
pub(crate) struct Serve {
    port: Port,
    conns: HashMap<u64, Entry>,
    shares: Shares,
    next_id: u64,
    conns_max: usize,
    metrics: Metrics,
    cx: Context,
}

impl running::Serve for Serve {
    type Behind = Behind;
    const PROTOCOL: &'static str = "gRPC";
    const THREAD: &'static str = "grpc-gate";

    fn new(port: Port, behind: Behind, registry: &Registry) -> Result<Self, Box<dyn Error>> {
        let cx = Context {
            now: Instant::now(),
            scratch: vec![0; SCRATCH_BYTES],
            allowed: Vec::new(),
            behind,
        };
        Ok(Self {
            port,
            conns: HashMap::new(),
            shares: Shares::new(cx.now),
            next_id: CONNECTIONS / 2,
            conns_max: Room::of_process().grpc,
            metrics: Metrics::register(registry)?,
            cx,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut checked = Instant::now();
        let mut end_by: Option<Instant> = None;
        loop {
            let is_flushed = || self.conns.values().all(|entry| entry.conn.is_flushed());
            if end_by.is_some_and(|by| self.cx.now >= by || is_flushed()) {
                return Ok(());
            }
            // Without connections there are no deadlines.
            let has_deadlines = !self.conns.is_empty() || end_by.is_some();
            let events = self.port.wait(has_deadlines, TICK)?;
            self.cx.now = Instant::now();
            for (token, is_gone) in events {
                match token {
                    WAKE => {
                        self.port.close()?;
                        if self.port.woken()? == Woken::End {
                            end_by = Some(self.cx.now + END_WITHIN);
                            self.read_last()?;
                        }
                    }
                    LISTENERS..OWN => self.accept(token)?,
                    token => self.on_ready(token / 2, token % 2 == 1, is_gone)?,
                }
            }
            if self.cx.now.duration_since(checked) >= TICK {
                checked = self.cx.now;
                self.expire()?;
            }
            self.metrics.open.set(self.conns.len() as i64);
        }
    }
}

impl Serve {
    /// Reads what the core has answered last. It has ended by now, and nothing more comes: without
    /// this, answers that no event has reported yet would be lost with their connections.
    fn read_last(&mut self) -> io::Result<()> {
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.on_ready(id, true, false))
    }

    /// Accepts the connections that wait at a listener.
    fn accept(&mut self, token: u64) -> io::Result<()> {
        for _ in 0..ACCEPTS_A_TURN {
            match self.port.accept(token) {
                Accepted::Nothing => return Ok(()),
                Accepted::NoDescriptor => {
                    self.evict(None, Closed::Crowded);
                    return self.port.pause();
                }
                Accepted::Connection(socket, peer) => self.admit(socket, peer)?,
            }
        }
        Ok(())
    }

    /// Relays a new connection, for which another one may have to go: of the same address where
    /// that has its share, or else of the address with the most.
    fn admit(&mut self, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let key = address_key(peer.ip());
        let connections = self.shares.connections(key);
        if !self.shares.open(key, self.cx.now) {
            self.metrics.close(Closed::Rate);
            return Ok(());
        }
        if connections >= GRPC_CONNECTIONS_PER_ADDRESS_MAX {
            self.evict(Some(key), Closed::Address);
        } else if self.conns.len() >= self.conns_max {
            self.evict(None, Closed::Crowded);
        }
        let tls = self.port.tls();
        if tls.is_some() {
            self.bound_handshakes();
        }
        let Ok(conn) = Conn::new(socket, peer, tls.as_ref(), &self.cx) else {
            self.shares.close(key, 0, self.cx.now);
            return Ok(());
        };
        let id = self.next_id;
        self.next_id += 1;
        let client = conn.client_interest();
        self.port.poller.add(conn.socket(), id * 2, client)?;
        self.conns.insert(id, Entry { conn, client, core: None, calls: 0 });
        self.metrics.open.set(self.conns.len() as i64);
        Ok(())
    }

    /// Makes room for one more handshake: a client that stops in its first message costs what the
    /// library has allocated for it.
    fn bound_handshakes(&mut self) {
        let since = |(id, entry): (&u64, &Entry)| Some((entry.conn.handshake_since()?, *id));
        if self.conns.iter().filter_map(since).count() < TLS_HANDSHAKES_MAX {
            return;
        }
        if let Some((_, oldest)) = self.conns.iter().filter_map(since).min() {
            self.close(oldest, Some(Closed::Handshake));
        }
    }

    /// Closes the connection that is needed the least, of one address or of the address with the
    /// most.
    fn evict(&mut self, address: Option<IpAddr>, reason: Closed) {
        let address = address.or_else(|| self.shares.largest());
        let of_address = self.conns.iter().filter(|(_, it)| Some(it.conn.peer()) == address);
        let least = of_address.min_by_key(|(_, entry)| entry.conn.eviction_order());
        if let Some(id) = least.map(|(id, _)| *id) {
            self.close(id, Some(reason));
        }
    }

    fn on_ready(&mut self, id: u64, is_core: bool, is_gone: bool) -> io::Result<()> {
        let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
        let waits = if is_core { entry.core.flatten() } else { entry.client };
        // Nothing is read or written: only the end is left.
        let outcome = match (is_core, waits.is_none() && is_gone) {
            (_, true) => Err(None),
            (true, false) => entry.conn.on_core(&mut self.cx),
            (false, false) => entry.conn.on_client(&mut self.cx),
        };
        self.after(id, outcome)
    }

    /// Closes a connection that is done, or waits for what it needs now.
    fn after(&mut self, id: u64, outcome: Result<(), End>) -> io::Result<()> {
        let Some(entry) = self.conns.get_mut(&id) else { return Ok(()) };
        let outcome = entry.count_calls(&mut self.shares, outcome, self.cx.now);
        if let Some(violation) = entry.conn.take_violation() {
            log::debug!("closing a gRPC connection of {}: {violation:?}", entry.conn.peer());
            self.metrics.close(Closed::Violation(violation));
        }
        if let Err(end) = outcome {
            self.close(id, end);
            return Ok(());
        }
        let client = entry.conn.client_interest();
        if entry.client != client {
            entry.client = client;
            self.port.poller.change(entry.conn.socket(), id * 2, client)?;
        }
        let wanted = entry.conn.core_interest();
        match (entry.conn.core(), entry.core) {
            (Some(core), None) => self.port.poller.add(core, id * 2 + 1, wanted)?,
            (Some(core), Some(now)) if now != wanted => {
                self.port.poller.change(core, id * 2 + 1, wanted)?;
            }
            _ => {}
        }
        // A descriptor that is closed leaves the poller by itself.
        entry.core = entry.conn.core().map(|_| wanted);
        Ok(())
    }

    fn close(&mut self, id: u64, reason: End) {
        let Some(entry) = self.conns.remove(&id) else { return };
        if let Some(reason) = reason {
            log::debug!("closing a gRPC connection of {}: {reason:?}", entry.conn.peer());
            self.metrics.close(reason);
        }
        self.shares.close(entry.conn.peer(), entry.calls, self.cx.now);
        // A socket that the system has dropped already is not waited for either.
        let _ = self.port.poller.remove(entry.conn.socket(), id * 2);
        if let Some(core) = entry.conn.core() {
            let _ = self.port.poller.remove(core, id * 2 + 1);
        }
    }

    /// Ends what has exceeded its deadline, and accepts again.
    fn expire(&mut self) -> io::Result<()> {
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.conns.get_mut(&id) else { continue };
            let outcome = match entry.conn.violation_of_time(self.cx.now) {
                Some(violation) => entry.conn.violate(violation, self.cx.now),
                None => entry.conn.check_time(&self.cx),
            };
            self.after(id, outcome)?;
        }
        self.shares.forget(self.cx.now);
        self.port.resume()
    }
}
