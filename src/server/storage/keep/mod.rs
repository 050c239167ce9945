//! What keeps the data folder in order: opening, recovery, damage, retention, backup.

pub mod backup;
pub mod damage;
pub mod open;
pub mod recover;
pub mod retention;
