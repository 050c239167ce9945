//! Logins that were ended before their time: by signing out. They are kept until they would have
//! expired anyway.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::base::limits::ENDED_LOGINS_MAX;
use crate::server::api::auth::identity::Session;
use crate::server::api::reply::ApiError;
use crate::server::control::{Control, users};

/// Ids of logins that were ended, with when they expire, Unix seconds.
pub(crate) struct Ended {
    control: Control,
    logins: RwLock<HashMap<String, i64>>,
}

impl Ended {
    /// Reads those of earlier starts.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(crate) fn open(control: &Control, now_secs: i64) -> Result<Self, ApiError> {
        let logins = control.read(|db| users::ended_logins(db, now_secs))?;
        Ok(Self { control: control.clone(), logins: RwLock::new(logins) })
    }

    /// Reads them again, as another server has ended some.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(crate) fn read_again(&self, now_secs: i64) -> Result<(), ApiError> {
        *self.logins.write() = self.control.read(|db| users::ended_logins(db, now_secs))?;
        Ok(())
    }

    /// Whether the login with this id was ended.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.logins.read().contains_key(id)
    }

    /// Ends one login. Where it has no id, or too many are kept, all logins of its user end.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be written.
    pub(crate) fn end(
        &self,
        user_id: &str,
        session: &Session,
        now_secs: i64,
    ) -> Result<(), ApiError> {
        let is_full = self.logins.read().len() >= ENDED_LOGINS_MAX;
        let (user_id, kept) = (user_id.to_owned(), session.clone());
        if session.id.is_empty() || is_full {
            return self.control.write(move |tx| Ok(users::end_logins(tx, &user_id)?));
        }
        self.control.write(move |tx| -> Result<(), ApiError> {
            Ok(users::end_login(tx, &kept.id, kept.expires_at, now_secs)?)
        })?;
        let mut logins = self.logins.write();
        logins.retain(|_, expires_at| *expires_at > now_secs);
        logins.insert(session.id.clone(), session.expires_at);
        Ok(())
    }
}
