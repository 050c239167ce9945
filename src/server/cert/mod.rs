//! Certificate checks of domains.

/// Domains and their checks.
pub struct Certs;
