//! Who calls.

use crate::model::role::Role;

/// The user whom a login or an API token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's id.
    pub user_id: String,
    /// The user's name.
    pub username: String,
    /// What the caller may do: of a read-only API token, no more than a viewer.
    pub role: Role,
    /// Whether an API token was shown instead of a login: it makes no tokens and changes no
    /// password.
    pub by_token: bool,
    /// Whether the password is still the one of the configuration.
    pub must_change: bool,
    /// The login; `None` where an API token was shown.
    pub session: Option<Session>,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id; empty in logins of earlier releases, which had none.
    pub id: String,
    /// When it expires, Unix seconds.
    pub expires_at: i64,
}
