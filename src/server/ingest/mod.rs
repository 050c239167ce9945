//! Receiving batches: gRPC, authentication, admission.

pub(crate) mod admit;
pub(crate) mod auth;
mod calls;
mod decode;
mod decode_packed;
pub(crate) mod grpc;
pub(crate) mod intake;
mod metrics;
mod outcome;
mod packed;
mod senders;
mod series_lists;

#[cfg(test)]
mod tests;
