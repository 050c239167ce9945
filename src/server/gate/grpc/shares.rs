//! What one address, and all together, may cost the C core: open calls, and an allowance that a
//! new connection and each call without an answer take from. The core works on a call whose client
//! has left, so many short connections cost as much as one with many calls.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::base::limits::{
    GRPC_ALLOWANCE_MAX, GRPC_ALLOWANCE_PER_ADDRESS_MAX, GRPC_ALLOWANCE_PER_ADDRESS_PER_SEC,
    GRPC_ALLOWANCE_PER_SEC, GRPC_CALLS_MAX, GRPC_CALLS_PER_ADDRESS_MAX,
};

/// What one address has, or all together.
struct Share {
    connections: usize,
    calls: usize,
    /// What is left of the allowance; less than nothing after many calls at once.
    left: f64,
    at: Instant,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    calls: usize,
    allowance: f64,
    per_sec: f64,
}

const ADDRESS: Limits = Limits {
    calls: GRPC_CALLS_PER_ADDRESS_MAX,
    allowance: GRPC_ALLOWANCE_PER_ADDRESS_MAX as f64,
    per_sec: GRPC_ALLOWANCE_PER_ADDRESS_PER_SEC as f64,
};
const ALL: Limits = Limits {
    calls: GRPC_CALLS_MAX,
    allowance: GRPC_ALLOWANCE_MAX as f64,
    per_sec: GRPC_ALLOWANCE_PER_SEC as f64,
};

impl Share {
    fn new(limits: Limits, now: Instant) -> Self {
        Self { connections: 0, calls: 0, left: limits.allowance, at: now, limits }
    }

    /// Adds what has come back since the last time.
    fn refill(&mut self, now: Instant) {
        let back = now.duration_since(self.at).as_secs_f64() * self.limits.per_sec;
        self.left = (self.left + back).min(self.limits.allowance);
        self.at = now;
    }

    /// Takes from the allowance; no debt is larger than an allowance.
    fn take(&mut self, count: usize) {
        self.left = (self.left - count as f64).max(-self.limits.allowance);
    }

    fn is_full(&self) -> bool {
        self.left >= self.limits.allowance
    }
}

/// The shares of all addresses.
pub(super) struct Shares {
    by_address: HashMap<IpAddr, Share>,
    all: Share,
}

impl Shares {
    /// Nobody has anything.
    pub(super) fn new(now: Instant) -> Self {
        Self { by_address: HashMap::new(), all: Share::new(ALL, now) }
    }

    /// Open connections of an address.
    pub(super) fn connections(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, |share| share.connections)
    }

    /// The address with the most connections.
    pub(super) fn largest(&self) -> Option<IpAddr> {
        let most = self.by_address.iter().max_by_key(|(_, share)| share.connections);
        most.map(|(address, _)| *address)
    }

    /// Takes a new connection from the allowance of its address; false when none is left.
    pub(super) fn open(&mut self, address: IpAddr, now: Instant) -> bool {
        self.all.refill(now);
        if self.all.left < 1.0 {
            return false;
        }
        let share = self.of(address, now);
        if share.left < 1.0 {
            return false;
        }
        share.take(1);
        share.connections += 1;
        self.all.take(1);
        true
    }

    /// Notes how many calls of a connection are open now, that had `before`, and how many ended
    /// without an answer; false when the address has too many, or all together.
    pub(super) fn calls(
        &mut self,
        address: IpAddr,
        (before, after): (usize, usize),
        unanswered: usize,
        now: Instant,
    ) -> bool {
        if before == after && unanswered == 0 {
            return true;
        }
        self.all.refill(now);
        self.of(address, now);
        let all = &mut self.all;
        let Some(share) = self.by_address.get_mut(&address) else { return true };
        // Both are counted, whatever the first says.
        let is_within = [share, all].map(|share| {
            share.calls = (share.calls + after).saturating_sub(before);
            share.take(unanswered);
            (unanswered == 0 || share.left >= 0.0)
                && (after <= before || share.calls <= share.limits.calls)
        });
        is_within == [true, true]
    }

    /// Notes that a connection is closed that had so many open calls.
    pub(super) fn close(&mut self, address: IpAddr, calls: usize, now: Instant) {
        self.calls(address, (calls, 0), calls, now);
        if let Some(share) = self.by_address.get_mut(&address) {
            share.connections = share.connections.saturating_sub(1);
        }
    }

    /// Forgets the addresses without a connection whose allowance is whole again.
    pub(super) fn forget(&mut self, now: Instant) {
        self.by_address.retain(|_, share| {
            share.refill(now);
            share.connections > 0 || !share.is_full()
        });
    }

    fn of(&mut self, address: IpAddr, now: Instant) -> &mut Share {
        let share = self.by_address.entry(address).or_insert_with(|| Share::new(ADDRESS, now));
        share.refill(now);
        share
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn an_address_that_spent_its_allowance_waits_and_others_do_not() {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        for _ in 0..GRPC_ALLOWANCE_PER_ADDRESS_MAX {
            assert!(shares.open(ONE, now));
            shares.close(ONE, 0, now);
        }
        assert!(!shares.open(ONE, now));
        assert!(shares.open(OTHER, now));
        let later = now + Duration::from_secs(1);
        let opened = (0..1_000).filter(|_| shares.open(ONE, later)).count();
        assert_eq!(opened, GRPC_ALLOWANCE_PER_ADDRESS_PER_SEC);
        assert_eq!(shares.connections(ONE), opened);
        assert_eq!(shares.largest(), Some(ONE));
    }

    #[test]
    fn calls_without_an_answer_and_open_ones_are_bounded() {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        assert!(shares.open(ONE, now));
        assert!(shares.calls(ONE, (0, 0), GRPC_ALLOWANCE_PER_ADDRESS_MAX - 1, now));
        assert!(!shares.calls(ONE, (0, 0), 1, now));
        assert!(!shares.open(ONE, now));
        assert!(shares.open(OTHER, now));
        assert!(shares.calls(OTHER, (0, GRPC_CALLS_PER_ADDRESS_MAX), 0, now));
        assert!(!shares.calls(OTHER, (0, 1), 0, now));
        assert!(shares.calls(OTHER, (1, 0), 0, now), "fewer is never too many");
        // What one address has too much of counts for all together too, until it is closed.
        assert_eq!(shares.all.calls, GRPC_CALLS_PER_ADDRESS_MAX);
        shares.close(OTHER, GRPC_CALLS_PER_ADDRESS_MAX, now);
        assert_eq!(shares.all.calls, 0);
    }

    #[test]
    fn all_together_are_bounded_and_who_left_is_forgotten() {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        let opened = (0..30_000).filter(|n| shares.open(address(*n), now)).count();
        assert_eq!(opened, GRPC_ALLOWANCE_MAX);
        for n in 0..30_000 {
            shares.close(address(n), 0, now);
        }
        shares.forget(now + Duration::from_secs(60));
        assert!(shares.by_address.is_empty());
    }
}
