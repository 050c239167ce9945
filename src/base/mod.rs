//! What both daemons stand on: time, identifiers, limits, exit codes, configuration files, logging.

pub mod cli;
pub mod clock;
pub mod configfile;
pub mod exit;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod logging;
#[cfg(feature = "server")]
pub mod metrics;
pub(crate) mod private;
pub(crate) mod secretfile;
pub mod steady;
