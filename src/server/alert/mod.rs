//! Alert rules: evaluation, state, history.

pub mod tell;

use crate::base::configfile::{ConfigError, Source};

/// Rules in force and where every alert stands.
pub struct Alerts;

/// Checks the `[[alert.rules]]` of a file.
///
/// # Errors
///
/// Names file, line and field of the first rule that can't work.
pub fn check_file_rules(_source: &Source, _rules: &[toml::Table]) -> Result<(), ConfigError> {
    Ok(())
}
