//! The built daemons, driven from outside, against real far sides.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod alerts;
mod certs;
mod config;
mod conformance;
mod first_value;
mod hostile;
mod ingest;
mod install;
mod lifecycle;
mod lint;
mod manual;
mod notify;
mod outage;
mod packaging;
mod release;
mod reload;
mod rules;
mod sqlite;
mod tls;
mod truth;
mod units;
