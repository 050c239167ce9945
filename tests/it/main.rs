//! The built daemons, driven from outside, against real far sides.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod alerts;
mod api_access;
mod api_agents;
mod api_metrics;
mod api_range;
mod api_system;
mod api_users;
mod api_whitelist;
mod certs;
mod channels;
mod config;
mod conformance;
mod enroll;
mod examples;
mod first_value;
mod hostile;
mod http;
mod ingest;
mod install;
mod kills;
mod lifecycle;
mod notify;
mod outage;
mod packaging;
mod reload;
mod rules;
mod seed;
mod sqlite;
mod tls;
mod truth;
