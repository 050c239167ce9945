//! Acknowledgements: who is called when samples are committed, and how many batches may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::server::storage::error::StorageError;

/// What became of a batch, known after the commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Points that are new.
    pub new: usize,
    /// Points that were stored already, under the same series and time.
    pub duplicate: usize,
    /// Points that can't be stored: outside of the days that are kept, not finite, or of an agent
    /// with too many series.
    pub rejected: usize,
}

/// Called once, by the writer, after the commit or when the batch could not be stored.
pub type Ack = Box<dyn FnOnce(Result<Stored, StorageError>) + Send>;

/// A batch that was not taken: the queue is full, or the server stops.
pub struct Refused {
    /// The acknowledgement, not called.
    pub ack: Ack,
    /// Why.
    pub error: RefusedWhy,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedWhy {
    /// The writers' queue is full; the agent keeps the batch and backs off.
    QueueFull,
    /// The server is stopping.
    Stopping,
}

/// A place among the batches that wait; it is free again when this is dropped.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// A place, unless `max` batches wait already.
    pub(crate) fn take(waiting: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < max).then_some(count + 1)
        });
        taken.is_ok().then(|| Self(Arc::clone(waiting)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One day's part of an acknowledgement, which is called once all parts are finished. A part that
/// is dropped unfinished fails with `Stopping`.
pub(crate) struct PartialAck(Option<Arc<Parts>>);

struct Parts {
    state: Mutex<State>,
    _permit: Permit,
}

struct State {
    left: usize,
    outcome: Result<Stored, StorageError>,
    ack: Option<Ack>,
}

impl PartialAck {
    /// As many parts as asked for; `stored` counts what is decided already.
    pub(crate) fn split(ack: Ack, permit: Permit, parts: usize, stored: Stored) -> Vec<Self> {
        let state = State { left: parts, outcome: Ok(stored), ack: Some(ack) };
        let whole = Arc::new(Parts { state: Mutex::new(state), _permit: permit });
        (0..parts).map(|_| Self(Some(Arc::clone(&whole)))).collect()
    }

    /// Notes what became of this part. The last one calls the acknowledgement.
    pub(crate) fn finish(mut self, outcome: Result<Stored, StorageError>) {
        if let Some(parts) = self.0.take() {
            finish_part(parts, outcome);
        }
    }
}

impl Drop for PartialAck {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            finish_part(parts, Err(StorageError::Stopping));
        }
    }
}

fn finish_part(parts: Arc<Parts>, outcome: Result<Stored, StorageError>) {
    let last = {
        let mut state = parts.state.lock();
        state.left = state.left.saturating_sub(1);
        match (&mut state.outcome, outcome) {
            (Ok(sum), Ok(part)) => {
                sum.new += part.new;
                sum.duplicate += part.duplicate;
                sum.rejected += part.rejected;
            }
            (Ok(_), Err(error)) => state.outcome = Err(error),
            (Err(_), _) => {}
        }
        if state.left > 0 {
            return;
        }
        let outcome = std::mem::replace(&mut state.outcome, Ok(Stored::default()));
        state.ack.take().map(|ack| (ack, outcome))
    };
    // The place in the queue is free before the caller is called, so that it can submit again.
    drop(parts);
    if let Some((ack, outcome)) = last {
        ack(outcome);
    }
}
