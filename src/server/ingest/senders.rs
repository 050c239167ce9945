//! Who reports under which agent id, and when: arrivals, clocks that are off, and two processes
//! with one id. All of it is logged, shown by the API, and named in alerts about absence; the
//! second of two processes is refused where the configuration asks for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::limits::FUTURE_MS_MAX;

/// Agents that are remembered; more than a server is made for.
const AGENTS_MAX: usize = 100_000;
/// The same agent is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(600);
/// How long two processes with one id are shown after the last time that they took turns, and how
/// long one that is refused stays so after the last report of the other.
const TWINS_FOR: Duration = Duration::from_secs(600);
/// A difference of the clocks from which on it is logged.
const SKEW_MS: i64 = 30_000;
/// Bytes of the texts by which a process is known.
const IDENTITY_BYTES_MAX: usize = 64;
/// Of an agent that does not say when it sends: so many reports in a row are as late as the first
/// of them, give or take [`LAG_SLACK_MS`], before its clock counts as behind. A backlog comes in
/// faster than it was measured.
const LAG_REPORTS: u32 = 3;
/// See [`LAG_REPORTS`]; more than the server takes to store a report.
const LAG_SLACK_MS: i64 = 5_000;
/// The time that [`LAG_REPORTS`] reports take at the least.
const LAG_TIME: Duration = Duration::from_secs(2);

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

/// What a stored report says of times, Unix milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// The agent's clock when it sent the report; 0 where it does not say.
    pub(crate) sent_at_ms: i64,
    /// The newest timestamp of its points, where it has any and does not say when it was sent.
    pub(crate) newest_ms: Option<i64>,
}

/// Called with an agent and how far its clock is ahead of the server's, milliseconds, when that
/// becomes known; `None` when the clocks agree again.
pub(crate) type OnSkew = Box<dyn Fn(&str, Option<i64>) + Send + Sync>;

/// The processes that report, by agent.
pub(crate) struct Senders {
    agents: Mutex<HashMap<Box<str>, Seen>>,
    refuse_twins: AtomicBool,
    on_skew: OnSkew,
}

struct Seen {
    current: Identity,
    /// The process that reported before.
    before: Option<Identity>,
    /// The process that is refused.
    refused: Option<Identity>,
    logged: Option<Instant>,
    /// When two processes took turns, and whether they are on one host.
    twins: Option<(Instant, bool)>,
    skewed: bool,
    skew_ms: Option<i64>,
    lag: Option<Lag>,
    arrived_ms: i64,
    arrived: Instant,
}

/// Reports that came equally late.
#[derive(Clone, Copy)]
struct Lag {
    ms: i64,
    since: Instant,
    reports: u32,
}

/// What is known of an agent that has reported since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sender {
    /// When its last report arrived, Unix milliseconds.
    pub(crate) arrived_ms: i64,
    /// How far its clock is ahead of the server's, milliseconds; `None` while it is not known.
    pub(crate) skew_ms: Option<i64>,
    /// Whether two processes report with its id; then whether they are on one host.
    pub(crate) twins: Option<bool>,
    /// What is wrong with it, each a sentence for people.
    pub(crate) warnings: Vec<String>,
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
    /// Nobody has reported. `on_skew` is called when an agent's clock differs, and when it agrees
    /// again.
    pub(crate) fn new(refuse_twins: bool, on_skew: OnSkew) -> Self {
        Self { agents: Mutex::default(), refuse_twins: AtomicBool::new(refuse_twins), on_skew }
    }

    /// Whether the second of two processes with one id is refused from now on.
    pub(crate) fn set_refuse_twins(&self, refuse: bool) {
        self.refuse_twins.store(refuse, Ordering::Relaxed);
    }

    /// Whether this process may report as `agent`: where two with one id were noticed, and the
    /// configuration says so, the second one may not.
    ///
    /// # Errors
    ///
    /// The message for the one that is refused.
    pub(crate) fn admit(&self, agent: &str, who: &Identity) -> Result<(), String> {
        if !self.refuse_twins.load(Ordering::Relaxed) || who.instance.is_empty() {
            return Ok(());
        }
        self.admit_at(agent, who, Instant::now())
    }

    fn admit_at(&self, agent: &str, who: &Identity, now: Instant) -> Result<(), String> {
        let mut agents = self.agents.lock();
        let Some(seen) = agents.get_mut(agent) else { return Ok(()) };
        let is_refused = seen.refused.as_ref().is_some_and(|one| one.instance == who.instance);
        let is_current = seen.current.instance == who.instance;
        if is_refused && now.duration_since(seen.arrived) < TWINS_FOR {
            seen.twins = Some((now, seen.current.boot_id == who.boot_id));
            return Err(format!(
                "another agent reports as `{agent}`: give this one its own agent_id"
            ));
        }
        if is_refused && !is_current {
            // The other one has ended.
            seen.refused = None;
        }
        Ok(())
    }

    /// Notes a stored report of `agent` that arrived at `now_ms`, and logs what is odd about it.
    pub(crate) fn note(&self, agent: &str, who: &Identity, times: Times, now_ms: i64) {
        for notice in self.notices(agent, who, times, now_ms, Instant::now()) {
            match notice {
                Notice::TwoAgents { same_host } => log::warn!("{}", twins_text(agent, same_host)),
                Notice::Skewed(ahead_ms) => {
                    log::warn!("the clock of agent `{agent}` {}", skew_text(ahead_ms));
                    (self.on_skew)(agent, Some(ahead_ms));
                }
                Notice::Agree => {
                    log::info!("the clock of agent `{agent}` agrees with the server's again");
                    (self.on_skew)(agent, None);
                }
            }
        }
    }

    /// What is known of the agents that have reported since the start.
    pub(crate) fn all(&self) -> HashMap<String, Sender> {
        let now = Instant::now();
        let agents = self.agents.lock();
        agents.iter().map(|(agent, seen)| (agent.to_string(), seen.shown(agent, now))).collect()
    }

    #[cfg(test)]
    /// What is known of one agent; `None` when it has not reported since the start.
    pub(crate) fn get(&self, agent: &str) -> Option<Sender> {
        self.agents.lock().get(agent).map(|seen| seen.shown(agent, Instant::now()))
    }

    /// Forgets an agent that was removed.
    pub(crate) fn forget(&self, agent: &str) {
        self.agents.lock().remove(agent);
        (self.on_skew)(agent, None);
    }

    fn notices(
        &self,
        agent: &str,
        who: &Identity,
        times: Times,
        now_ms: i64,
        now: Instant,
    ) -> Vec<Notice> {
        let mut agents = self.agents.lock();
        if !agents.contains_key(agent) && agents.len() >= AGENTS_MAX {
            return Vec::new();
        }
        let seen = agents.entry(agent.into()).or_insert_with(|| Seen::new(who, now_ms, now));
        (seen.arrived_ms, seen.arrived) = (now_ms, now);
        let twins = seen.turn(who, now);
        twins.into_iter().chain(seen.skew(times, now_ms, now)).collect()
    }
}

impl Seen {
    fn new(who: &Identity, now_ms: i64, now: Instant) -> Self {
        Self {
            current: who.clone(),
            before: None,
            refused: None,
            logged: None,
            twins: None,
            skewed: false,
            skew_ms: None,
            lag: None,
            arrived_ms: now_ms,
            arrived: now,
        }
    }

    /// Another process than at the last report is a restart; one that comes back is a second one.
    fn turn(&mut self, who: &Identity, now: Instant) -> Option<Notice> {
        if who.instance.is_empty() || who.instance == self.current.instance {
            return None;
        }
        let returned = self.before.as_ref().is_some_and(|before| before.instance == who.instance);
        let follower = std::mem::replace(&mut self.current, who.clone());
        let same_host = follower.boot_id == who.boot_id;
        let mut notice = None;
        if returned {
            self.twins = Some((now, same_host));
            // Who was there first stays.
            self.refused = Some(follower.clone());
            if self.logged.is_none_or(|at| now.duration_since(at) >= LOG_EVERY) {
                self.logged = Some(now);
                notice = Some(Notice::TwoAgents { same_host });
            }
        }
        self.before = Some(follower);
        notice
    }

    fn skew(&mut self, times: Times, now_ms: i64, now: Instant) -> Option<Notice> {
        let ahead_ms = if times.sent_at_ms != 0 {
            times.sent_at_ms.saturating_sub(now_ms)
        } else {
            self.estimate(times.newest_ms?.saturating_sub(now_ms), now)?
        };
        self.skew_ms = Some(ahead_ms);
        let apart_ms = ahead_ms.saturating_abs();
        if !self.skewed && apart_ms > SKEW_MS {
            self.skewed = true;
            return Some(Notice::Skewed(ahead_ms));
        }
        if self.skewed && apart_ms < SKEW_MS / 2 {
            self.skewed = false;
            return Some(Notice::Agree);
        }
        None
    }

    /// How far a clock is ahead, by points that are so much newer than now: no point is from the
    /// future, and points that are equally old at every report are new ones.
    fn estimate(&mut self, newer_ms: i64, now: Instant) -> Option<i64> {
        if newer_ms > -SKEW_MS {
            self.lag = None;
            return Some(newer_ms);
        }
        let alike = self.lag.filter(|lag| (lag.ms - newer_ms).saturating_abs() <= LAG_SLACK_MS);
        let mut lag = alike.unwrap_or(Lag { ms: newer_ms, since: now, reports: 0 });
        lag.reports += 1;
        self.lag = Some(lag);
        let is_sure =
            lag.reports >= LAG_REPORTS && now.saturating_duration_since(lag.since) >= LAG_TIME;
        is_sure.then_some(newer_ms)
    }

    fn shown(&self, agent: &str, now: Instant) -> Sender {
        let twins = self.twins.filter(|(at, _)| now.saturating_duration_since(*at) < TWINS_FOR);
        let twins = twins.map(|(_, same_host)| same_host);
        let mut warnings = Vec::new();
        if let Some(ahead_ms) = self.skew_ms.filter(|_| self.skewed) {
            warnings.push(format!("The clock {}.", skew_text(ahead_ms)));
        }
        if let Some(same_host) = twins {
            let text = twins_text(agent, same_host);
            warnings.push(format!("T{}.", text.get(1..).unwrap_or_default()));
        }
        Sender { arrived_ms: self.arrived_ms, skew_ms: self.skew_ms, twins, warnings }
    }
}

fn twins_text(agent: &str, same_host: bool) -> String {
    let place = if same_host { "one host" } else { "two hosts" };
    format!(
        "two agents on {place} report as `{agent}`, and their samples mix: give each its own \
         agent_id"
    )
}

fn skew_text(ahead_ms: i64) -> String {
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let secs = ahead_ms.saturating_abs() / 1_000;
    let lost = if ahead_ms > FUTURE_MS_MAX {
        ", and its points are rejected: they are from the future"
    } else {
        ""
    };
    format!("is {secs} s {way} the server's{lost}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_770_638_400_000;

    fn senders() -> Senders {
        Senders::new(true, Box::new(|_, _| {}))
    }

    fn seen(senders: &Senders, instance: &str, boot_id: &str, ahead_ms: i64) -> Vec<Notice> {
        let who = Identity::new(instance, boot_id);
        let times = Times { sent_at_ms: NOW + ahead_ms, newest_ms: None };
        senders.notices("web-01", &who, times, NOW, Instant::now())
    }

    #[test]
    fn a_restart_is_one_agent_and_two_that_alternate_are_two() {
        let senders = senders();
        for instance in ["a", "a", "b", "b", "c"] {
            assert_eq!(seen(&senders, instance, "boot", 0), []);
        }
        assert_eq!(senders.get("web-01").unwrap().twins, None);
        assert_eq!(seen(&senders, "b", "boot", 0), [Notice::TwoAgents { same_host: true }]);
        assert_eq!(seen(&senders, "c", "boot", 0), [], "logged lately");
        assert_eq!(senders.get("web-01").unwrap().twins, Some(true));
        let senders = self::senders();
        assert_eq!(seen(&senders, "a", "one", 0), []);
        assert_eq!(seen(&senders, "b", "two", 0), []);
        assert_eq!(seen(&senders, "a", "one", 0), [Notice::TwoAgents { same_host: false }]);
    }

    #[test]
    fn the_second_of_two_is_refused_until_the_first_has_ended() {
        let senders = senders();
        let (one, two) = (Identity::new("a", "one"), Identity::new("b", "two"));
        for instance in ["a", "b"] {
            assert_eq!(senders.admit("web-01", &Identity::new(instance, "")), Ok(()));
            seen(&senders, instance, "", 0);
        }
        seen(&senders, "a", "one", 0);
        assert_eq!(senders.admit("web-01", &one), Ok(()));
        let refused = senders.admit("web-01", &two).unwrap_err();
        assert!(refused.contains("another agent reports as `web-01`"), "{refused}");
        assert_eq!(senders.admit("web-01", &Identity::new("c", "one")), Ok(()), "a restart");
        let later = Instant::now() + TWINS_FOR;
        assert_eq!(senders.admit_at("web-01", &two, later), Ok(()), "the first has ended");
    }

    #[test]
    fn agents_that_do_not_say_who_they_are_are_never_two() {
        let senders = senders();
        for instance in ["", "a", "", "a"] {
            assert_eq!(seen(&senders, instance, "", 0), []);
        }
    }

    #[test]
    fn a_clock_that_is_off_is_noticed_once_and_again_when_it_is_right() {
        let senders = senders();
        assert_eq!(seen(&senders, "a", "", 40_000), [Notice::Skewed(40_000)]);
        assert_eq!(seen(&senders, "a", "", 50_000), []);
        assert_eq!(senders.get("web-01").unwrap().skew_ms, Some(50_000));
        assert_eq!(seen(&senders, "a", "", 1_000), [Notice::Agree]);
        assert_eq!(seen(&senders, "a", "", -90_000), [Notice::Skewed(-90_000)]);
    }

    #[test]
    fn a_clock_is_seen_to_be_off_by_the_points_where_the_agent_says_nothing() {
        let at = |senders: &Senders, newer_ms: i64, after_secs: u64| {
            let times = Times { sent_at_ms: 0, newest_ms: Some(NOW + newer_ms) };
            let now = Instant::now() + Duration::from_secs(after_secs);
            senders.notices("web-01", &Identity::default(), times, NOW, now)
        };
        let ahead = senders();
        assert_eq!(at(&ahead, 7_200_000, 0), [Notice::Skewed(7_200_000)]);
        assert_eq!(at(&ahead, -500, 10), [Notice::Agree]);
        let behind = senders();
        assert_eq!(at(&behind, -7_200_000, 0), []);
        assert_eq!(at(&behind, -7_200_900, 10), []);
        assert_eq!(at(&behind, -7_200_100, 20), [Notice::Skewed(-7_200_100)]);
        let backlog = senders();
        for report in 0..100 {
            assert_eq!(at(&backlog, -3_600_000 + report * 10_000, 0), [], "{report}");
        }
    }
}
