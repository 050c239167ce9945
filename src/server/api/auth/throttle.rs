//! Slows down whoever guesses passwords: after some failures an address or a user must wait, twice
//! as long after each further one. Kept in memory, for a bounded number of both.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::base::clock::MINUTE_MS;
use crate::base::limits::{
    LOGIN_FAILURES_ADDRESS_FREE, LOGIN_FAILURES_USER_FREE, LOGIN_THROTTLE_ENTRIES_MAX,
    LOGIN_WAIT_SECS_MAX,
};

/// After this long without a failure, all is forgotten.
const FORGET_MS: i64 = 15 * MINUTE_MS;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Address(String),
    User(String),
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    failures: u32,
    last_ms: i64,
    until_ms: i64,
}

/// Failures of late, by address and by user.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<Who, Record>>);

impl Throttle {
    /// How many seconds a login from `address` as `user` must wait; `None`: it may be tried.
    pub fn wait_secs(&self, address: &str, user: &str, now_ms: i64) -> Option<u64> {
        let table = self.0.lock();
        let until_ms = keys(address, user)
            .iter()
            .filter_map(|who| table.get(who))
            // A clock that was set back must not lock anyone out for longer than the greatest wait.
            .map(|record| record.until_ms.min(now_ms.saturating_add(LOGIN_WAIT_SECS_MAX * 1_000)))
            .max()?;
        let left_ms = until_ms.saturating_sub(now_ms);
        (left_ms > 0).then(|| (left_ms as u64).div_ceil(1_000))
    }

    /// Notes a failed login.
    pub fn failed(&self, address: &str, user: &str, now_ms: i64) {
        let mut table = self.0.lock();
        for who in keys(address, user) {
            let free = match who {
                Who::Address(_) => LOGIN_FAILURES_ADDRESS_FREE,
                Who::User(_) => LOGIN_FAILURES_USER_FREE,
            };
            if table.len() >= LOGIN_THROTTLE_ENTRIES_MAX && !table.contains_key(&who) {
                make_room(&mut table, now_ms);
            }
            let record = table.entry(who).or_default();
            if now_ms.saturating_sub(record.last_ms) > FORGET_MS {
                *record = Record::default();
            }
            record.failures = record.failures.saturating_add(1);
            record.last_ms = now_ms;
            if record.failures >= free {
                let doublings = (record.failures - free).min(16);
                let wait_secs = (1_i64 << doublings).min(LOGIN_WAIT_SECS_MAX);
                record.until_ms = now_ms.saturating_add(wait_secs * 1_000);
            }
        }
    }

    /// Forgets a user's failures after a login. Those of the address stay: it may own a user and
    /// guess at another.
    pub fn succeeded(&self, user: &str) {
        let mut table = self.0.lock();
        table.remove(&Who::User(user.to_owned()));
    }
}

fn keys(address: &str, user: &str) -> [Who; 2] {
    [Who::Address(address.to_owned()), Who::User(user.to_owned())]
}

/// Drops what is forgotten; when nothing is, the entry whose last failure is the oldest.
fn make_room(table: &mut HashMap<Who, Record>, now_ms: i64) {
    table.retain(|_, record| now_ms.saturating_sub(record.last_ms) <= FORGET_MS);
    if table.len() >= LOGIN_THROTTLE_ENTRIES_MAX
        && let Some(oldest) =
            table.iter().min_by_key(|(_, record)| record.last_ms).map(|(who, _)| who.clone())
    {
        table.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_waits_longer_after_each_failure_and_is_forgotten() {
        let throttle = Throttle::default();
        let mut now_ms = 1_000_000;
        for _ in 1..LOGIN_FAILURES_USER_FREE {
            throttle.failed("10.0.0.1", "admin", now_ms);
            assert_eq!(throttle.wait_secs("10.0.0.1", "admin", now_ms), None);
        }
        let mut waits = Vec::new();
        for _ in 0..10 {
            throttle.failed("10.0.0.1", "admin", now_ms);
            let wait = throttle.wait_secs("10.0.0.2", "admin", now_ms).unwrap_or(0);
            waits.push(wait);
            now_ms += wait as i64 * 1_000;
            assert_eq!(throttle.wait_secs("10.0.0.2", "admin", now_ms), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        throttle.failed("10.0.0.1", "admin", now_ms + FORGET_MS + 1);
        assert_eq!(throttle.wait_secs("10.0.0.2", "admin", now_ms + FORGET_MS + 1), None);
    }

    #[test]
    fn an_address_that_tries_many_users_waits_and_others_do_not() {
        let throttle = Throttle::default();
        for number in 0..LOGIN_FAILURES_ADDRESS_FREE {
            throttle.failed("10.0.0.1", &format!("user{number}"), 5_000);
        }
        assert_eq!(throttle.wait_secs("10.0.0.1", "someone", 5_000), Some(1));
        assert_eq!(throttle.wait_secs("10.0.0.2", "someone", 5_000), None);
    }

    #[test]
    fn a_login_clears_the_user_and_a_clock_set_back_locks_nobody_out() {
        let throttle = Throttle::default();
        for _ in 0..LOGIN_FAILURES_USER_FREE {
            throttle.failed("10.0.0.1", "admin", 1_000_000_000);
        }
        assert_eq!(throttle.wait_secs("10.0.0.9", "admin", 0), Some(60));
        throttle.succeeded("admin");
        assert_eq!(throttle.wait_secs("10.0.0.9", "admin", 1_000_000_000), None);
    }

    #[test]
    fn the_table_stays_bounded() {
        let throttle = Throttle::default();
        for number in 0..(LOGIN_THROTTLE_ENTRIES_MAX as i64 * 2) {
            throttle.failed(&format!("a{number}"), "x", number);
        }
        let table = throttle.0.lock();
        assert!(table.len() <= LOGIN_THROTTLE_ENTRIES_MAX);
    }
}
