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
}
