//! What an agent is answered.

use futures_channel::oneshot;

use crate::server::storage::{Refused, RefusedWhy, StorageError, Stored};

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that is valid is stored; the message counts what was rejected, and is empty when
    /// nothing was.
    Stored(String),
    /// Nothing is stored, and sending it again would not help.
    Refused(String),
    /// Nothing is stored for now: the agent retries.
    Busy(String),
    /// The server is stopping, or its storage failed: the agent retries.
    Unavailable(String),
    /// No token, or a wrong one.
    Unauthenticated(String),
    /// It names an agent other than the token's.
    Denied(String),
}

/// An outcome, or where it comes from once the store has committed.
pub(crate) enum Decision {
    /// The outcome.
    Now(Outcome),
    /// The outcome follows after the commit. A sender that is dropped means that it is unknown.
    Later(oneshot::Receiver<Outcome>),
}

impl Outcome {
    /// The outcome of whatever comes while the server stops.
    pub(crate) fn stopping() -> Self {
        Self::Unavailable("the server is stopping".to_owned())
    }

    /// The outcome of a batch that the store has answered. `message` is that of a stored one.
    pub(crate) fn of_store(result: Result<Stored, StorageError>, message: String) -> Self {
        match result {
            Ok(_) => Self::Stored(message),
            Err(error @ (StorageError::DiskFull | StorageError::Behind(_))) => {
                Self::Busy(error.to_string())
            }
            Err(StorageError::Invalid(why)) => Self::Refused(why),
            Err(error @ StorageError::Stopping) => Self::Unavailable(error.to_string()),
            Err(error) => {
                // Agents get no paths and no SQL.
                log::error!("cannot store a batch: {error}");
                let message = "the batch could not be stored; see the server's log";
                Self::Unavailable(message.to_owned())
            }
        }
    }
}

impl From<&Refused> for Outcome {
    /// The outcome of a batch that the store did not take.
    fn from(refused: &Refused) -> Self {
        match refused.error {
            RefusedWhy::QueueFull => Self::Busy("storage queue full, retry later".to_owned()),
            RefusedWhy::Stopping => Self::stopping(),
        }
    }
}
