//! The built daemons, driven from outside, against real servers and programs.
//!
//! One binary, so that it links once. A module a subject; `support` starts and stops the daemons.
//! Run one: `cargo nextest run --test it reload`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod support;

// HTTP: the endpoints, the protocol, the documents.
mod api;
// Crashes, damage, full disks, outages, power cuts.
mod faults;
// What a release consists of: packages, units, scripts, man pages.
mod ship;

// The agent with odd configurations, signals, exporters beside it, and a twin.
mod agents;
// Alerts from a stored point to the call that resolves them.
mod alerts;
// `backup` and `restore`, beside a running server.
mod backup;
// Bounds on agents, names and labels.
mod bounds;
// Certificate checks of real TLS servers.
mod certs;
// Each channel type against an endpoint that checks what it receives.
mod channels;
// Hostile names in messages: Markdown, mentions, XML, forms.
mod chat_text;
// Configuration files: mistakes are named by file, line and key.
mod config;
// The dashboard in a real Chromium.
mod dashboard;
// `oxmon-agent enroll` and enrolment codes.
mod enroll;
// From an empty folder to the first stored value.
mod first_start;
// The gate before the gRPC port: what a stranger sends costs bounded memory and stops nobody.
mod grpc_gate;
// Facts of hosts, and processes at alerts.
mod hosts;
// gRPC: what is acknowledged, what is rejected, and with which status.
mod ingest;
// Start, stop and exit codes of both daemons.
mod lifecycle;
// What the agent measures, beside what the system's own programs report.
mod measured;
// Clocks that are off, two agents with one id, agents that are removed or have no points left.
mod liveness;
// The mock scenarios: `scripts/mock-*.sh`.
mod mock;
// Aggregation, silence windows, retries, the delivery log.
mod notify;
// Modes of the files that the programs make.
mod modes;
// Addresses that nothing connects to.
mod outgoing;
// `oxmon-server passwd`.
mod passwd;
// Several servers with one home: `[peers]`.
mod peers;
// Proxies of webhooks, robots and gateways, by configuration and environment.
mod proxy;
// PromQL, remote write and remote read, beside a real Prometheus.
mod promql;
// SIGHUP.
mod reload;
// Samples at an engine beyond this machine: VictoriaMetrics, Prometheus, one that misbehaves.
mod remote;
// nginx before the HTTP port, with the configuration of the documentation.
mod reverse_proxy;
// Alert rules of every type, through the API and on live points.
mod rules;
// Secrets in files, credentials of the service manager, enrolment codes.
mod secrets;
// The table of SECURITY.md.
mod security;
// READY, watchdog and health checks, for systemd and containers.
mod service;
// `oxmon-server sql`.
mod sql;
// The `sqlite3` commands of the documentation, beside a running server.
mod sqlite;
// The stock rules, and rules on every metric.
mod stock;
// TLS and client certificates on the gRPC port, HTTPS.
mod tls;
// `oxmon-server import`: a data_dir of the first release.
mod upgrade;
// Chats, push services and incident tools: what each vendor checks.
mod vendors;
// Counters, sizes and times that need more than 32 bits.
mod wide;
