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
mod backup;
mod certs;
mod channels;
mod config;
mod conformance;
mod crash;
mod damage;
mod dashboard;
mod diskfull;
mod enroll;
mod examples;
mod first_release;
mod first_value;
mod footprint;
mod hostile;
mod http;
mod ingest;
mod install;
mod kills;
mod lifecycle;
mod lint;
mod manual;
mod mock;
mod notify;
mod outage;
mod packaging;
mod release;
mod reload;
mod rules;
mod run;
mod sql;
mod sqlite;
mod tls;
mod truth;
mod units;
