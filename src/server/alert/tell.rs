//! How alerts reach people: the one thing that evaluation asks of notifications.

use rusqlite::Transaction;

use crate::model::alert::AlertEvent;

/// What is told of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// It fires, or has become graver.
    Firing,
    /// It is over. Goes to whoever was told of the firing, and to nobody else.
    Recovered {
        /// Id of the event that fired, which the recovery's own id differs from.
        firing_id: String,
    },
}

/// Takes what must be told. Called inside the transaction of `cert.db` that changes the alert's
/// state, so that either both stand or neither: whatever it writes goes through `tx`.
pub trait Tell: Send + Sync {
    /// Makes a notice durable. It must not wait for a network, nor write anywhere but to `tx`.
    ///
    /// # Errors
    ///
    /// What the database said; the state change is rolled back with it and tried again.
    fn tell(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        kind: NoticeKind,
    ) -> Result<(), rusqlite::Error>;

    /// The alert of this event has ended without a word, because its rule is gone or another:
    /// what still waits to be told of it is no longer true.
    ///
    /// # Errors
    ///
    /// What the database said; the state change is rolled back with it and tried again.
    fn forget(&self, tx: &Transaction<'_>, event: &AlertEvent) -> Result<(), rusqlite::Error>;

    /// Called after the commit of a transaction that told something, so that senders need not
    /// wait for their next tick.
    fn wake(&self) {}
}
