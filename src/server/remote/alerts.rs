//! The state of alerts at the engine, so that a server that takes an agent over goes on with them:
//! a sample of each figure whenever one is noted: at a change, and now and then while the alert is
//! pending or firing. The series have no label `oxmon_metric`, so no read of samples finds them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::base::clock::{DAY_MS, MINUTE_MS};
use crate::rt::stop::Stop;
use crate::rt::thread;
use crate::server::control::alerts::Figures;
use crate::server::receive::proto::{put_bytes, put_double, put_int};
use crate::server::remote::Inner;
use crate::server::remote::fetch;
use crate::server::remote::http::Posted;
use crate::server::remote::naming::Outside;
use crate::server::remote::target::Target;

/// What the names of the series begin with.
const FAMILY: &str = "oxmon_alert_";
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// The pause after a request that was not taken.
const PAUSE: Duration = Duration::from_secs(2);
/// How far back the state of an alert that is pending or firing is looked for, and of any.
const BACK_MS: [i64; 2] = [11 * MINUTE_MS, DAY_MS];
/// Agents in one query.
const AGENTS: usize = 50;
/// Alerts in one request.
const ALERTS: usize = 500;

/// The figures of an alert as series: name and value. Times are Unix seconds.
fn series_of(figures: &Figures) -> [(&'static str, f64); 9] {
    let secs = |ms: i64| ms as f64 / 1_000.0;
    [
        ("pending_since_seconds", secs(figures.pending_since_ms)),
        ("firing_since_seconds", secs(figures.firing_since_ms)),
        ("fired_seconds", secs(figures.fired_ms)),
        ("notified_seconds", secs(figures.notified_ms)),
        ("sent", f64::from(u8::from(figures.is_sent))),
        ("value", figures.value),
        ("threshold", figures.threshold),
        ("severity", f64::from(figures.severity)),
        ("evaluated_seconds", secs(figures.evaluated_ms)),
    ]
}

/// Alerts by rule, agent, metric and labels.
type ByKey = BTreeMap<[String; 4], Figures>;

/// Writes the state of alerts to the engine, and reads it back.
pub(crate) struct AlertLog {
    inner: Arc<Inner>,
    /// What was not written yet: the newest of each alert, so no more than there are alerts.
    changed: Mutex<ByKey>,
    wake: (Sender<()>, Receiver<()>),
}

impl AlertLog {
    /// A log at the engine of `inner`, on a thread that ends with `stop`.
    pub(super) fn start(inner: Arc<Inner>, stop: Stop) -> (Arc<Self>, JoinHandle<()>) {
        let log = Arc::new(Self { inner, changed: Mutex::default(), wake: bounded(1) });
        let writer = Arc::clone(&log);
        let thread = thread::spawn("remote-alerts", move || {
            writer.run(&stop);
            Ok(())
        });
        (log, thread)
    }

    /// Notes the state of an alert, which is written soon.
    pub(crate) fn note(&self, figures: Figures) {
        self.changed.lock().insert(figures.key.clone(), figures);
        // A full channel says the same.
        let _ = self.wake.0.try_send(());
    }

    /// Another server goes on with an alert: nothing more of it is written here.
    pub(crate) fn forget(&self, key: &[String; 4]) {
        self.changed.lock().remove(key);
    }

    fn run(&self, stop: &Stop) {
        loop {
            crossbeam_channel::select! {
                recv(self.wake.1) -> _ => {}
                recv(stop.receiver()) -> _ => {}
            }
            // A stop sends what is there once more.
            let stopped = stop.is_stopped() || stop.wait(GATHER);
            let whole = self.write();
            if stopped || (!whole && stop.wait(PAUSE)) {
                return;
            }
            if !whole {
                // A full channel says the same.
                let _ = self.wake.0.try_send(());
            }
        }
    }

    /// Writes what has changed; true when all of it was taken.
    fn write(&self) -> bool {
        let changed = std::mem::take(&mut *self.changed.lock());
        let mut parts: HashMap<usize, Vec<&Figures>> = HashMap::new();
        for figures in changed.values() {
            for target in self.inner.homes(&figures.key[1]) {
                let at = self.inner.targets.iter().position(|one| Arc::ptr_eq(one, target));
                at.into_iter().for_each(|at| parts.entry(at).or_default().push(figures));
            }
        }
        let now_ms = self.inner.clock.now_ms();
        let mut whole = true;
        for (at, figures) in parts {
            let Some(target) = self.inner.targets.get(at) else { continue };
            whole &= figures.chunks(ALERTS).all(|part| self.post(target, part, now_ms));
        }
        if !whole {
            let mut waiting = self.changed.lock();
            for (key, figures) in changed {
                waiting.entry(key).or_insert(figures);
            }
        }
        whole
    }

    fn post(&self, target: &Target, figures: &[&Figures], now_ms: i64) -> bool {
        let mut message = Vec::new();
        for one in figures {
            for (name, value) in series_of(one) {
                let labels = self.labels(one, name);
                put_series(&mut message, &labels, (now_ms, value));
            }
        }
        let Ok(packed) = snap::raw::Encoder::new().compress_vec(&message) else { return true };
        let url = target.url().to_owned();
        match self.inner.http.write(&url, &packed) {
            Posted::Taken => true,
            // The next minute writes them again.
            Posted::Refused(why) | Posted::TooLarge(why) => {
                log::warn!("{} refuses the state of {} alerts: {why}", target.name, figures.len());
                true
            }
            Posted::Away(_) => {
                target.move_on(&url);
                false
            }
            Posted::Failed(_) | Posted::Later(..) | Posted::Misconfigured(_) => false,
        }
    }

    fn labels(&self, figures: &Figures, name: &str) -> Outside {
        let [rule, agent, metric, labels] = &figures.key;
        self.inner.naming.alert(
            agent,
            &format!("{FAMILY}{name}"),
            [("rule", rule), ("metric", metric), ("labels", labels)],
        )
    }

    /// Whether there is an address to read from.
    pub(crate) fn can_read(&self) -> bool {
        self.inner.targets.iter().any(|target| !target.read_urls.is_empty())
    }

    /// What the engine knows of the alerts of these agents, by agent. An agent without alerts has
    /// none.
    ///
    /// # Errors
    ///
    /// Why the engine does not answer.
    pub(crate) fn read(&self, agents: &[&str]) -> Result<HashMap<String, Vec<Figures>>, String> {
        let mut out: HashMap<String, Vec<Figures>> = HashMap::new();
        let now_ms = self.inner.clock.now_ms();
        for back_ms in BACK_MS {
            // Most have an alert that is pending or firing, or none at all.
            let left: Vec<&str> =
                agents.iter().copied().filter(|agent| !out.contains_key(*agent)).collect();
            for part in left.chunks(AGENTS) {
                for figures in self.read_part(part, (now_ms - back_ms, now_ms))? {
                    out.entry(figures.key[1].clone()).or_default().push(figures);
                }
            }
        }
        Ok(out)
    }

    fn read_part(&self, agents: &[&str], times: (i64, i64)) -> Result<Vec<Figures>, String> {
        let selector = self.inner.naming.alert_selector(agents, FAMILY);
        let mut newest: BTreeMap<[String; 4], (i64, HashMap<String, f64>)> = BTreeMap::new();
        let (mut answered, mut away) = (0, Vec::new());
        for target in &self.inner.targets {
            match self.read_target(target, &selector, times) {
                Ok(rows) => {
                    answered += 1;
                    self.newest_of(rows, &mut newest);
                }
                Err(why) => away.push(why),
            }
        }
        let replicas = self.inner.replicas.min(self.inner.targets.len());
        if answered == 0 || away.len() >= replicas.max(1) {
            return Err(away.join("; "));
        }
        Ok(newest.into_iter().map(|(key, (_, values))| figures_of(key, &values)).collect())
    }

    fn read_target(
        &self,
        target: &Target,
        selector: &str,
        times: (i64, i64),
    ) -> Result<Vec<fetch::Fetched>, String> {
        let mut failed = Vec::new();
        for base in &target.read_urls {
            match fetch::raw(&self.inner.http, base, selector, times) {
                Ok(rows) => return Ok(rows),
                Err(why) => failed.push(format!("{base}: {why}")),
            }
        }
        Err(failed.join("; "))
    }

    /// Keeps of each alert the figures of its newest time.
    fn newest_of(
        &self,
        rows: Vec<fetch::Fetched>,
        newest: &mut BTreeMap<[String; 4], (i64, HashMap<String, f64>)>,
    ) {
        for (mut labels, samples) in rows {
            let name = labels.remove("__name__").unwrap_or_default();
            let Some((_, name)) = name.split_once(FAMILY) else { continue };
            let Some(key) = self.inner.naming.alert_key(&labels) else { continue };
            let Some((at_ms, value)) = samples.last().copied() else { continue };
            let known = newest.entry(key).or_insert_with(|| (at_ms, HashMap::new()));
            if known.0 < at_ms {
                *known = (at_ms, HashMap::new());
            }
            if known.0 == at_ms {
                known.1.insert(name.to_owned(), value);
            }
        }
    }
}

fn figures_of(key: [String; 4], values: &HashMap<String, f64>) -> Figures {
    let value = |name: &str| values.get(name).copied().unwrap_or(0.0);
    let ms = |name: &str| (value(name) * 1_000.0).round() as i64;
    Figures {
        key,
        pending_since_ms: ms("pending_since_seconds"),
        firing_since_ms: ms("firing_since_seconds"),
        fired_ms: ms("fired_seconds"),
        notified_ms: ms("notified_seconds"),
        is_sent: value("sent") > 0.0,
        value: value("value"),
        threshold: value("threshold"),
        severity: value("severity") as u8,
        evaluated_ms: ms("evaluated_seconds"),
    }
}

fn put_series(message: &mut Vec<u8>, labels: &Outside, (ms, value): (i64, f64)) {
    let (mut series, mut pair) = (Vec::new(), Vec::new());
    for (name, value) in labels {
        pair.clear();
        put_bytes(&mut pair, 1, name.as_bytes());
        put_bytes(&mut pair, 2, value.as_bytes());
        put_bytes(&mut series, 1, &pair);
    }
    pair.clear();
    put_double(&mut pair, 1, value);
    put_int(&mut pair, 2, ms);
    put_bytes(&mut series, 2, &pair);
    put_bytes(message, 1, &series);
}
