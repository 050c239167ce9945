//! Filling `cert.db` from a seed file, beside a running server or before its first start.

use std::path::Path;

use crate::base::exit::{Exit, Fatal};

pub(crate) mod channels;
pub(crate) mod prometheus;
pub(crate) mod rules;

/// Ends a command that could not make every entry of a seed.
///
/// # Errors
///
/// Names each entry that was not made.
fn not_made(seed: &Path, wrong: &[String]) -> Result<(), Fatal> {
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: String = wrong.iter().map(|line| format!("\n  not made {line}")).collect();
    let entries = if wrong.len() == 1 { "entry was" } else { "entries were" };
    let message = format!("{}: {} {entries} not made:{lines}", seed.display(), wrong.len());
    Err(Fatal::new(Exit::Config, message))
}
