//! The REST API: routes in a const table, requests, replies, errors.

pub mod answer;
pub mod auth;
pub mod cors;
pub mod dispatch;
pub mod metrics;
pub mod openapi;
pub mod prom_error;
pub(crate) mod refusal;
pub mod reply;
pub mod request;
pub mod router;
pub mod routes;
pub mod schema;
pub mod server;
