//! The agent.

pub mod buffer;
pub mod reporter;
