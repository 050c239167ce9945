//! Who reports under which agent id: two processes with one id, and clocks that are off, are
//! noticed here and logged. Nothing is refused for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Agents that are remembered; more than a server is made for.
const AGENTS_MAX: usize = 100_000;
/// The same agent is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(600);
/// A difference of the clocks from which on it is logged.
const SKEW_MS: i64 = 30_000;
/// Bytes of the texts by which a process is known.
const IDENTITY_BYTES_MAX: usize = 64;

/// What a call says of the process that made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The same for the life of an agent's process; empty from agents that do not say.
    pub(crate) instance: String,
    /// The boot id of its host; may be empty.
    pub(crate) boot_id: String,
}

impl Identity {
    /// An identity by its metadata; what is too long counts as none.
    pub(crate) fn new(instance: &str, boot_id: &str) -> Self {
        let short = |text: &str| {
            if text.len() <= IDENTITY_BYTES_MAX { text.to_owned() } else { String::new() }
        };
        Self { instance: short(instance), boot_id: short(boot_id) }
    }
}

/// The processes that report, by agent.
#[derive(Default)]
pub(crate) struct Senders(Mutex<HashMap<Box<str>, Seen>>);

struct Seen {
    current: Identity,
    /// The process that reported before.
    before: Option<Identity>,
    logged: Option<Instant>,
    skewed: bool,
}

/// What was noticed of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A process reports again that another one had followed: two report at the same time. Whether
    /// they are on one host, as far as their boot ids say.
    TwoAgents {
        /// Whether both have the same boot id.
        same_host: bool,
    },
    /// The agent's clock is so far ahead of the server's, milliseconds.
    Skewed(i64),
    /// The clocks agree again.
    Agree,
}

impl Senders {
    /// Notes a report of `agent` and logs what is odd about it. `sent_at_ms` is the agent's clock,
    /// 0 where it does not say.
    pub(crate) fn note(&self, agent: &str, who: &Identity, sent_at_ms: i64, now_ms: i64) {
        for notice in self.notices(agent, who, sent_at_ms, now_ms, Instant::now()) {
            match notice {
                Notice::TwoAgents { same_host } => {
                    let place = if same_host { "one host" } else { "two hosts" };
                    log::warn!(
                        "two agents on {place} report as `{agent}`, and their samples mix: give \
                         each its own agent_id"
                    );
                }
                Notice::Skewed(ahead_ms) => {
                    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
                    let secs = ahead_ms.saturating_abs() / 1_000;
                    log::warn!("the clock of agent `{agent}` is {secs} s {way} the server's");
                }
                Notice::Agree => {
                    log::info!("the clock of agent `{agent}` agrees with the server's again");
                }
            }
        }
    }

    fn notices(
        &self,
        agent: &str,
        who: &Identity,
        sent_at_ms: i64,
        now_ms: i64,
        now: Instant,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut senders = self.0.lock();
        if !senders.contains_key(agent) && senders.len() >= AGENTS_MAX {
            return notices;
        }
        let seen = senders.entry(agent.into()).or_insert_with(|| Seen {
            current: who.clone(),
            before: None,
            logged: None,
            skewed: false,
        });
        if !who.instance.is_empty() && who.instance != seen.current.instance {
            let returned =
                seen.before.as_ref().is_some_and(|before| before.instance == who.instance);
            let due = seen.logged.is_none_or(|at| now.duration_since(at) >= LOG_EVERY);
            if returned && due {
                seen.logged = Some(now);
                let same_host = seen.current.boot_id == who.boot_id;
                notices.push(Notice::TwoAgents { same_host });
            }
            seen.before = Some(std::mem::replace(&mut seen.current, who.clone()));
        }
        if sent_at_ms != 0 {
            let ahead_ms = sent_at_ms.saturating_sub(now_ms);
            let apart_ms = ahead_ms.saturating_abs();
            if !seen.skewed && apart_ms > SKEW_MS {
                seen.skewed = true;
                notices.push(Notice::Skewed(ahead_ms));
            } else if seen.skewed && apart_ms < SKEW_MS / 2 {
                seen.skewed = false;
                notices.push(Notice::Agree);
            }
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_770_638_400_000;

    fn seen(senders: &Senders, instance: &str, boot_id: &str, ahead_ms: i64) -> Vec<Notice> {
        let who = Identity::new(instance, boot_id);
        senders.notices("web-01", &who, NOW + ahead_ms, NOW, Instant::now())
    }

    #[test]
    fn a_restart_is_one_agent_and_two_that_alternate_are_two() {
        let senders = Senders::default();
        for instance in ["a", "a", "b", "b", "c"] {
            assert_eq!(seen(&senders, instance, "boot", 0), []);
        }
        assert_eq!(seen(&senders, "b", "boot", 0), [Notice::TwoAgents { same_host: true }]);
        assert_eq!(seen(&senders, "c", "boot", 0), [], "logged lately");
        let senders = Senders::default();
        assert_eq!(seen(&senders, "a", "one", 0), []);
        assert_eq!(seen(&senders, "b", "two", 0), []);
        assert_eq!(seen(&senders, "a", "one", 0), [Notice::TwoAgents { same_host: false }]);
    }

    #[test]
    fn agents_that_do_not_say_who_they_are_are_never_two() {
        let senders = Senders::default();
        for instance in ["", "a", "", "a"] {
            assert_eq!(seen(&senders, instance, "", 0), []);
        }
    }

    #[test]
    fn a_clock_that_is_off_is_noticed_once_and_again_when_it_is_right() {
        let senders = Senders::default();
        assert_eq!(seen(&senders, "a", "", 40_000), [Notice::Skewed(40_000)]);
        assert_eq!(seen(&senders, "a", "", 50_000), []);
        assert_eq!(seen(&senders, "a", "", 1_000), [Notice::Agree]);
        assert_eq!(seen(&senders, "a", "", -90_000), [Notice::Skewed(-90_000)]);
    }
}
