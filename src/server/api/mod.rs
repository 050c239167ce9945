//! The REST API: routes in a const table, requests, replies, errors.

pub(crate) mod answer;
pub(crate) mod app;
pub(crate) mod auth;
pub(crate) mod cors;
pub(crate) mod dispatch;
pub(crate) mod hosts;
pub(crate) mod metrics;
pub mod openapi;
pub(crate) mod passed;
pub(crate) mod prom_error;
pub(crate) mod published;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod request;
pub mod router;
pub mod routes;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod taken;
