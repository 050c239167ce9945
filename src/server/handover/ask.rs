//! Asks the other servers what is new with them, lets go of agents that report there, and watches
//! the agents of one that is away.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::rt::stop::Stop;
use crate::server::handover::Handover;
use crate::server::handover::mirror::Mirror;
use crate::server::handover::news::{News, Place};
use crate::server::peers::client::PeerError;

/// How often another server is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How soon it is asked again when alerts have changed there: the question says what has arrived,
/// and the next answer that they were sent.
const SOON: Duration = Duration::from_millis(50);
/// For how long it is asked so often.
const SOON_FOR: Duration = Duration::from_secs(2);
/// Time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

impl Handover {
    /// Asks one server until `stop`.
    pub(super) fn ask_on(&self, index: usize, stop: &Stop) {
        let Some(mirror) = self.mirrors.get(index) else { return };
        let mut busy_to = Instant::now();
        loop {
            if self.ask_one(mirror, Instant::now()) {
                busy_to = Instant::now() + SOON_FOR;
            }
            self.open_when_known();
            if mirror.is_dead() {
                self.watch(mirror);
            }
            self.metrics.agents.set(i64::try_from(self.table.count()).unwrap_or(i64::MAX));
            if stop.wait(if Instant::now() < busy_to { SOON } else { EVERY }) {
                return;
            }
        }
    }

    /// Asks a server, unless it has answered since `since`. True when alerts have
    /// changed there, or there is more.
    pub(super) fn ask_one(&self, mirror: &Mirror, since: Instant) -> bool {
        let _asking = mirror.asking.lock();
        if mirror.answered_after(since) {
            return false;
        }
        let (boot, version) = mirror.since();
        let name = &self.name;
        let path = format!("/v1/peers/agents?server={name}&boot={boot}&since={version}");
        match self.get::<News>(mirror, &path, ANSWER_WITHIN) {
            Ok(news) => {
                let is_busy = news.more || !news.alerts.is_empty();
                let changed = mirror.take(news, self.clock.now_ms());
                self.release(mirror, &changed);
                is_busy
            }
            Err(error) => {
                let why = error.to_string();
                if mirror.failed(&why) {
                    log::warn!("the server `{}` does not answer: {why}", mirror.sister.name);
                }
                false
            }
        }
    }

    /// The answer of a server to a GET.
    ///
    /// # Errors
    ///
    /// When it gives none, or one that can't be used.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        mirror: &Mirror,
        path: &str,
        within: Duration,
    ) -> Result<T, PeerError> {
        let away = || PeerError::Away { why: "there is one server".to_owned(), sent: false };
        let client = self.peers.as_ref().ok_or_else(away)?.client();
        match client.get(&mirror.sister, path, within) {
            // The connection may be one to the process before a restart.
            Err(PeerError::Away { sent: true, .. }) => client.get(&mirror.sister, path, within),
            answer => answer,
        }
    }

    /// Lets go of agents that report to another server now.
    fn release(&self, mirror: &Mirror, changed: &[(String, Place)]) {
        let Some(alerts) = self.alerts.upgrade() else { return };
        for (agent, place) in changed.iter().filter(|(_, place)| place.is_here) {
            let own = self.table.place(agent).filter(|own| own.is_here);
            if own.is_some_and(|own| self.is_beaten(own, mirror, *place))
                && self.table.release(agent)
            {
                self.metrics.released.inc();
                alerts.release(agent, mirror.alerts(agent));
            }
        }
    }

    /// Lets notifications go once every server has answered that is there: what they go on with is
    /// no longer notified here.
    fn open_when_known(&self) {
        let is_known = self.mirrors.iter().all(|it| !it.is_new());
        if is_known && !self.is_open.load(Ordering::Acquire) {
            if let Some(alerts) = self.alerts.upgrade() {
                alerts.settle();
            }
            self.is_open.store(true, Ordering::Release);
        }
    }

    /// Takes over agents of a server that is away and that report nowhere, as far as they are this
    /// server's to watch.
    fn watch(&self, gone: &Mirror) {
        let Some(alerts) = self.alerts.upgrade() else { return };
        for (agent, place) in gone.places().into_iter().filter(|(_, place)| place.is_here) {
            let others = self.mirrors.iter().filter(|it| it.sister.name != gone.sister.name);
            let others = others.filter_map(|mirror| mirror.place(&agent));
            let later = others.chain(self.table.place(&agent)).any(|it| it.claim >= place.claim);
            if later || !self.is_watcher(&agent) || self.asked.lock().contains(&agent) {
                continue;
            }
            self.metrics.watched.inc();
            log::info!("`{}` is away: {agent} is watched here", gone.sister.name);
            alerts.adopt(&agent, Some(gone.alerts(&agent)), Some(place.seen_ms));
            // The claim follows once it is written; until then nobody asks again.
            self.table.claim(&agent, place.claim + 1, (place.seen_ms, place.newest_ms));
        }
    }

    /// Whether an agent that reports nowhere is this server's: of those that answer, the one with
    /// the greatest weight has it (rendezvous hashing).
    fn is_watcher(&self, agent: &str) -> bool {
        let alive = self.mirrors.iter().filter(|mirror| mirror.is_alive());
        let others = alive.map(|mirror| mirror.sister.name.as_str());
        let own = weight(&self.name, agent);
        others.map(|name| weight(name, agent)).all(|weight| weight < own)
    }
}

fn weight(server: &str, agent: &str) -> [u8; 32] {
    Sha256::new().chain_update(server).chain_update([0]).chain_update(agent).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_spread_over_servers_and_stay_when_another_goes() {
        let best = |servers: &[&str], agent: &str| {
            let place = servers.iter().max_by_key(|server| weight(server, agent));
            place.map(|server| (*server).to_owned()).unwrap_or_default()
        };
        let agents: Vec<String> = (0..300).map(|number| format!("web-{number}")).collect();
        let of = |servers: &[&str], name: &str| {
            agents.iter().filter(|agent| best(servers, agent) == name).count()
        };
        let all = ["a", "b", "c"];
        for name in all {
            assert!((60..=140).contains(&of(&all, name)), "{name}: {}", of(&all, name));
        }
        let moved = agents.iter().filter(|agent| {
            best(&all, agent) != "c" && best(&all, agent) != best(&["a", "b"], agent)
        });
        assert_eq!(moved.count(), 0);
    }
}
