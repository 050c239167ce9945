//! The one worker pool. Closing is by field order alone: the queues' senders go first, each worker
//! then drains what was queued and ends, and the joins come last.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::rt::thread::{self, Outcome};

/// Named worker threads behind bounded queues.
pub struct Pool<T> {
    queues: Vec<Sender<T>>,
    workers: Vec<Joined>,
}

struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            // A worker that panicked has ended the process already.
            let _ = handle.join();
        }
    }
}

impl<T: Send + 'static> Pool<T> {
    /// `workers` threads that share one queue of `capacity` jobs. `make(index)` gives each its
    /// body, which takes jobs from the receiver until that is closed and empty.
    pub fn shared<B>(name: &str, workers: usize, capacity: usize, make: impl Fn(usize) -> B) -> Self
    where
        B: FnOnce(Receiver<T>) -> Outcome + Send + 'static,
    {
        let (sender, receiver) = bounded(capacity);
        let workers = (0..workers.max(1))
            .map(|index| Self::start(name, index, receiver.clone(), make(index)))
            .collect();
        Self { queues: vec![sender], workers }
    }

    /// `workers` threads with a queue of `capacity` jobs each: jobs with the same key go to the
    /// same worker, in their order.
    pub fn sharded<B>(
        name: &str,
        workers: usize,
        capacity: usize,
        make: impl Fn(usize) -> B,
    ) -> Self
    where
        B: FnOnce(Receiver<T>) -> Outcome + Send + 'static,
    {
        let mut pool = Self { queues: Vec::new(), workers: Vec::new() };
        for index in 0..workers.max(1) {
            let (sender, receiver) = bounded(capacity);
            pool.queues.push(sender);
            pool.workers.push(Self::start(name, index, receiver, make(index)));
        }
        pool
    }

    fn start<B>(name: &str, index: usize, receiver: Receiver<T>, body: B) -> Joined
    where
        B: FnOnce(Receiver<T>) -> Outcome + Send + 'static,
    {
        Joined(Some(thread::spawn(&format!("{name}-{index}"), move || body(receiver))))
    }

    /// Queues a job, or gives it back when the queue is full.
    ///
    /// # Errors
    ///
    /// The job, when there is no room for it.
    pub fn offer(&self, key: u64, job: T) -> Result<(), T> {
        match self.queue(key).try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// Queues a job, waiting for room as long as it takes.
    pub fn put(&self, key: u64, job: T) {
        // Workers end only after the pool has closed its queues, so this can't fail.
        let _ = self.queue(key).send(job);
    }

    /// Jobs that wait, over all queues.
    pub fn depth(&self) -> usize {
        self.queues.iter().map(Sender::len).sum()
    }

    /// The number of queues: 1 for a shared pool.
    pub fn shards(&self) -> usize {
        self.queues.len()
    }

    fn queue(&self, key: u64) -> &Sender<T> {
        let shards = self.queues.len() as u64;
        &self.queues[(key % shards) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn closing_drains_what_was_queued() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::shared("test", 3, 100, |_| {
            let done = Arc::clone(&done);
            move |jobs: Receiver<usize>| {
                for job in jobs {
                    done.fetch_add(job, Ordering::SeqCst);
                }
                Ok(())
            }
        });
        for _ in 0..100 {
            pool.put(0, 1);
        }
        drop(pool);
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn a_full_queue_gives_the_job_back() {
        let (hold, held) = bounded::<()>(0);
        let pool = Pool::shared("test", 1, 1, |_| {
            let held = held.clone();
            move |jobs: Receiver<u32>| {
                for _ in jobs {
                    let _ = held.recv();
                }
                Ok(())
            }
        });
        let refused = (0..5).map(|job| pool.offer(0, job)).find_map(Result::err);
        assert!(refused.is_some());
        drop(hold);
    }
}
