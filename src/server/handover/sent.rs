//! Which alerts everybody was notified of who is to be.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::model::alert::AlertEvent;
use crate::server::alert::NotifyKind;
use crate::server::alert::tracked::Change;
use crate::server::control::alerts::StateRow;
use crate::server::control::notify::outbox;
use crate::server::control::{Control, alerts as rows};
use crate::server::storage::StorageError;

/// Events that fired and wait to be notified: by id, their alert's key.
#[derive(Default)]
pub(super) struct Unsent(Mutex<HashMap<String, String>>);

/// The alerts that `cert.db` has, each with whether it was sent.
///
/// # Errors
///
/// When it can't be read.
pub(super) fn load(control: &Control) -> Result<(Vec<(StateRow, bool)>, Unsent), StorageError> {
    control.read(|db| -> Result<_, StorageError> {
        let (mut all, mut unsent) = (Vec::new(), HashMap::new());
        for row in rows::states(db)? {
            let event = row.detail.as_deref().and_then(AlertEvent::from_json);
            let mut is_sent = true;
            if let Some(event) = event {
                let key = event.alert_key();
                is_sent = !outbox::is_unsent(db, &event.id, &key)?;
                if !is_sent {
                    unsent.insert(event.id, key);
                }
            }
            all.push((row, is_sent));
        }
        Ok((all, Unsent(Mutex::new(unsent))))
    })
}

impl Unsent {
    /// Takes a change of an alert. Gives whether everybody was notified of its firing.
    pub(super) fn note(&self, change: &Change) -> bool {
        let mut unsent = self.0.lock();
        match &change.transition.notification {
            Some((event, NotifyKind::Firing)) => {
                unsent.insert(event.id.clone(), event.alert_key());
            }
            Some((event, NotifyKind::TakenOver { .. })) => drop(unsent.remove(&event.id)),
            _ => {}
        }
        let id = change.row.as_ref().and_then(|row| row.event_id.as_ref());
        id.is_none_or(|id| !unsent.contains_key(id))
    }

    /// Looks which of these events no longer wait, and gives them.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(super) fn look(
        &self,
        control: &Control,
        events: &[AlertEvent],
    ) -> Result<Vec<String>, StorageError> {
        let mut sent = Vec::new();
        for event in events {
            let key = self.0.lock().get(&event.id).cloned();
            let Some(key) = key else { continue };
            let waits = control.read(|db| -> Result<_, StorageError> {
                Ok(outbox::is_unsent(db, &event.id, &key)?)
            });
            if !waits? {
                self.0.lock().remove(&event.id);
                sent.push(event.id.clone());
            }
        }
        Ok(sent)
    }
}
