//! The agent.

pub mod buffer;
