//! Receiving batches: gRPC, authentication, admission.

pub(crate) mod admit;
pub(crate) mod auth;
mod calls;
pub(crate) mod decode;
pub(crate) mod decode_packed;
pub(crate) mod grpc;
pub(crate) mod hosts;
pub(crate) mod intake;
mod metrics;
pub(crate) mod outcome;
pub(crate) mod packed;
pub(crate) mod senders;
mod series_lists;

#[cfg(test)]
mod tests;
