//! Slows down whoever guesses passwords: after some wrong ones a user's name, or a network that
//! they come from, must wait, twice as long after each further one. A network is one IPv4 address
//! or a /64 of IPv6, which is what one customer gets. A network from which a user logged in lately
//! has a count of its own for that user, so that guesses from elsewhere never lock it out.
//!
//! A guess counts from when it is allowed, not from when it turns out wrong, so that guesses sent
//! at the same time are not more than guesses sent one after the other. Kept in memory, for a
//! bounded number of names and networks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use crate::base::clock::{DAY_MS, MINUTE_MS};
use crate::base::limits::{
    LOGIN_FAILURES_ADDRESS_FREE, LOGIN_FAILURES_USER_FREE, LOGIN_THROTTLE_ENTRIES_MAX,
    LOGIN_WAIT_SECS_MAX,
};

/// After this long without a failure, all is forgotten.
const FORGET_MS: i64 = 15 * MINUTE_MS;
/// How long a network counts as one from which a user logs in.
const LATELY_MS: i64 = 30 * DAY_MS;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Network(String),
    User(String),
    /// A user from a network from which that user logged in lately.
    Known(String, String),
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    failures: u32,
    /// Guesses whose result is not known yet.
    pending: u32,
    last_ms: i64,
    until_ms: i64,
}

#[derive(Default)]
struct Tables {
    records: HashMap<Who, Record>,
    /// When a user last logged in from a network, Unix milliseconds.
    logins: HashMap<(String, String), i64>,
}

/// Failures of late, by network and by user.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<Tables>);

/// A guess that may be compared. It counts as pending until it is dropped.
pub(crate) struct Guess<'a> {
    throttle: &'a Throttle,
    keys: [Who; 2],
    network: String,
    user: String,
}

impl Throttle {
    /// Lets a password from `address` for `user` be compared.
    ///
    /// # Errors
    ///
    /// How many seconds it must wait.
    pub(crate) fn guess(&self, address: &str, user: &str, now_ms: i64) -> Result<Guess<'_>, u64> {
        let mut tables = self.0.lock();
        let network = network(address);
        let login = tables.logins.get(&(network.clone(), user.to_owned()));
        let is_known = login.is_some_and(|at_ms| now_ms.saturating_sub(*at_ms) <= LATELY_MS);
        let keys = if is_known {
            // Neither what others guess at the user nor what they send from the network counts.
            let known = Who::Known(network.clone(), user.to_owned());
            [known.clone(), known]
        } else {
            [Who::Network(network.clone()), Who::User(user.to_owned())]
        };
        let wait_ms = keys.iter().filter_map(|who| tables.records.get(who)?.wait_ms(who, now_ms));
        if let Some(wait_ms) = wait_ms.max() {
            return Err((wait_ms as u64).div_ceil(1_000).max(1));
        }
        for who in distinct(&keys) {
            if !tables.records.contains_key(who) {
                make_room(&mut tables.records, |record| record.last_ms);
            }
            let record = tables.records.entry(who.clone()).or_default();
            if now_ms.saturating_sub(record.last_ms) > FORGET_MS {
                *record = Record { pending: record.pending, ..Record::default() };
            }
            record.pending += 1;
            record.last_ms = now_ms;
        }
        Ok(Guess { throttle: self, keys, network, user: user.to_owned() })
    }
}

impl Guess<'_> {
    /// Notes that the password was wrong.
    pub(crate) fn failed(self, now_ms: i64) {
        let mut tables = self.throttle.0.lock();
        for who in distinct(&self.keys) {
            let Some(record) = tables.records.get_mut(who) else { continue };
            record.failures = record.failures.saturating_add(1);
            record.last_ms = now_ms;
            if let Some(over) = record.failures.checked_sub(who.free()) {
                let wait_secs = (1_i64 << over.min(16)).min(LOGIN_WAIT_SECS_MAX);
                record.until_ms = now_ms.saturating_add(wait_secs * 1_000);
            }
        }
    }

    /// Notes that the password was right. What others guessed at the user stays counted.
    pub(crate) fn succeeded(self, now_ms: i64) {
        let mut tables = self.throttle.0.lock();
        let key = (self.network.clone(), self.user.clone());
        tables.records.remove(&Who::Known(key.0.clone(), key.1.clone()));
        if !tables.logins.contains_key(&key) {
            make_room(&mut tables.logins, |at_ms| *at_ms);
        }
        tables.logins.insert(key, now_ms);
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let mut tables = self.throttle.0.lock();
        for who in distinct(&self.keys) {
            if let Some(record) = tables.records.get_mut(who) {
                record.pending = record.pending.saturating_sub(1);
            }
        }
    }
}

impl Who {
    /// Failures before each further guess must wait.
    fn free(&self) -> u32 {
        match self {
            Self::Network(_) => LOGIN_FAILURES_ADDRESS_FREE,
            Self::User(_) | Self::Known(..) => LOGIN_FAILURES_USER_FREE,
        }
    }
}

impl Record {
    /// Milliseconds until the next guess may be compared; `None`: now.
    fn wait_ms(&self, who: &Who, now_ms: i64) -> Option<i64> {
        if now_ms.saturating_sub(self.last_ms) > FORGET_MS && self.pending == 0 {
            return None;
        }
        // Guesses at the same time: as many as are free, and one where none is.
        let free = who.free().saturating_sub(self.failures).max(1);
        if self.pending >= free {
            return Some(1_000);
        }
        // A clock that was set back must not lock anyone out for longer than the greatest wait.
        let until_ms = self.until_ms.min(now_ms.saturating_add(LOGIN_WAIT_SECS_MAX * 1_000));
        let left_ms = until_ms.saturating_sub(now_ms);
        (left_ms > 0).then_some(left_ms)
    }
}

/// Both keys, or the one where they are the same.
fn distinct(keys: &[Who; 2]) -> &[Who] {
    if keys[0] == keys[1] { &keys[..1] } else { keys }
}

/// The network of an address: itself, or its /64.
fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Ok(ip) => ip.to_string(),
        Err(_) => address.to_owned(),
    }
}

/// Drops the eighth of a full table that is the oldest, so that a flood of names costs each little.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    at_ms: impl Fn(&V) -> i64,
) {
    if table.len() < LOGIN_THROTTLE_ENTRIES_MAX {
        return;
    }
    let mut times: Vec<i64> = table.values().map(&at_ms).collect();
    let (_, oldest, _) = times.select_nth_unstable(LOGIN_THROTTLE_ENTRIES_MAX / 8);
    let oldest = *oldest;
    table.retain(|_, value| at_ms(value) > oldest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(throttle: &Throttle, address: &str, user: &str, now_ms: i64) -> Result<(), u64> {
        throttle.guess(address, user, now_ms).map(|guess| guess.failed(now_ms))
    }

    fn wait_secs(throttle: &Throttle, address: &str, user: &str, now_ms: i64) -> Option<u64> {
        throttle.guess(address, user, now_ms).err()
    }

    #[test]
    fn a_user_waits_longer_after_each_failure_and_is_forgotten() {
        let throttle = Throttle::default();
        let mut now_ms = 1_000_000;
        for _ in 1..LOGIN_FAILURES_USER_FREE {
            assert_eq!(fail(&throttle, "10.0.0.1", "admin", now_ms), Ok(()));
            assert_eq!(wait_secs(&throttle, "10.0.0.1", "admin", now_ms), None);
        }
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(fail(&throttle, "10.0.0.1", "admin", now_ms), Ok(()));
            let wait = wait_secs(&throttle, "10.0.0.2", "admin", now_ms).unwrap_or(0);
            waits.push(wait);
            now_ms += wait as i64 * 1_000;
            assert_eq!(wait_secs(&throttle, "10.0.0.2", "admin", now_ms), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        let later = now_ms + FORGET_MS + 1;
        assert_eq!(fail(&throttle, "10.0.0.1", "admin", later), Ok(()));
        assert_eq!(wait_secs(&throttle, "10.0.0.2", "admin", later), None);
    }

    #[test]
    fn a_network_that_tries_many_users_waits_and_others_do_not() {
        for (addresses, other) in [
            (["10.0.0.1", "10.0.0.1"], "10.0.0.2"),
            (["fd00::1", "fd00::ffff:0:0:1"], "fd00:0:0:1::1"),
            (["10.0.0.1", "::ffff:10.0.0.1"], "::ffff:10.0.0.2"),
        ] {
            let throttle = Throttle::default();
            for number in 0..LOGIN_FAILURES_ADDRESS_FREE {
                let address = addresses[number as usize % 2];
                assert_eq!(fail(&throttle, address, &format!("user{number}"), 5_000), Ok(()));
            }
            assert_eq!(wait_secs(&throttle, addresses[1], "someone", 5_000), Some(1));
            assert_eq!(wait_secs(&throttle, other, "someone", 5_000), None);
        }
    }

    #[test]
    fn guesses_from_elsewhere_lock_out_nobody_who_logged_in_lately() {
        let throttle = Throttle::default();
        throttle.guess("10.0.0.9", "admin", 1_000).map(|it| it.succeeded(1_000)).ok();
        let mut now_ms = 10_000;
        for number in 0..50 {
            let _ = fail(&throttle, &format!("10.0.1.{number}"), "admin", now_ms);
            now_ms += 500;
        }
        assert!(wait_secs(&throttle, "10.0.2.1", "admin", now_ms).is_some());
        assert_eq!(wait_secs(&throttle, "10.0.0.9", "admin", now_ms), None);
        // Its own wrong passwords count, and a login does not give the others new guesses.
        for _ in 0..LOGIN_FAILURES_USER_FREE {
            assert_eq!(fail(&throttle, "10.0.0.9", "admin", now_ms), Ok(()));
        }
        assert_eq!(wait_secs(&throttle, "10.0.0.9", "admin", now_ms), Some(1));
        now_ms += 1_000;
        throttle.guess("10.0.0.9", "admin", now_ms).map(|it| it.succeeded(now_ms)).ok();
        assert!(wait_secs(&throttle, "10.0.2.1", "admin", now_ms).is_some());
    }

    #[test]
    fn guesses_at_the_same_time_are_no_more_than_one_after_the_other() {
        let throttle = Throttle::default();
        let pending: Vec<_> =
            (0..50).filter_map(|_| throttle.guess("10.0.0.1", "admin", 1_000).ok()).collect();
        assert_eq!(pending.len(), LOGIN_FAILURES_USER_FREE as usize);
        pending.into_iter().for_each(|guess| guess.failed(1_000));
        assert_eq!(wait_secs(&throttle, "10.0.0.1", "admin", 1_000), Some(1));
        let one = throttle.guess("10.0.0.1", "admin", 2_000);
        assert!(one.is_ok() && throttle.guess("10.0.0.1", "admin", 2_000).is_err());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let throttle = Throttle::default();
        for _ in 0..LOGIN_FAILURES_USER_FREE {
            let _ = fail(&throttle, "10.0.0.1", "admin", 1_000_000_000);
        }
        assert_eq!(wait_secs(&throttle, "10.0.0.9", "admin", 0), Some(60));
    }

    #[test]
    fn the_tables_stay_bounded() {
        let throttle = Throttle::default();
        for number in 0..(LOGIN_THROTTLE_ENTRIES_MAX as i64 * 2) {
            let guess = throttle.guess(&format!("a{number}"), &format!("u{number}"), number);
            guess.map(|guess| guess.succeeded(number)).ok();
        }
        let tables = throttle.0.lock();
        assert!(tables.records.len() <= LOGIN_THROTTLE_ENTRIES_MAX + 1);
        assert!(tables.logins.len() <= LOGIN_THROTTLE_ENTRIES_MAX);
    }
}
