//! Taking batches: gRPC, authentication, admission.

pub mod auth;
