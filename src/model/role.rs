//! What a user may do.

use serde::{Deserialize, Serialize};

/// Ordered: each may do what the one before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything but configuration.
    Viewer,
    /// Does everything.
    Admin,
}

impl Role {
    /// Its name in JSON and in `cert.db`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}
