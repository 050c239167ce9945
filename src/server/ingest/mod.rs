//! Taking batches: gRPC, authentication, admission.

pub mod admit;
pub mod auth;
mod calls;
pub mod decode;
pub mod grpc;
pub mod metrics;
pub mod packed;
mod shapes;
pub mod take;
pub mod tls;

#[cfg(test)]
mod tests;
