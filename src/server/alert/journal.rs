//! Writing changes, and copying events to their day files.
//!
//! A state, its events and its notices stand in one transaction of `cert.db`. The events' copies
//! in the day files follow from the journal, and are made again where a crash came between: a day
//! file holds an event once, by its id.

use std::sync::Arc;

use crate::model::alert::AlertEvent;
use crate::server::alert::notify::Notify;
use crate::server::alert::tracked::Change;
use crate::server::control::{Control, alerts};
use crate::server::storage::{StorageError, Store};

/// Events that are copied between two looks at the journal.
const COPY_AT_ONCE: usize = 500;

/// Writes changes in one transaction.
///
/// # Errors
///
/// When the database fails; nothing of them is written then.
pub(crate) fn write(
    control: &Control,
    notify: &Arc<dyn Notify>,
    changes: &Arc<Vec<Change>>,
) -> Result<(), StorageError> {
    let (notify, changes) = (Arc::clone(notify), Arc::clone(changes));
    control.write(move |tx| {
        for change in changes.iter() {
            match &change.row {
                Some(row) => alerts::put_state(tx, row)?,
                None => alerts::drop_state(tx, &change.key)?,
            }
            for event in &change.transition.events {
                alerts::put_journal(tx, &event.id, &event.to_json())?;
            }
            if let Some((event, kind)) = &change.transition.notification {
                notify.notify(tx, event, kind.clone())?;
            }
        }
        Ok(())
    })
}

/// Copies every event of the journal to its day file. True when none is left.
pub(crate) fn copy(control: &Control, store: &dyn Store) -> bool {
    loop {
        match copy_some(control, store) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                log::warn!(
                    "cannot copy alert events to the day file, they stay queued in cert.db: {error}"
                );
                return false;
            }
        }
    }
}

fn copy_some(control: &Control, store: &dyn Store) -> Result<usize, StorageError> {
    let rows =
        control.read(|db| -> Result<_, StorageError> { Ok(alerts::journal(db, COPY_AT_ONCE)?) })?;
    let count = rows.len();
    if count == 0 {
        return Ok(0);
    }
    let events: Vec<_> = rows.iter().filter_map(|(_, text)| AlertEvent::from_json(text)).collect();
    if events.len() < count {
        log::error!("{} alert events cannot be read and are dropped", count - events.len());
    }
    match store.put_events(&events) {
        // One of them can't stand; the others must.
        Err(StorageError::Invalid(_)) => {
            events.iter().try_for_each(|event| put_or_leave_out(store, event))?;
        }
        other => other?,
    }
    control.write(move |tx| -> Result<(), StorageError> {
        for (id, text) in &rows {
            alerts::drop_journal(tx, id, text)?;
        }
        Ok(())
    })?;
    Ok(count)
}

fn put_or_leave_out(store: &dyn Store, event: &AlertEvent) -> Result<(), StorageError> {
    match store.put_event(event) {
        Err(StorageError::Invalid(why)) => {
            log::error!("alert event {} is not kept in the history: {why}", event.id);
            Ok(())
        }
        other => other,
    }
}
