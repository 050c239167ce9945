//! What waits in memory for one shard of one target: samples in the order of their commits, and
//! marks of those who wait until what came before is sent. Bounded over all queues together: what
//! does not fit is read from the store later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::base::limits::REMOTE_QUEUED_SAMPLES_MAX;
use crate::rt::stop::Stop;
use crate::server::storage::SampleSet;

/// Samples that all queues hold.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

impl Room {
    /// Takes room for samples, where there is some.
    fn take(&self, samples: usize) -> bool {
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            (used + samples <= REMOTE_QUEUED_SAMPLES_MAX).then_some(used + samples)
        });
        taken.is_ok()
    }

    fn give_back(&self, samples: usize) {
        self.0.fetch_sub(samples, Ordering::AcqRel);
    }

    /// Whether more may soon not fit.
    pub(super) fn is_crowded(&self) -> bool {
        self.used() > REMOTE_QUEUED_SAMPLES_MAX / 2
    }

    /// Samples that wait or are under way.
    pub(super) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One agent's sample set that waits.
#[derive(Debug)]
struct Waiting {
    agent: Arc<str>,
    set: SampleSet,
    /// Unix milliseconds.
    arrived_ms: i64,
}

/// Called once what was queued before is sent; dropped uncalled when it is not.
pub(super) type Mark = Box<dyn FnOnce() + Send>;

enum Entry {
    Samples(Waiting),
    Mark(Mark),
}

/// Times of one agent that are under way.
pub(super) type UnderWay = (Arc<str>, i64, i64);

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    samples: usize,
    marks: usize,
    /// What was taken and is not sent yet.
    under_way: Vec<UnderWay>,
    under_way_samples: usize,
    /// When the oldest of it arrived.
    under_way_since: Option<i64>,
}

/// The queue of one shard.
pub(super) struct Queue {
    room: Arc<Room>,
    state: Mutex<State>,
    wake: (Sender<()>, Receiver<()>),
}

/// What one request takes.
#[derive(Default)]
pub(super) struct Taken {
    /// The samples, by agent, each agent's oldest first.
    pub(super) sets: Vec<SampleSet>,
    /// Who waits for them.
    pub(super) marks: Vec<Mark>,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), state: Mutex::default(), wake: bounded(1) }
    }

    /// Queues a sample set; gives false, and keeps nothing of it, when there is no room.
    pub(super) fn push(&self, agent: &Arc<str>, set: &SampleSet, arrived_ms: i64) -> bool {
        let samples = set.values.len();
        if !self.room.take(samples) {
            return false;
        }
        let waiting = Waiting { agent: Arc::clone(agent), set: set.clone(), arrived_ms };
        let mut state = self.state.lock();
        state.samples += samples;
        state.entries.push_back(Entry::Samples(waiting));
        drop(state);
        self.wake();
        true
    }

    /// Queues a mark behind what is there.
    pub(super) fn mark(&self, mark: Mark) {
        let mut state = self.state.lock();
        state.marks += 1;
        state.entries.push_back(Entry::Mark(mark));
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        // A full channel says the same.
        let _ = self.wake.0.try_send(());
    }

    /// Waits until something is there, or for `idle`; then until there are `enough` samples, for
    /// `linger` at the most.
    pub(super) fn wait(&self, enough: usize, (idle, linger): (Duration, Duration), stop: &Stop) {
        let first = Instant::now() + idle;
        let ready = |least: usize| {
            let state = self.state.lock();
            // Who waits need not wait for more.
            !state.entries.is_empty() && (state.samples >= least || state.marks > 0)
        };
        if !ready(0) && !self.wait_until(first, stop, || ready(0)) {
            return;
        }
        self.wait_until(Instant::now() + linger, stop, || ready(enough));
    }

    fn wait_until(&self, deadline: Instant, stop: &Stop, ready: impl Fn() -> bool) -> bool {
        loop {
            if ready() {
                return true;
            }
            if stop.is_stopped() {
                return false;
            }
            crossbeam_channel::select! {
                recv(self.wake.1) -> _ => {}
                recv(stop.receiver()) -> _ => return ready(),
                default(deadline.saturating_duration_since(Instant::now())) => return ready(),
            }
        }
    }

    /// Takes what one request of about `most` samples holds. It counts as under way until
    /// [`Self::sent`].
    pub(super) fn take(&self, most: usize) -> Taken {
        let mut state = self.state.lock();
        let mut waiting: Vec<Waiting> = Vec::new();
        let (mut marks, mut samples) = (Vec::new(), 0);
        while let Some(next) = state.entries.front() {
            if let Entry::Samples(next) = next
                && samples > 0
                && samples + next.set.values.len() > most
            {
                break;
            }
            match state.entries.pop_front() {
                Some(Entry::Samples(next)) => {
                    samples += next.set.values.len();
                    waiting.push(next);
                }
                Some(Entry::Mark(mark)) => marks.push(mark),
                None => break,
            }
        }
        state.samples -= samples;
        state.marks -= marks.len();
        state.under_way_samples = samples;
        state.under_way_since = waiting.iter().map(|next| next.arrived_ms).min();
        let at = |next: &Waiting| next.set.timestamp_ms;
        waiting.sort_by(|a, b| a.agent.cmp(&b.agent).then(at(a).cmp(&at(b))));
        state.under_way = waiting
            .chunk_by(|a, b| a.agent == b.agent)
            .filter_map(|run| {
                let (first, last) = (run.first()?, run.last()?);
                Some((Arc::clone(&first.agent), at(first), at(last)))
            })
            .collect();
        drop(state);
        Taken { sets: waiting.into_iter().map(|next| next.set).collect(), marks }
    }

    /// What was taken is sent.
    pub(super) fn sent(&self) {
        let mut state = self.state.lock();
        state.under_way.clear();
        state.under_way_since = None;
        let samples = std::mem::take(&mut state.under_way_samples);
        drop(state);
        self.room.give_back(samples);
    }

    /// When the oldest sample arrived that is not sent, Unix milliseconds.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let state = self.state.lock();
        let waiting = state.entries.iter().find_map(|entry| match entry {
            Entry::Samples(next) => Some(next.arrived_ms),
            Entry::Mark(_) => None,
        });
        state.under_way_since.into_iter().chain(waiting).min()
    }

    /// Takes all that is not sent, as times of agents, for good: the server stops.
    pub(super) fn give_up(&self) -> Vec<UnderWay> {
        let mut state = self.state.lock();
        let mut out = std::mem::take(&mut state.under_way);
        for entry in state.entries.drain(..) {
            if let Entry::Samples(next) = entry {
                out.push((next.agent, next.set.timestamp_ms, next.set.timestamp_ms));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::{Labels, SeriesKey};
    use crate::server::storage::Series;

    fn set(timestamp_ms: i64, count: usize) -> SampleSet {
        let key = SeriesKey { agent: "a".into(), metric: "m".into(), labels: Labels::none() };
        let one = Arc::new(Series { number: 0, metric_number: 0, key });
        let series = vec![one; count].into();
        SampleSet { timestamp_ms, series, values: vec![1.0; count] }
    }

    #[test]
    fn what_is_taken_is_sorted_and_counts_until_it_is_sent() {
        let room = Arc::new(Room::default());
        let queue = Queue::new(&room);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(queue.push(&b, &set(20, 2), 100));
        assert!(queue.push(&a, &set(30, 2), 101));
        assert!(queue.push(&a, &set(10, 2), 102));
        let (done, dones) = bounded(4);
        queue.mark(Box::new(move || done.send(()).unwrap()));
        assert!(queue.push(&a, &set(40, 2), 103));
        let taken = queue.take(6);
        let times: Vec<i64> = taken.sets.iter().map(|set| set.timestamp_ms).collect();
        assert_eq!((times, taken.marks.len()), (vec![10, 30, 20], 1));
        assert_eq!((queue.oldest_ms(), room.used()), (Some(100), 8));
        taken.marks.into_iter().for_each(|mark| mark());
        assert!(dones.try_recv().is_ok());
        queue.sent();
        assert_eq!((queue.oldest_ms(), room.used()), (Some(103), 2));
        assert_eq!(queue.take(1).sets.len(), 1, "one set always fits");
        assert_eq!(queue.give_up(), [(a, 40, 40)]);
    }

    #[test]
    fn a_full_room_takes_nothing_more() {
        let room = Arc::new(Room::default());
        let queue = Queue::new(&room);
        let agent: Arc<str> = "a".into();
        let large = set(1, 10_000);
        let taken = (0..100).filter(|at| queue.push(&agent, &large, *at)).count();
        assert_eq!(taken, REMOTE_QUEUED_SAMPLES_MAX / 10_000);
    }
}
