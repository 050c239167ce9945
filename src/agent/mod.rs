//! The agent.

mod alive;
pub mod buffer;
pub mod cli;
mod collect;
pub mod collectors;
pub mod config;
pub mod enroll;
pub mod filters;
mod http;
pub mod keys;
pub mod once;
pub mod reporter;
pub mod run;
mod timeline;
