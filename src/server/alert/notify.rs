//! What the alert engine asks of whoever notifies people.

use rusqlite::Transaction;

use crate::model::alert::AlertEvent;

/// Which notification an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyKind {
    /// It fires, or has escalated.
    Firing,
    /// It fires within the repeat interval of an earlier notification. Only whoever sends knows
    /// whether that one was really sent: if not, this one is due.
    Held {
        /// The interval after a notification that was sent, milliseconds.
        repeat_ms: i64,
        /// The most that is left of it after a recovery that was sent, milliseconds.
        refire_ms: i64,
    },
    /// It has ended. Goes to those who were notified of the firing, and to nobody else.
    Recovered {
        /// Id of the event that fired, which the recovery's own id differs from.
        firing_id: String,
    },
    /// It ended without a recovery: the rule, the series or the agent is gone. A firing that is
    /// still pending is no longer true; whoever was notified of it gets the reason.
    Ended,
    /// It was notified by another server, which the agent reported to before. Nothing is sent;
    /// whoever is notified of such alerts gets its recovery.
    TakenOver {
        /// When it was notified, Unix milliseconds.
        notified_ms: i64,
    },
    /// Another server goes on with it: nothing more is sent from here.
    HandedOver,
}

/// Takes the notifications that events ask for. Called inside the transaction of `cert.db` that
/// changes the alert's state, so that both are written or neither: everything goes through `tx`.
pub trait Notify: Send + Sync {
    /// Makes a pending notification durable. It must not wait for a network, nor write anywhere
    /// but to `tx`.
    ///
    /// # Errors
    ///
    /// Those of the database; the state change is rolled back with it and tried again.
    fn notify(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        kind: NotifyKind,
    ) -> Result<(), rusqlite::Error>;

    /// Called after the commit of a transaction with notifications, so that senders need not
    /// wait for their next tick.
    fn wake(&self) {}
}
