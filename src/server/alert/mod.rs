//! Alert rules: evaluation, state, history.

pub mod fields;
pub mod rule;
pub mod rules;
pub mod ruleset;
pub mod tell;
pub mod window;

pub use ruleset::check_file_rules;

/// Rules in force and where every alert stands.
pub struct Alerts;
