//! Pauses between the reports of simulated agents: one thread ends those of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use futures_channel::oneshot;

use crate::rt::thread;

/// Longest sleep while nobody waits.
const IDLE: Duration = Duration::from_secs(3_600);

/// Ends each pause at its time.
#[derive(Clone)]
pub(crate) struct Pacer(Sender<Option<Pause>>);

/// When a pause ends, and whom to wake then.
type Pause = (Instant, oneshot::Sender<()>);

impl Pacer {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let (to, pauses) = unbounded::<Option<Pause>>();
        drop(thread::spawn("pacer", move || {
            let mut waiting: BTreeMap<Instant, Vec<oneshot::Sender<()>>> = BTreeMap::new();
            loop {
                let now = Instant::now();
                let later = waiting.split_off(&now);
                for due in std::mem::replace(&mut waiting, later).into_values().flatten() {
                    // An agent that has ended waits for nothing.
                    let _ = due.send(());
                }
                let next = waiting.keys().next().copied().unwrap_or(now + IDLE);
                match pauses.recv_deadline(next) {
                    Ok(Some((at, wake))) => waiting.entry(at).or_default().push(wake),
                    // Whoever waits is woken when its end of the pause goes.
                    Ok(None) => return Ok(()),
                    Err(error) if error.is_disconnected() => return Ok(()),
                    Err(_) => {}
                }
            }
        }));
        Self(to)
    }

    /// Ends all pauses.
    pub(crate) fn stop(&self) {
        // It has ended already where nobody listens.
        let _ = self.0.send(None);
    }

    /// Reports of agent `number` of `of`, one `every` so often; they are spread over that time.
    pub(crate) fn pace(&self, number: usize, of: usize, every: Duration) -> Pace {
        let share = every.mul_f64(number as f64 / of.max(1) as f64);
        Pace { pacer: self.clone(), next: Instant::now() + share, every }
    }
}

/// When an agent reports.
pub(crate) struct Pace {
    pacer: Pacer,
    next: Instant,
    every: Duration,
}

impl Pace {
    /// Whether reports follow one another without a pause.
    pub(crate) fn is_closed_loop(&self) -> bool {
        self.every.is_zero()
    }

    /// Waits until the next report is due.
    pub(crate) async fn wait(&mut self) {
        if self.is_closed_loop() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        if self.pacer.0.send(Some((self.next, wake))).is_ok() {
            // Without an answer the pacer has ended, and the run with it.
            let _ = woken.await;
        }
        self.next += self.every;
    }
}
