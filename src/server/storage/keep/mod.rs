//! What keeps the data folder in order: opening, recovery, damage, retention, backup.

pub(crate) mod backup;
pub(crate) mod damage;
pub(crate) mod open;
pub(crate) mod recover;
pub(crate) mod retention;
