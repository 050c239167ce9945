//! The agent.

pub mod buffer;
pub mod collectors;
pub mod config;
pub mod once;
pub mod reporter;
