//! `oxmon-mock`: reports made-up hosts to a real server, for trying things out and for measuring.

pub mod bench;
pub mod cli;
mod client;
mod measure;
pub mod report;
pub mod scenario;
pub mod workload;
