//! Finds the state of an agent's alerts when it reports here for the first time: the server that it
//! reported to before has the newest, the engine has it when that one is gone.

use std::time::{Duration, Instant};

use crate::rt::stop::Stop;
use crate::server::alert::Alerts;
use crate::server::alert::moved::{Taken, rebuilt};
use crate::server::handover::Handover;

/// How long the first reports of many agents are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// How often the engine gets the state of alerts that are pending or firing.
const EVERY: Duration = Duration::from_secs(60);
/// Agents whose state is looked for at once.
const AT_ONCE: usize = 500;

impl Handover {
    /// Looks for the state of agents until `stop`.
    pub(super) fn run(&self, stop: &Stop) {
        let mut again = Instant::now() + EVERY;
        loop {
            crossbeam_channel::select! {
                recv(self.wake.1) -> _ => {}
                recv(stop.receiver()) -> _ => return,
                default(again.saturating_duration_since(Instant::now())) => {}
            }
            if Instant::now() >= again {
                again = Instant::now() + EVERY;
                let open = self.table.open();
                open.iter().for_each(|(row, is_sent)| self.tell_engine(row, *is_sent));
            }
            if stop.wait(GATHER) {
                return;
            }
            loop {
                let asked: Vec<String> = self.asked.lock().iter().take(AT_ONCE).cloned().collect();
                let Some(alerts) = self.alerts.upgrade().filter(|_| !asked.is_empty()) else {
                    break;
                };
                self.find(&alerts, &asked);
                let mut left = self.asked.lock();
                left.retain(|agent| !asked.contains(agent));
            }
        }
    }

    fn find(&self, alerts: &Alerts, asked: &[String]) {
        let since = Instant::now();
        // What was known before may have changed in the moment when they moved.
        let alive = self.mirrors.iter().filter(|mirror| mirror.is_alive() || mirror.is_new());
        for mirror in alive {
            self.ask_one(mirror, since);
        }
        let are_known = self.mirrors.iter().all(|mirror| mirror.is_known());
        let mut left = Vec::new();
        for agent in asked {
            if let Some((mirror, place)) = self.newest(agent) {
                let mut taken = mirror.alerts(agent);
                for alert in &mut taken {
                    alert.row.updated_ms = alert.row.updated_ms.max(place.newest_ms);
                }
                self.metrics.taken.with_label_values(&["server"]).inc();
                alerts.adopt(agent, Some(taken), None);
            } else if are_known && !self.mirrors.is_empty() && self.table.place(agent).is_some() {
                self.metrics.taken.with_label_values(&["here"]).inc();
                alerts.adopt(agent, None, None);
            } else {
                left.push(agent.as_str());
            }
        }
        if !left.is_empty() {
            self.ask_engine(alerts, &left);
        }
    }

    /// The server that had an agent after this one, or alone.
    fn newest(&self, agent: &str) -> Option<(&super::Mirror, super::Place)> {
        let theirs = self.mirrors.iter().filter_map(|it| Some((it, it.place(agent)?)));
        let (mirror, place) = theirs.max_by_key(|(it, place)| (place.claim, &it.sister.name))?;
        let own = self.table.place(agent);
        own.is_none_or(|own| self.is_beaten(own, mirror, place)).then_some((mirror, place))
    }

    fn ask_engine(&self, alerts: &Alerts, agents: &[&str]) {
        let Some(engine) = self.engine.as_ref().filter(|engine| engine.can_read()) else {
            return agents.iter().for_each(|agent| {
                self.metrics.taken.with_label_values(&["here"]).inc();
                alerts.adopt(agent, None, None);
            });
        };
        let mut known = match engine.read(agents) {
            Ok(known) => known,
            Err(why) => {
                log::warn!("the engine does not say how the alerts of agents were: {why}");
                for agent in agents {
                    self.metrics.taken.with_label_values(&["nothing"]).inc();
                    alerts.adopt(agent, None, None);
                }
                return;
            }
        };
        let rules = alerts.rules();
        for agent in agents {
            let figures = known.remove(*agent).unwrap_or_default();
            let newest_ms = figures.iter().map(|figures| figures.evaluated_ms).max();
            let own = self.table.place(agent);
            let is_newer = own.is_none_or(|own| newest_ms.is_some_and(|at| at > own.newest_ms));
            if !is_newer {
                self.metrics.taken.with_label_values(&["here"]).inc();
                alerts.adopt(agent, None, None);
                continue;
            }
            let taken: Vec<Taken> = figures.iter().filter_map(|it| rebuilt(&rules, it)).collect();
            let from = if taken.is_empty() { "here" } else { "engine" };
            self.metrics.taken.with_label_values(&[from]).inc();
            alerts.adopt(agent, Some(taken), None);
        }
    }
}
