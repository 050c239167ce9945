//! The server: receives metrics over gRPC, stores and evaluates them, notifies, serves HTTP.

pub mod alert;
pub mod alive;
pub mod api;
pub mod app;
pub mod cert;
pub mod cli;
pub mod config;
pub mod control;
pub(crate) mod exposition;
pub mod gate;
pub(crate) mod import;
pub mod ingest;
pub mod notify;
pub(crate) mod passwd;
pub mod process;
pub mod promql;
pub mod receive;
pub mod run;
pub mod seed;
pub mod storage;
