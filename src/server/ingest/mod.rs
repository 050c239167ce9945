//! Receiving batches: gRPC, authentication, admission.

pub(crate) mod admit;
pub(crate) mod auth;
mod calls;
mod decode;
pub(crate) mod grpc;
pub(crate) mod intake;
mod metrics;
mod outcome;
mod packed;
mod senders;
mod series_lists;
pub(crate) mod tls;

#[cfg(test)]
mod tests;
