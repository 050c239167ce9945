//! What the daemons speak about: points, series, batches, severities, alerts.

pub mod agent_id;
#[cfg(feature = "server")]
pub mod alert;
pub(crate) mod host;
pub mod point;
#[cfg(feature = "server")]
pub mod role;
pub mod series;
pub mod severity;
