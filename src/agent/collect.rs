//! The collector's loop: one sample set each interval, at the same times on every host.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use crate::agent::buffer::SampleSet;
use crate::agent::collectors::Collectors;
use crate::agent::config::AgentConfig;
use crate::agent::reporter::Stats;
use crate::agent::timeline::Timeline;
use crate::base::clock::{Clock, SECOND_MS};
use crate::rt::stop::Stop;

/// The loop turns at least so often, however long the interval is: its sign of life.
const TURN_MS: i64 = 20 * SECOND_MS;

/// What the loop works with.
pub(crate) struct CollectLoop {
    pub(crate) config: AgentConfig,
    pub(crate) reloads: Receiver<AgentConfig>,
    pub(crate) stop: Stop,
    pub(crate) stats: Arc<Stats>,
    pub(crate) queue: SampleQueue,
}

impl CollectLoop {
    /// Collects until the stop signal comes.
    pub(crate) fn run(&mut self, clock: &dyn Clock) {
        let mut collectors = Collectors::new(&self.config, self.stop.clone());
        // Rates need a reading before the first sample set.
        let mut line = Timeline::new(clock.now());
        let _ = collectors.collect(line.now_ms(clock.now()));
        let mut schedule = Schedule::new(self.interval_ms(), line.now_ms(clock.now()));
        loop {
            let wait_ms = schedule.wait_ms(line.now_ms(clock.now())).min(TURN_MS);
            let pause = Duration::from_millis(wait_ms.unsigned_abs());
            let stopped = self.stop.receiver();
            select! {
                recv(stopped) -> _ => return,
                recv(self.reloads) -> config => {
                    if let Ok(config) = config {
                        self.config = config;
                        collectors = Collectors::new(&self.config, self.stop.clone());
                        let now_ms = line.now_ms(clock.now());
                        let _ = collectors.collect(now_ms);
                        schedule = Schedule::new(self.interval_ms(), now_ms);
                    }
                }
                default(pause) => {}
            }
            self.stats.collector_turned();
            if let Some(timestamp_ms) = schedule.due(line.now_ms(clock.now())) {
                let mut points = collectors.collect(timestamp_ms);
                points.extend(self.stats.points(timestamp_ms));
                self.queue.put(SampleSet { timestamp_ms, points });
            }
        }
    }

    fn interval_ms(&self) -> i64 {
        i64::try_from(self.config.collection_interval_secs).unwrap_or(10).max(1) * SECOND_MS
    }
}

/// Sample sets between collector and reporter.
const QUEUE_SETS_MAX: usize = 8;

/// The collector's end of the queue of sample sets.
pub(crate) struct SampleQueue {
    sender: Sender<SampleSet>,
    overflow: Receiver<SampleSet>,
    stats: Arc<Stats>,
}

impl SampleQueue {
    /// An empty queue and its receiving end.
    pub(crate) fn new(stats: Arc<Stats>) -> (Self, Receiver<SampleSet>) {
        let (sender, receiver) = bounded(QUEUE_SETS_MAX);
        (Self { sender, overflow: receiver.clone(), stats }, receiver)
    }

    /// Queues a sample set without waiting; a full queue drops and counts its oldest one.
    pub(crate) fn put(&self, mut set: SampleSet) {
        while let Err(TrySendError::Full(back)) = self.sender.try_send(set) {
            if self.overflow.try_recv().is_ok() {
                self.stats.count_overflow();
            }
            set = back;
        }
    }
}

/// When collections are due: at the wall clock's multiples of the interval.
///
/// A step of the clock ahead, or a machine that slept, costs the sample sets between and no more; a
/// step back goes on from the new time. So a step neither stalls the loop nor makes it run.
struct Schedule {
    interval_ms: i64,
    next_ms: i64,
}

impl Schedule {
    fn new(interval_ms: i64, now_ms: i64) -> Self {
        Self { interval_ms, next_ms: after(now_ms, interval_ms) }
    }

    /// How long to wait: never longer than one interval and what a wake-up may come early.
    fn wait_ms(&mut self, now_ms: i64) -> i64 {
        if self.next_ms - now_ms > self.interval_ms + self.early_ms() {
            self.next_ms = after(now_ms, self.interval_ms);
        }
        (self.next_ms - now_ms).max(0)
    }

    /// The sample set's time, where one is due.
    fn due(&mut self, now_ms: i64) -> Option<i64> {
        if now_ms < self.next_ms - self.early_ms() {
            return None;
        }
        let late_ms = now_ms - self.next_ms;
        let due_ms = if late_ms < self.interval_ms {
            self.next_ms
        } else {
            after(now_ms, self.interval_ms) - self.interval_ms
        };
        self.next_ms = due_ms + self.interval_ms;
        Some(due_ms)
    }

    /// A timer and the wall clock may differ by so much.
    fn early_ms(&self) -> i64 {
        (self.interval_ms / 20).min(50)
    }
}

/// The first multiple of the interval after `now_ms`.
fn after(now_ms: i64, interval_ms: i64) -> i64 {
    (now_ms.div_euclid(interval_ms) + 1) * interval_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_its_oldest_sample_set() {
        let (queue, sets) = SampleQueue::new(Arc::new(Stats::default()));
        for timestamp_ms in 0..11 {
            queue.put(SampleSet { timestamp_ms, points: Vec::new() });
        }
        let left: Vec<i64> = sets.try_iter().map(|set| set.timestamp_ms).collect();
        assert_eq!(left, [3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn collections_are_at_multiples_of_the_interval() {
        let mut schedule = Schedule::new(10_000, 12_345);
        assert_eq!(schedule.wait_ms(12_345), 7_655);
        assert_eq!(schedule.due(15_000), None);
        assert_eq!(schedule.due(20_003), Some(20_000));
        assert_eq!(schedule.due(20_004), None);
        // A timer that is a little early still makes the sample set that it was set for.
        assert_eq!(schedule.due(29_998), Some(30_000));
        assert_eq!(schedule.wait_ms(29_999), 10_001);
        assert_eq!(schedule.due(30_010), None);
    }

    #[test]
    fn a_clock_that_steps_neither_stalls_nor_floods() {
        let mut schedule = Schedule::new(10_000, 15_000);
        assert_eq!(schedule.due(20_000), Some(20_000));
        // Ahead by an hour: one sample set at the new time, and the next an interval later.
        assert_eq!(schedule.due(3_620_500), Some(3_620_000));
        assert_eq!(schedule.due(3_621_000), None);
        assert_eq!(schedule.wait_ms(3_621_000), 9_000);
        // Back by an hour: the next multiple of the new time.
        assert_eq!(schedule.wait_ms(21_000), 9_000);
        assert_eq!(schedule.due(30_000), Some(30_000));
    }

    #[test]
    fn a_busy_host_skips_no_set_that_is_less_than_an_interval_late() {
        let mut schedule = Schedule::new(1_000, 500);
        assert_eq!(schedule.due(1_900), Some(1_000));
        assert_eq!(schedule.wait_ms(1_900), 100);
        assert_eq!(schedule.due(2_000), Some(2_000));
    }
}
