//! The server: receives metrics over gRPC, stores and evaluates them, notifies, serves HTTP.

pub mod alert;
pub(crate) mod alive;
pub mod api;
pub(crate) mod cert;
pub mod cli;
pub mod config;
pub mod control;
pub(crate) mod exposition;
pub(crate) mod gate;
pub(crate) mod handover;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod notify;
pub(crate) mod outgoing;
pub(crate) mod passwd;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod promql;
pub mod receive;
pub(crate) mod remote;
pub(crate) mod run;
pub(crate) mod seed;
pub mod storage;
