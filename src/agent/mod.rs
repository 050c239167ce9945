//! The agent.

mod alive;
pub(crate) mod buffer;
pub mod cli;
mod collect;
pub mod collectors;
pub mod config;
pub(crate) mod enroll;
pub(crate) mod filters;
mod host;
mod http;
pub mod keys;
pub(crate) mod once;
#[cfg(target_os = "linux")]
mod procstat;
pub(crate) mod reporter;
pub(crate) mod run;
mod sysctl;
mod timeline;
