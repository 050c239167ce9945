//! The built daemons, driven from outside, against real far sides.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod alerts;
mod backup;
mod certs;
mod config;
mod conformance;
mod crash;
mod damage;
mod diskfull;
mod first_value;
mod hostile;
mod ingest;
mod install;
mod lifecycle;
mod notify;
mod outage;
mod packaging;
mod reload;
mod rules;
mod sql;
mod sqlite;
mod tls;
mod truth;
