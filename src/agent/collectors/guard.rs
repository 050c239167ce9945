//! Runs the collectors on a thread that can be given up on: a file of /proc or /sys that blocks
//! costs its own collector's points, and the next collectors go on on a new thread.
//!
//! A collector that hangs keeps its thread and its lock; until it returns, it is skipped. So there
//! are never more threads than collectors.

use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::samples::{Moment, Note, Samples};
use super::{CollectError, Collector};
use crate::model::point::Point;
use crate::rt::stop::Stop;
use crate::rt::thread;

/// How long one collector may take before the others go on without it.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One collector.
pub(super) struct Row {
    /// Its name, as in the table.
    pub name: &'static str,
    /// Whether it runs once a minute only.
    pub slow: bool,
    /// The collector; locked while it runs.
    pub collector: Mutex<Box<dyn Collector>>,
}

/// What came of one collector.
pub(super) struct Outcome {
    /// The collector's name.
    pub name: &'static str,
    /// How long it took, milliseconds.
    pub ms: f64,
    /// Why it failed, if it did; its points are dropped then.
    pub error: Option<String>,
    /// What it had to say.
    pub notes: Vec<Note>,
}

/// One collection under way.
#[derive(Default)]
struct Progress {
    /// The row that is being collected.
    at: usize,
    /// Since when.
    since: Option<Instant>,
    points: Vec<Point>,
    outcomes: Vec<Outcome>,
    /// Nobody waits for it any more.
    abandoned: bool,
}

struct Job {
    moment: Moment,
    from: usize,
    progress: Arc<Mutex<Progress>>,
}

/// The thread that collects, and the one that waits for it.
pub(super) struct Guard {
    rows: Arc<[Row]>,
    worker: Option<Worker>,
    stop: Stop,
    patience: Duration,
}

/// A thread that collects, as the thread that waits for it sees it. Dropping it ends the thread
/// once it is done.
struct Worker(Arc<Desk>);

/// Where a job and its end are handed over: with a lock and a condition that is four system calls
/// a collection, where two channels would yield the processor besides.
#[derive(Default)]
struct Desk {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
enum Turn {
    #[default]
    Idle,
    Job(Job),
    Done,
    Closed,
}

/// A stop is noticed within this time while a collector hangs.
const LOOK_FOR_STOP: Duration = Duration::from_millis(100);

impl Desk {
    /// Hands something over. What was closed stays so.
    fn put(&self, next: Turn) {
        let mut turn = lock(&self.turn);
        if !matches!(*turn, Turn::Closed) {
            *turn = next;
        }
        drop(turn);
        self.changed.notify_one();
    }

    /// Waits for a job; `None` when there will be none.
    fn job(&self) -> Option<Job> {
        let mut turn = lock(&self.turn);
        loop {
            match std::mem::take(&mut *turn) {
                Turn::Job(job) => return Some(job),
                Turn::Closed => {
                    *turn = Turn::Closed;
                    return None;
                }
                other => *turn = other,
            }
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the end of the job; false when it did not come within `pause`.
    fn done(&self, pause: Duration) -> bool {
        let turn = lock(&self.turn);
        let waiting = |turn: &mut Turn| !matches!(turn, Turn::Done);
        let waited = self.changed.wait_timeout_while(turn, pause, waiting);
        let (turn, _) = waited.unwrap_or_else(PoisonError::into_inner);
        matches!(*turn, Turn::Done)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.put(Turn::Closed);
    }
}

impl Guard {
    /// A guard that gives a collector `patience`, and stops waiting when `stop` is given.
    pub(super) fn new(rows: Vec<Row>, stop: Stop, patience: Duration) -> Self {
        Self { rows: rows.into(), worker: None, stop, patience }
    }

    /// All points of one collection, and what came of each collector that was due. Empty when the
    /// system refuses a thread or the stop signal comes.
    pub(super) fn collect(&mut self, moment: Moment) -> (Vec<Point>, Vec<Outcome>) {
        let (mut points, mut outcomes) = (Vec::with_capacity(128), Vec::new());
        let mut from = 0;
        while from < self.rows.len() {
            let progress = Arc::new(Mutex::new(Progress { at: from, ..Progress::default() }));
            let job = Job { moment, from, progress: Arc::clone(&progress) };
            let Some(worker) = self.worker() else { break };
            worker.0.put(Turn::Job(job));
            let finished = self.wait(&progress);
            let mut progress = lock(&progress);
            points.append(&mut progress.points);
            outcomes.append(&mut progress.outcomes);
            if finished {
                break;
            }
            progress.abandoned = true;
            from = progress.at + 1;
            let name = self.rows.get(progress.at).map_or("", |row| row.name);
            outcomes.push(hangs(name));
            self.worker = None;
            if self.stop.is_stopped() {
                break;
            }
        }
        (points, outcomes)
    }

    /// Waits for the worker; false when the collector that it is at hangs, or it is time to stop.
    fn wait(&self, progress: &Mutex<Progress>) -> bool {
        let Some(worker) = &self.worker else { return false };
        while !worker.0.done(LOOK_FOR_STOP) {
            let since = lock(progress).since;
            let took = since.map_or(Duration::ZERO, |since| since.elapsed());
            if took >= self.patience || self.stop.is_stopped() {
                return false;
            }
        }
        true
    }

    fn worker(&mut self) -> Option<&Worker> {
        if self.worker.is_none() {
            let desk = Arc::new(Desk::default());
            let (rows, own) = (Arc::clone(&self.rows), Arc::clone(&desk));
            let body = move || {
                while let Some(job) = own.job() {
                    if !work(&rows, &job) {
                        break;
                    }
                    own.put(Turn::Done);
                }
                Ok(())
            };
            match thread::try_spawn("collect", body) {
                Ok(_) => self.worker = Some(Worker(desk)),
                Err(error) => log::warn!("cannot start a thread for the collectors: {error}"),
            }
        }
        self.worker.as_ref()
    }
}

/// Collects the rows of a job; false when it was abandoned meanwhile.
fn work(rows: &[Row], job: &Job) -> bool {
    for (index, row) in rows.iter().enumerate().skip(job.from) {
        if row.slow && !job.moment.slow {
            continue;
        }
        {
            let mut progress = lock(&job.progress);
            if progress.abandoned {
                return false;
            }
            progress.at = index;
            progress.since = Some(Instant::now());
        }
        let started = Instant::now();
        let mut collector = match row.collector.try_lock() {
            Ok(collector) => collector,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                lock(&job.progress).outcomes.push(hangs(row.name));
                continue;
            }
        };
        let mut samples = Samples::new(Moment { at: started, ..job.moment });
        let result = collector.collect(&mut samples);
        drop(collector);
        let ms = started.elapsed().as_secs_f64() * 1_000.0;
        let error = result.err().map(|error: CollectError| error.to_string());
        let (mut points, notes) = samples.into_parts();
        let mut progress = lock(&job.progress);
        if progress.abandoned {
            return false;
        }
        // What was found before, or beside, what failed.
        progress.points.append(&mut points);
        progress.outcomes.push(Outcome { name: row.name, ms, error, notes });
    }
    true
}

fn hangs(name: &'static str) -> Outcome {
    let ms = PATIENCE.as_secs_f64() * 1_000.0;
    Outcome { name, ms, error: Some("its source does not answer".to_owned()), notes: Vec::new() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Works(&'static str);
    impl Collector for Works {
        fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
            out.plain(self.0, 1.0);
            Ok(())
        }
    }

    /// Waits until it is let go, every time.
    struct Hangs(crossbeam_channel::Receiver<()>);
    impl Collector for Hangs {
        fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
            let _ = self.0.recv();
            out.plain("late", 1.0);
            Ok(())
        }
    }

    fn row(name: &'static str, collector: impl Collector + 'static) -> Row {
        Row { name, slow: false, collector: Mutex::new(Box::new(collector)) }
    }

    fn moment(timestamp_ms: i64) -> Moment {
        Moment { timestamp_ms, at: Instant::now(), slow: false }
    }

    #[test]
    fn a_collector_that_hangs_costs_its_own_points_and_comes_back() {
        let (let_go, held) = crossbeam_channel::bounded(0);
        let rows = vec![row("a", Works("a")), row("hangs", Hangs(held)), row("c", Works("c"))];
        let mut guard = Guard::new(rows, Stop::never(), Duration::from_millis(50));
        for round in 0..3 {
            let (points, outcomes) = guard.collect(moment(round));
            let names: Vec<&str> = points.iter().map(|point| &*point.metric).collect();
            assert_eq!(names, ["a", "c"]);
            assert!(outcomes.iter().any(|o| o.name == "hangs" && o.error.is_some()));
        }
        drop(let_go);
        let deadline = Instant::now() + Duration::from_secs(10);
        while guard.collect(moment(9)).0.len() < 3 {
            assert!(Instant::now() < deadline, "it never came back");
        }
    }
}
