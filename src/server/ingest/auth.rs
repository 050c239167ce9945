//! Agents that may report, and their tokens.

/// The whitelist as it is in force.
pub struct Whitelist;
