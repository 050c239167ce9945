//! The gate's thread: waits for whichever sockets are ready, and lets each go on as far as it can.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sides;
use super::client::{Client, Step, Turn};
use super::doors::{self, Caller};
use super::line::{Line, Whole};
use super::metrics::{Closed, Metrics};
use super::ready::{Found, Ready};
use super::refuse::Refusal;
use super::tls::Acceptor;
use super::wire::Want;
use crate::base::limits::HTTP_MEMORY_BYTES_MAX;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long answers that are due may take once it is time to stop.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);
/// Connections that one listener gives before the others have their turn.
const ACCEPTS_A_TURN: usize = 64;
/// Connections over the limit that are told so.
const LANDING: usize = 128;
const SCRATCH_BYTES: usize = 64 * 1024;

/// What events are told apart by: one number each, and ranges for what there are several of.
const WAKE: u64 = 0;
const LISTENERS: u64 = 1 << 16;
const LINES: u64 = 2 << 16;
const CLIENTS: u64 = 1 << 32;

/// A client and what is known of it.
struct Seat {
    client: Client,
    interest: Option<Want>,
    held: usize,
    asked: Option<Instant>,
}

/// The thread's state.
pub struct Run {
    ready: Ready,
    listeners: Vec<TcpListener>,
    listening: bool,
    tls: Option<Arc<Acceptor>>,
    lines: Vec<Line>,
    seats: HashMap<u64, Seat>,
    next: u64,
    seats_max: usize,
    queue: VecDeque<(u64, Box<Whole>)>,
    queue_max: usize,
    /// Bytes that all clients have in memory.
    held: usize,
    turn: Turn,
    woken: UnixStream,
}

impl Run {
    /// Registers what there is to wait for.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn new(sides: Sides, woken: UnixStream, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut ready = Ready::new()?;
        ready.add(&woken, WAKE, Some(Want::Read))?;
        for (listener, token) in sides.listeners.iter().zip(LISTENERS..) {
            doors::open(listener)?;
            ready.add(listener, token, Some(Want::Read))?;
        }
        let lines: io::Result<Vec<Line>> = sides.lines.into_iter().map(Line::new).collect();
        let lines = lines?;
        for (line, token) in lines.iter().zip(LINES..) {
            ready.add(line.stream(), token, Some(Want::Read))?;
        }
        let now = Instant::now();
        Ok(Self {
            ready,
            listeners: sides.listeners,
            listening: true,
            tls: sides.tls,
            lines,
            seats: HashMap::new(),
            next: CLIENTS,
            seats_max: doors::connections_max(),
            queue: VecDeque::new(),
            queue_max: sides.queue,
            held: 0,
            turn: Turn { now, scratch: vec![0; SCRATCH_BYTES], metrics, stopping: false },
            woken,
        })
    }

    /// Serves until it is told to stop, then answers what is due.
    ///
    /// # Errors
    ///
    /// When the HTTP library behind it fails.
    pub fn serve(mut self) -> io::Result<()> {
        let mut swept = Instant::now();
        let mut stop_by: Option<Instant> = None;
        loop {
            if stop_by.is_some_and(|by| self.turn.now >= by || self.seats.is_empty()) {
                return Ok(());
            }
            for (token, is_gone) in self.wait()? {
                match token {
                    WAKE if stop_by.is_none() => {
                        stop_by = Some(self.turn.now + STOP_WITHIN);
                        self.wind_down()?;
                    }
                    WAKE => {}
                    LISTENERS..LINES => self.accept((token - LISTENERS) as usize)?,
                    LINES..CLIENTS => self.hear((token - LINES) as usize)?,
                    id => self.touch(id, is_gone)?,
                }
            }
            if self.turn.now.duration_since(swept) >= TICK {
                swept = self.turn.now;
                self.sweep()?;
            }
            self.turn.metrics.open.set(self.seats.len() as i64);
            self.turn.metrics.queue_depth.set(self.queue.len() as i64);
        }
    }

    fn wait(&mut self) -> io::Result<Vec<Found>> {
        // With nobody there, there is no deadline either.
        let limit = (!self.seats.is_empty() || !self.listening).then_some(TICK);
        let found = self.ready.wait(limit)?;
        self.turn.now = Instant::now();
        Ok(found)
    }

    /// Takes the connections that wait at a listener.
    fn accept(&mut self, index: usize) -> io::Result<()> {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = self.listeners.get(index) else { return Ok(()) };
            match doors::accept(listener) {
                Caller::Nobody => return Ok(()),
                Caller::NoRoom => {
                    self.oust()?;
                    // A listener that can't be served would wake the thread for ever.
                    return self.listen(false);
                }
                Caller::Came(socket, peer) => {
                    let is_full = self.seats.len() >= self.seats_max && !self.oust()?;
                    let tls = self.tls.as_ref().map(|tls| tls.current());
                    let client = Client::new(socket, peer, tls.as_ref(), self.turn.now);
                    let Ok(client) = client else { continue };
                    self.seat(client, is_full)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a client its place, or an answer that there is none.
    fn seat(&mut self, mut client: Client, is_full: bool) -> io::Result<()> {
        if is_full {
            // An answer under TLS would cost a handshake, and more of them than fit on the landing
            // are not heard out.
            if self.tls.is_some() || self.seats.len() >= self.seats_max + LANDING {
                self.turn.metrics.close(Closed::Crowded);
                return Ok(());
            }
            client.refuse(Refusal::Crowded, &self.turn);
        }
        let id = self.next;
        self.next += 1;
        let interest = Some(Want::Read);
        self.ready.add(client.socket(), id, interest)?;
        self.seats.insert(id, Seat { client, interest, held: 0, asked: None });
        self.settle(id)
    }

    /// Makes room by ending the connection that has asked for nothing for the longest, or else the
    /// one that has been slow for the longest.
    fn oust(&mut self) -> io::Result<bool> {
        while let Some(id) = self.longest(Client::unasked_since) {
            // It may have asked by now, and was not heard yet.
            self.settle(id)?;
            let still = self.seats.get(&id).map(|seat| seat.client.unasked_since().is_some());
            match still {
                Some(true) => {
                    self.turn.metrics.close(Closed::Crowded);
                    self.leave(id);
                    return Ok(true);
                }
                Some(false) => {}
                None => return Ok(true),
            }
        }
        let Some(id) = self.longest(Client::slow_since) else { return Ok(false) };
        self.turn.metrics.close(Closed::Crowded);
        self.leave(id);
        Ok(true)
    }

    /// The client for which `since` lies back the furthest.
    fn longest(&self, since: impl Fn(&Client) -> Option<Instant>) -> Option<u64> {
        let all = self.seats.iter().filter_map(|(id, seat)| Some((since(&seat.client)?, *id)));
        all.min().map(|(_, id)| id)
    }

    fn listen(&mut self, listening: bool) -> io::Result<()> {
        self.listening = listening;
        let interest = listening.then_some(Want::Read);
        for (listener, token) in self.listeners.iter().zip(LISTENERS..) {
            self.ready.change(listener, token, interest)?;
        }
        Ok(())
    }

    /// Goes on with a client whose socket is ready.
    fn touch(&mut self, id: u64, is_gone: bool) -> io::Result<()> {
        let Some(seat) = self.seats.get(&id) else { return Ok(()) };
        // While a worker has its request nothing is waited for but the connection's end.
        if seat.interest.is_none() && is_gone {
            self.leave(id);
            return Ok(());
        }
        self.settle(id)
    }

    /// Lets a client go on until it must wait, and waits for what it needs.
    fn settle(&mut self, id: u64) -> io::Result<()> {
        loop {
            let Some(seat) = self.seats.get_mut(&id) else { return Ok(()) };
            match seat.client.pump(&mut self.turn) {
                Step::Wait(want) => {
                    self.watch(id, want)?;
                    self.weigh(id);
                    return Ok(());
                }
                Step::Ask(whole) => self.ask(id, whole)?,
                Step::Over => {
                    self.leave(id);
                    return Ok(());
                }
            }
        }
    }

    fn watch(&mut self, id: u64, want: Option<Want>) -> io::Result<()> {
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(()) };
        if seat.interest != want {
            seat.interest = want;
            self.ready.change(seat.client.socket(), id, want)?;
        }
        Ok(())
    }

    /// Counts what a client has in memory. When all have too much together, the one goes that has
    /// been slow for the longest.
    fn weigh(&mut self, id: u64) {
        if let Some(seat) = self.seats.get_mut(&id) {
            let held = seat.client.held();
            self.held = self.held - seat.held + held;
            seat.held = held;
        }
        while self.held > HTTP_MEMORY_BYTES_MAX {
            let Some(slowest) = self.longest(Client::slow_since) else { return };
            // One answer that is larger than that may go to the only one who asks.
            if self.seats.get(&slowest).is_none_or(|seat| seat.held == self.held) {
                return;
            }
            self.turn.metrics.close(Closed::Memory);
            self.leave(slowest);
        }
    }

    fn leave(&mut self, id: u64) {
        if let Some(seat) = self.seats.remove(&id) {
            self.held -= seat.held;
            // A socket that the system has let go of already is not waited for either.
            let _ = self.ready.forget(seat.client.socket(), id);
        }
    }

    /// Gives a request to a free line, or has it wait for one.
    fn ask(&mut self, id: u64, whole: Box<Whole>) -> io::Result<()> {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.asked = Some(self.turn.now);
        }
        if let Some(index) = self.lines.iter().position(Line::is_free) {
            return self.send(index, id, &whole);
        }
        if self.queue.len() < self.queue_max {
            self.queue.push_back((id, whole));
        } else if let Some(seat) = self.seats.get_mut(&id) {
            seat.client.refuse(Refusal::QueueFull, &self.turn);
        }
        Ok(())
    }

    fn send(&mut self, index: usize, id: u64, whole: &Whole) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        line.ask(id, whole).map_err(behind)?;
        self.listen_to(index)
    }

    fn listen_to(&mut self, index: usize) -> io::Result<()> {
        let Some(line) = self.lines.get(index) else { return Ok(()) };
        self.ready.change(line.stream(), LINES + index as u64, Some(line.want()))
    }

    /// Moves what a line can move, and hands its answer over.
    fn hear(&mut self, index: usize) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        let answered = line.pump(&mut self.turn.scratch).map_err(behind)?;
        self.listen_to(index)?;
        let Some(answered) = answered else { return Ok(()) };
        let id = answered.client;
        if let Some(seat) = self.seats.get_mut(&id) {
            if let Some(asked) = seat.asked.take() {
                self.turn.metrics.seconds.observe((self.turn.now - asked).as_secs_f64());
            }
            seat.client.give(answered, &self.turn);
        }
        // The line first: the client may have sent its next request already.
        while let Some((next, whole)) = self.queue.pop_front() {
            if self.seats.contains_key(&next) {
                self.send(index, next, &whole)?;
                break;
            }
        }
        self.settle(id)
    }

    /// Ends what has taken too long, and listens again.
    fn sweep(&mut self) -> io::Result<()> {
        let now = self.turn.now;
        let late = self.seats.iter().filter(|(_, seat)| seat.client.is_late(now));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            match seat.client.expire(&mut self.turn) {
                Step::Wait(want) => self.watch(id, want)?,
                Step::Ask(_) | Step::Over => self.leave(id),
            }
            self.weigh(id);
        }
        if self.listening { Ok(()) } else { self.listen(true) }
    }

    /// Takes no more connections, and keeps those that have an answer to come.
    fn wind_down(&mut self) -> io::Result<()> {
        self.ready.forget(&self.woken, WAKE)?;
        for (listener, token) in self.listeners.drain(..).zip(LISTENERS..) {
            self.ready.forget(&listener, token)?;
        }
        // What lies in the sockets has come in.
        for id in self.seats.keys().copied().collect::<Vec<_>>() {
            self.settle(id)?;
        }
        self.turn.stopping = true;
        let done = self.seats.iter().filter(|(_, seat)| !seat.client.is_owed());
        for id in done.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.leave(id);
        }
        Ok(())
    }
}

/// An error of a line, which no request can bring about.
fn behind(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the HTTP library behind the gate: {error}"))
}
