//! `oxmon-mock`: reports made-up hosts to a real server, for trying things out and for measuring.

pub(crate) mod bench;
pub mod cli;
mod client;
mod measure;
mod pace;
pub(crate) mod report;
pub(crate) mod scenario;
pub mod workload;
