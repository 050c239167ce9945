//! The connections to the HTTP workers, and which request gets the next one that is free.
//!
//! The first connection is for health alone, so that slow requests never delay it. Some more are
//! for other servers of `[peers]`, which wait there for changes, and answer each other while all
//! other workers of both wait for such an answer. Requests of one address occupy no more than their
//! share of the others and of the queue; from the queue, the address with the fewest requests under
//! way comes first.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;

use super::backend::{Backend, Request, Response};
use super::parse::PEERS;
use super::refusal::Refusal;
use crate::base::limits::HTTP_ADDRESS_SHARE_PERCENT;
use crate::server::gate::stream::Interest;

/// The path whose requests have a lane of their own.
const HEALTH: &str = "/v1/health";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Health,
    Peers,
    Work,
}

/// A request that waits.
struct Queued {
    client: u64,
    lane: Lane,
    request: Box<Request>,
}

/// A connection to a worker, and whose request it has.
struct Line {
    backend: Backend,
    lane: Lane,
    address: Option<IpAddr>,
}

/// Where a request went.
pub(crate) enum Dispatched {
    /// To the connection of this number.
    Sent(usize),
    /// Into the queue.
    Queued,
    /// Nowhere.
    Refused(Refusal),
}

/// All connections to workers, and the queues before them.
pub(crate) struct Lanes {
    lines: Vec<Line>,
    queue: VecDeque<Queued>,
    /// Requests that may wait, in each lane.
    queue_max: usize,
    /// Requests of each address at the workers.
    under_way: HashMap<IpAddr, usize>,
}

impl Lanes {
    /// Lanes over connections, the first of which is for health and the next `peers` of which are
    /// for other servers.
    ///
    /// # Errors
    ///
    /// When a connection can't be made non-blocking.
    pub(crate) fn new(
        connections: Vec<UnixStream>,
        peers: usize,
        queue_max: usize,
    ) -> io::Result<Self> {
        let lanes = std::iter::once(Lane::Health)
            .chain(std::iter::repeat_n(Lane::Peers, peers))
            .chain(std::iter::repeat(Lane::Work));
        let line = |(index, (connection, lane))| {
            Ok(Line { backend: Backend::new(index, connection)?, lane, address: None })
        };
        let lines: io::Result<Vec<Line>> =
            connections.into_iter().zip(lanes).enumerate().map(line).collect();
        Ok(Self { lines: lines?, queue: VecDeque::new(), queue_max, under_way: HashMap::new() })
    }

    /// The connections in the order of their numbers.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.lines.iter().map(|line| line.backend.stream())
    }

    /// A connection, and what it waits for.
    pub(crate) fn waits(&self, index: usize) -> Option<(&UnixStream, Interest)> {
        self.lines.get(index).map(|line| (line.backend.stream(), line.backend.interest()))
    }

    /// The connection that has the request of a client.
    pub(crate) fn serving(&self, client: u64) -> Option<usize> {
        self.lines.iter().position(|line| line.backend.client() == Some(client))
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Gives a request to a free worker where its address has less than its share, or queues it.
    ///
    /// # Errors
    ///
    /// When the HTTP library has closed the connection.
    pub(crate) fn dispatch(
        &mut self,
        client: u64,
        request: Box<Request>,
    ) -> io::Result<Dispatched> {
        let lane = self.lane_of(&request.head.target);
        let free = self.lines.iter().position(|it| it.lane == lane && it.backend.is_free());
        if let Some(index) = free.filter(|_| self.may_work(lane, request.address)) {
            self.send(index, client, &request)?;
            return Ok(Dispatched::Sent(index));
        }
        let in_lane = || self.queue.iter().filter(|it| it.lane == lane);
        if in_lane().count() >= self.queue_max {
            return Ok(Dispatched::Refused(Refusal::QueueFull));
        }
        let same = in_lane().filter(|it| it.request.address == request.address);
        if same.count() >= share(self.queue_max) {
            return Ok(Dispatched::Refused(Refusal::AddressShare));
        }
        self.queue.push_back(Queued { client, lane, request });
        Ok(Dispatched::Queued)
    }

    fn lane_of(&self, target: &str) -> Lane {
        let path = target.split('?').next().unwrap_or_default();
        let has_peers = || self.lines.iter().any(|line| line.lane == Lane::Peers);
        if path == HEALTH {
            Lane::Health
        } else if path.starts_with(PEERS) && has_peers() {
            Lane::Peers
        } else {
            Lane::Work
        }
    }

    /// Moves what a connection can move; its answer when it is complete.
    ///
    /// # Errors
    ///
    /// When the HTTP library has closed the connection or its answer can't be parsed.
    pub(crate) fn advance(
        &mut self,
        index: usize,
        scratch: &mut [u8],
    ) -> io::Result<Option<Response>> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(None) };
        let response = line.backend.advance(scratch)?;
        if response.is_some()
            && let Some(address) = line.address.take()
            && let Some(count) = self.under_way.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&address);
            }
        }
        Ok(response)
    }

    /// Gives a free connection the next request of its lane whose client is still there. True when
    /// there was one.
    ///
    /// # Errors
    ///
    /// When the HTTP library has closed the connection.
    pub(crate) fn refill(
        &mut self,
        index: usize,
        is_there: impl Fn(u64) -> bool,
    ) -> io::Result<bool> {
        let Some(lane) = self.lines.get(index).map(|line| line.lane) else { return Ok(false) };
        self.queue.retain(|it| is_there(it.client));
        let candidates = self
            .queue
            .iter()
            .enumerate()
            .filter(|(_, it)| it.lane == lane && self.may_work(lane, it.request.address));
        // Of equals the first one is the one that has waited for the longest.
        let next = candidates.min_by_key(|(_, it)| self.count(it.request.address));
        let Some(next) = next.map(|(at, _)| at).and_then(|at| self.queue.remove(at)) else {
            return Ok(false);
        };
        self.send(index, next.client, &next.request)?;
        Ok(true)
    }

    fn send(&mut self, index: usize, client: u64, request: &Request) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        line.backend.send(client, request)?;
        if line.lane == Lane::Work {
            line.address = Some(request.address);
            *self.under_way.entry(request.address).or_default() += 1;
        }
        Ok(())
    }

    fn count(&self, address: IpAddr) -> usize {
        self.under_way.get(&address).copied().unwrap_or(0)
    }

    fn may_work(&self, lane: Lane, address: IpAddr) -> bool {
        let workers = self.lines.iter().filter(|line| line.lane == Lane::Work).count();
        lane != Lane::Work || self.count(address) < share(workers)
    }
}

/// What one address may have of `all`: at least one.
fn share(all: usize) -> usize {
    (all * HTTP_ADDRESS_SHARE_PERCENT / 100).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::server::gate::http::parse;

    /// Lanes with workers that the test plays.
    fn lanes(workers: usize, queue: usize) -> (Lanes, Vec<UnixStream>) {
        let pairs: Vec<_> = (0..=workers).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        (Lanes::new(ours, 0, queue).unwrap(), theirs)
    }

    fn request(path: &str, address: &str) -> Box<Request> {
        let head = parse::parse(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let address: IpAddr = address.parse().unwrap();
        let (head, client) = (head.unwrap(), address.to_string());
        Box::new(Request { head, body: Vec::new(), client, address })
    }

    /// What became of a request: the connection's number, `None` in the queue.
    fn ask(
        lanes: &mut Lanes,
        client: u64,
        path: &str,
        address: &str,
    ) -> Result<Option<usize>, Refusal> {
        match lanes.dispatch(client, request(path, address)).unwrap() {
            Dispatched::Sent(index) => Ok(Some(index)),
            Dispatched::Queued => Ok(None),
            Dispatched::Refused(refusal) => Err(refusal),
        }
    }

    /// The worker answers; whom it serves next.
    fn answer(lanes: &mut Lanes, workers: &mut [UnixStream], index: usize) -> bool {
        let mut piece = [0; 1_024];
        let read = workers[index].read(&mut piece).unwrap();
        assert!(read > 0);
        workers[index].write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(lanes.advance(index, &mut piece).unwrap().is_some());
        lanes.refill(index, |_| true).unwrap()
    }

    #[test]
    fn health_has_a_lane_of_its_own() {
        let (mut lanes, mut workers) = lanes(2, 2);
        assert_eq!(ask(&mut lanes, 1, "/v1/agents", "192.0.2.1"), Ok(Some(1)));
        assert_eq!(ask(&mut lanes, 2, "/v1/agents", "192.0.2.2"), Ok(Some(2)));
        assert_eq!(ask(&mut lanes, 3, "/v1/agents", "192.0.2.3"), Ok(None));
        assert_eq!(ask(&mut lanes, 4, "/v1/health?_=1", "192.0.2.3"), Ok(Some(0)));
        assert_eq!(ask(&mut lanes, 5, "/v1/health", "192.0.2.3"), Ok(None));
        assert!(answer(&mut lanes, &mut workers, 0), "the second health request");
        assert!(!answer(&mut lanes, &mut workers, 0), "nothing else in this lane");
        assert_eq!(lanes.waiting(), 1);
    }

    #[test]
    fn other_servers_have_lanes_of_their_own() {
        let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, mut workers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let mut lanes = Lanes::new(ours, 2, 2).unwrap();
        assert_eq!(ask(&mut lanes, 1, "/v1/peers", "192.0.2.1"), Ok(Some(3)));
        assert_eq!(ask(&mut lanes, 2, "/v1/agents", "192.0.2.1"), Ok(None));
        assert_eq!(ask(&mut lanes, 3, "/v1/peers/hello", "192.0.2.1"), Ok(Some(1)));
        assert_eq!(ask(&mut lanes, 4, "/v1/peers/config?epoch=1", "192.0.2.1"), Ok(Some(2)));
        assert_eq!(ask(&mut lanes, 5, "/v1/peers/hello", "192.0.2.2"), Ok(None));
        assert!(answer(&mut lanes, &mut workers, 2), "the next of this lane");
        assert_eq!(lanes.waiting(), 1, "the request for agents waits for its own lane");
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let (mut lanes, mut workers) = lanes(4, 4);
        for client in 0..3 {
            let index = client as usize + 1;
            assert_eq!(ask(&mut lanes, client, "/v1/agents", "192.0.2.1"), Ok(Some(index)));
        }
        for client in 3..6 {
            assert_eq!(ask(&mut lanes, client, "/v1/agents", "192.0.2.1"), Ok(None));
        }
        assert_eq!(ask(&mut lanes, 6, "/v1/agents", "192.0.2.1"), Err(Refusal::AddressShare));
        assert_eq!(ask(&mut lanes, 7, "/v1/agents", "192.0.2.2"), Ok(Some(4)));
        assert_eq!(ask(&mut lanes, 8, "/v1/agents", "192.0.2.2"), Ok(None));
        assert_eq!(ask(&mut lanes, 9, "/v1/agents", "192.0.2.3"), Err(Refusal::QueueFull));
        // The one with the fewest under way comes first, although others wait for longer.
        assert!(answer(&mut lanes, &mut workers, 1));
        assert!(!lanes.queue.iter().any(|it| it.client == 8));
        assert_eq!(lanes.under_way.values().copied().max(), Some(2));
        // Requests of clients that have gone are dropped.
        assert!(!lanes.refill(0, |client| client == 5).unwrap());
        assert_eq!(lanes.waiting(), 1);
    }
}
