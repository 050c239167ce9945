//! What a forwarder of samples needs of a store: to see each new sample before its sender knows
//! that it is stored, and to find what arrived while nobody looked.

use std::sync::Arc;

use crate::server::storage::{SampleSet, StorageError, Store};

/// Called with every sample that was stored for the first time, after the commit and before the
/// acknowledgement, in the order of the commits, on the writer's thread. It must not wait.
pub trait Tap: Send + Sync {
    /// `sets` all belong to `agent`.
    fn committed(&self, agent: &Arc<str>, sets: &[SampleSet]);
}

/// Times of samples of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The agent.
    pub agent: Arc<str>,
    /// Unix milliseconds of the first sample.
    pub from_ms: i64,
    /// Unix milliseconds of the last sample.
    pub to_ms: i64,
}

/// A store whose samples are forwarded.
pub trait Feed: Store {
    /// Sets the tap. Called once, before the first batch.
    fn tap(&self, tap: Arc<dyn Tap>);

    /// Times that hold every sample which arrived at `since_ms` (Unix milliseconds) or later, one
    /// or more for an agent. They may hold some more: of packed samples, only the longest time
    /// between timestamp and arrival is known.
    ///
    /// # Errors
    ///
    /// When a day file can't be read.
    fn arrived_since(&self, since_ms: i64) -> Result<Vec<Arrived>, StorageError>;

    /// Days that have samples, counted from 1970, oldest first.
    fn days_with_samples(&self) -> Vec<i64>;

    /// Removes the samples of a day, counted from 1970. Its alert events stay.
    ///
    /// # Errors
    ///
    /// When the day file can't be written or removed.
    fn shed_day(&self, day: i64) -> Result<(), StorageError>;
}
